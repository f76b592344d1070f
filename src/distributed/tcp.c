/* TCP: how processes that something else than mpirun has started exchange messages, where GPUs do all the rest. Every
 * process is connected to every other one. They learn who they are from the variables of torchrun (RANK, WORLD_SIZE,
 * LOCAL_RANK) or Slurm, and find rank 0 at the port after MASTER_PORT of MASTER_ADDR, which torchrun itself listens at,
 * or by a file that all of them see, whose path is in FP8_RENDEZVOUS. */
#define _GNU_SOURCE /* POLLRDHUP */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/memory.h"
#include "distributed/channel.h"

enum { HOST_MAX = 256, GREETING = 0x46503844 };

/* What a process says of itself when it connects. */
typedef struct Hello {
  uint32_t greeting;
  int32_t rank, size;
  uint32_t address; /* of its own listening socket, as the one that it connects to sees it; network order */
  uint16_t port;
  uint16_t unused;
} Hello;

static int *peers; /* a socket a rank, -1 for this one */
static int own_rank, ranks;

/* --- variables --- */

/* The first of the variables that is a number from 0; -1 where there is none. */
static int number_of(const char *first, const char *second) {
  const char *const names[] = {first, second};
  for (int i = 0; i < 2; i++) {
    const char *text = getenv(names[i]);
    char *end;
    long number = text ? strtol(text, &end, 10) : -1;
    if (text && end != text && *end == '\0' && number >= 0 && number < 65536) return (int)number;
  }
  return -1;
}

/* --- sockets --- */

static void set_up(int socket) {
  int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
  fcntl(socket, F_SETFD, FD_CLOEXEC);
}

static Outcome move(int socket, char *data, size_t bytes, double deadline, bool sending) {
  Wait wait = wait_begin(deadline);
  while (bytes > 0) {
    ssize_t moved = sending ? send(socket, data, bytes, MSG_NOSIGNAL) : recv(socket, data, bytes, 0);
    if (moved > 0) {
      data += moved;
      bytes -= (size_t)moved;
      continue;
    }
    if (moved == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) return OUTCOME_GONE;
    Outcome outcome = wait_on(&wait);
    if (outcome != OUTCOME_DONE) return outcome;
  }
  return OUTCOME_DONE;
}

static Outcome tcp_send(int rank, const void *data, size_t bytes, double deadline) {
  return move(peers[rank], (char *)data, bytes, deadline, true);
}

static Outcome tcp_receive(int rank, void *data, size_t bytes, double deadline) {
  return move(peers[rank], data, bytes, deadline, false);
}

/* A listening socket, at a port or, for 0, at any, which is written back; -1 with an error. */
static int listen_at(uint16_t *port) {
  int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = INADDR_ANY};
  socklen_t length = sizeof address;
  if (listener >= 0) setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    error_set("rank %d can't listen at port %d: %s", own_rank, *port, strerror(errno));
    if (listener >= 0) close(listener);
    return -1;
  }
  set_up(listener);
  *port = ntohs(address.sin_port);
  return listener;
}

/* A connection, tried until the deadline; -1 with an error. */
static int connect_to(struct sockaddr_in address, int rank, double deadline) {
  Wait wait = wait_begin(deadline);
  for (;;) {
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    if (connection >= 0 && connect(connection, (struct sockaddr *)&address, sizeof address) == 0) {
      set_up(connection);
      return connection;
    }
    int reason = errno;
    if (connection >= 0) close(connection);
    if (wait_on(&wait) == OUTCOME_DONE) continue;
    error_set("rank %d can't connect to rank %d at %s:%d: %s", own_rank, rank, inet_ntoa(address.sin_addr),
              ntohs(address.sin_port), strerror(reason));
    return -1;
  }
}

