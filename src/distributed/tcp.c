#include "distributed/channel.h"
static bool tcp_open(Group *group, double deadline) { (void)group; (void)deadline; return error_set("not started by mpirun"); }
const Channel *tcp_channel(void) { static const Channel c = {.open = tcp_open}; return &c; }
