#include "distributed/channel.h"
bool nccl_all_reduce(Tensor *x, Reduction reduction) { (void)x; (void)reduction; return error_set("no NCCL"); }
bool nccl_broadcast(Tensor *x, int source) { (void)x; (void)source; return error_set("no NCCL"); }
bool nccl_all_gather(Tensor *out, const Tensor *x) { (void)x; (void)out; return error_set("no NCCL"); }
bool nccl_reduce_scatter(Tensor *out, const Tensor *x, Reduction reduction) { (void)x; (void)out; (void)reduction; return error_set("no NCCL"); }
bool nccl_send(const Tensor *x, int rank) { (void)x; (void)rank; return error_set("no NCCL"); }
bool nccl_receive(Tensor *x, int rank) { (void)x; (void)rank; return error_set("no NCCL"); }
void nccl_close(bool failed) { (void)failed; }