/* Waits for a process that says who it is; what does not is sent away. -1 with an error. */
static int accept_from(int listener, Hello *hello, double deadline) {
  Wait wait = wait_begin(deadline);
  for (;;) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int connection = accept(listener, (struct sockaddr *)&address, &length);
    if (connection >= 0) {
      set_up(connection);
      if (move(connection, (char *)hello, sizeof *hello, deadline, false) == OUTCOME_DONE &&
          hello->greeting == GREETING && hello->size == ranks && hello->rank > 0 && hello->rank < ranks &&
          peers[hello->rank] < 0) {
        hello->address = address.sin_addr.s_addr;
        return connection;
      }
      close(connection);
    }
    if (wait_on(&wait) == OUTCOME_DONE) continue;
    int missing = 0;
    for (int rank = 1; rank < ranks; rank++) missing += peers[rank] < 0 && rank != own_rank;
    error_set("%d of %d ranks have not come", missing, ranks);
    return -1;
  }
}

/* --- where rank 0 is --- */

static bool write_rendezvous(const char *path, uint16_t port) {
  char host[HOST_MAX] = "", temporary[4096];
  gethostname(host, sizeof host - 1);
  snprintf(temporary, sizeof temporary, "%s.new", path);
  FILE *file = fopen(temporary, "w");
  bool written = file && fprintf(file, "%s %d\n", host, port) > 0;
  if (file && fclose(file) != 0) written = false;
  return (written && rename(temporary, path) == 0) || error_set("%s can't be written: %s", path, strerror(errno));
}

static bool read_rendezvous(const char *path, char host[HOST_MAX], int *port, double deadline) {
  Wait wait = wait_begin(deadline);
  for (;;) {
    FILE *file = fopen(path, "r");
    bool read = file && fscanf(file, "%255s %d", host, port) == 2;
    if (file) fclose(file);
    if (read) return true;
    if (wait_on(&wait) != OUTCOME_DONE) return error_set("rank 0 has not written %s", path);
  }
}

static bool find_rank_0(struct sockaddr_in *address, double deadline) {
  char host[HOST_MAX] = "127.0.0.1";
  int port = number_of("MASTER_PORT", "MASTER_PORT") + 1;
  const char *path = getenv("FP8_RENDEZVOUS"), *master = getenv("MASTER_ADDR");
  if (master) snprintf(host, sizeof host, "%s", master);
  if (path && !read_rendezvous(path, host, &port, deadline)) return false;
  if (port <= 0) return error_set("neither MASTER_PORT nor FP8_RENDEZVOUS says where rank 0 is");
  struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
  int code = getaddrinfo(host, NULL, &wanted, &found);
  if (code != 0) return error_set("the address of %s can't be found: %s", host, gai_strerror(code));
  memcpy(address, found->ai_addr, sizeof *address);
  freeaddrinfo(found);
  address->sin_port = htons((uint16_t)port);
  return true;
}

/* --- joining: all connect to rank 0, which tells them where the others are; then each connects to those before it --- */

static bool gather_all(Hello *all, double deadline) {
  const char *path = getenv("FP8_RENDEZVOUS");
  uint16_t port = path ? 0 : (uint16_t)(number_of("MASTER_PORT", "MASTER_PORT") + 1);
  if (!path && port == 0) return error_set("neither MASTER_PORT nor FP8_RENDEZVOUS says where rank 0 is");
  int listener = listen_at(&port);
  bool done = listener >= 0 && (!path || write_rendezvous(path, port));
  for (int i = 1; i < ranks && done; i++) {
    Hello hello;
    int connection = accept_from(listener, &hello, deadline);
    done = connection >= 0;
    if (!done) break;
    peers[hello.rank] = connection;
    all[hello.rank] = hello;
  }
  if (path) unlink(path);
  if (listener >= 0) close(listener);
  for (int rank = 1; rank < ranks && done; rank++) {
    done = tcp_send(rank, all, (size_t)ranks * sizeof *all, deadline) == OUTCOME_DONE ||
           error_set("rank %d has ended", rank);
  }
  return done;
}

static bool join_all(Hello *all, double deadline) {
  struct sockaddr_in address;
  Hello hello = {GREETING, own_rank, ranks, 0, 0, 0};
  int listener = listen_at(&hello.port);
  if (listener < 0) return false;
  bool done = find_rank_0(&address, deadline);
  peers[0] = done ? connect_to(address, 0, deadline) : -1;
  done = peers[0] >= 0;
  if (done) {
    done = (tcp_send(0, &hello, sizeof hello, deadline) == OUTCOME_DONE &&
            tcp_receive(0, all, (size_t)ranks * sizeof *all, deadline) == OUTCOME_DONE) ||
           error_set("rank 0 did not get all ranks together");
  }
  for (int rank = 1; rank < own_rank && done; rank++) {
    struct sockaddr_in other = {
        .sin_family = AF_INET, .sin_port = htons(all[rank].port), .sin_addr.s_addr = all[rank].address};
    peers[rank] = connect_to(other, rank, deadline);
    done = peers[rank] >= 0 &&
           (tcp_send(rank, &hello, sizeof hello, deadline) == OUTCOME_DONE || error_set("rank %d has ended", rank));
  }
  for (int rank = own_rank + 1; rank < ranks && done; rank++) {
    Hello other;
    int connection = accept_from(listener, &other, deadline);
    done = connection >= 0;
    if (done) peers[other.rank] = connection;
  }
  close(listener);
  return done;
}

/* --- where another process has died, this one may be waiting for a GPU that waits for it, and would for ever --- */

/* Seconds in which a process may notice by itself, and say what it was doing. */
static const double patience = 5;

static void *watch(void *unused) {
  (void)unused;
  struct pollfd *watched = malloc((size_t)ranks * sizeof *watched);
  if (!watched) return NULL;
  for (int rank = 0; rank < ranks; rank++) watched[rank] = (struct pollfd){peers[rank], POLLRDHUP, 0};
  while (poll(watched, (nfds_t)ranks, -1) < 0 && errno == EINTR) continue;
  int gone = 0;
  while (gone < ranks - 1 && watched[gone].revents == 0) gone++;
  struct timespec pause = {(time_t)patience, 0};
  nanosleep(&pause, NULL);
  fprintf(stderr, "fp8: rank %d of %d: rank %d has ended, and nothing else goes on here: this rank ends too\n",
          own_rank, ranks, gone);
  fflush(stderr);
  _exit(1);
}

static void begin_watch(void) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, watch, NULL) == 0) pthread_detach(thread);
}

static bool tcp_open(Group *group, double deadline) {
  own_rank = number_of("RANK", "SLURM_PROCID");
  ranks = number_of("WORLD_SIZE", "SLURM_NTASKS");
  int local = number_of("LOCAL_RANK", "SLURM_LOCALID");
  if (own_rank < 0 || ranks < 1 || own_rank >= ranks) {
    return error_set("the variables RANK and WORLD_SIZE, or those of Slurm, don't say which rank this is; a run of "
                     "mpirun needs fp8 to be built with MPI");
  }
  peers = host_allocate((size_t)ranks * sizeof *peers);
  Hello *all = host_allocate_zeroed((size_t)ranks, sizeof *all);
  if (!peers || !all) return false;
  for (int rank = 0; rank < ranks; rank++) peers[rank] = -1;
  bool done = own_rank == 0 ? gather_all(all, deadline) : join_all(all, deadline);
  wait_end();
  free(all);
  if (done) begin_watch();
  *group = (Group){.rank = own_rank, .size = ranks, .local_rank = local < 0 ? 0 : local, .medium = "TCP"};
  return done;
}

/* Who waits for this process learns of its end by the end of the connection. */
static void tcp_close(bool failed) {
  (void)failed;
  for (int rank = 0; rank < ranks; rank++) {
    if (peers[rank] >= 0) close(peers[rank]);
  }
}

const Channel *tcp_channel(void) {
  static const Channel channel = {.open = tcp_open, .send = tcp_send, .receive = tcp_receive, .close = tcp_close};
  return &channel;
}
