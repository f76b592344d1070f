/* Ctrl-C at the prompt (lua/fp8/repl): an error at the next instruction of Lua's, where it would end the process, or of the
 * call that runs, if that can be stopped. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/select.h>
#include <unistd.h>

#include "lua/binding/binding.h"

/* A signal is the process's, and so is the prompt that takes it. */
static struct {
  pthread_t thread;
  struct sigaction before;
  _Atomic(lua_State *) running; /* what `interruptible` calls, or NULL */
  _Atomic(Context *) context;   /* whose call that is */
  atomic_bool watching;
  atomic_bool pending; /* Ctrl-C was pressed since the call or the waiting began */
  atomic_bool raised;  /* that was an error of the call's */
  atomic_bool insists; /* and was pressed again: the call caught the error, which comes now wherever it goes on */
} prompt;

static void want_end(Context *context, bool wanted) {
  if (context) __atomic_store_n(&context->interrupted, wanted, __ATOMIC_RELAXED);
}

static void stop(lua_State *L, lua_Debug *frame) {
  (void)frame;
  push_interruption(L);
  lua_error(L);
}

void push_interruption(lua_State *L) {
  atomic_store(&prompt.raised, true);
  bool insists = atomic_load(&prompt.insists);
  want_end(atomic_load(&prompt.context), insists);
  lua_sethook(L, insists ? stop : NULL, insists ? LUA_MASKCOUNT : 0, insists);
  lua_pushliteral(L, "interrupted");
}

/* Says, to whoever is impatient, what is being waited for. */
static void explain(void) {
  static const char text[] = "\n(the call that runs is done first; Ctrl-\\ ends the session)\n";
  if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

/* A hook is set as luajit itself does it on Ctrl-C. Any thread may get the signal, such as one of OpenMP's. */
static void handle(int signal) {
  if (!pthread_equal(pthread_self(), prompt.thread)) {
    pthread_kill(prompt.thread, signal);
    return;
  }
  int before = errno;
  bool again = atomic_exchange(&prompt.pending, true);
  lua_State *running = atomic_load(&prompt.running);
  if (running && again) {
    if (atomic_load(&prompt.raised))
      atomic_store(&prompt.insists, true);
    else
      explain();
  }
  if (running) {
    want_end(atomic_load(&prompt.context), true);
    lua_sethook(running, stop, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
  }
  errno = before;
}

/* watch_interrupts(boolean): whether Ctrl-C is the prompt's from now on. Calls that wait, such as io.read, end on it. */
static int lfp8_watch_interrupts(lua_State *L) {
  bool watch = optional_boolean(L, 1, false);
  if (watch == atomic_load(&prompt.watching)) return 0;
  if (watch) {
    struct sigaction action = {.sa_handler = handle};
    sigemptyset(&action.sa_mask);
    prompt.thread = pthread_self();
    sigaction(SIGINT, &action, &prompt.before);
  } else {
    sigaction(SIGINT, &prompt.before, NULL);
  }
  atomic_store(&prompt.watching, watch);
  return 0;
}

static void forget(void) {
  atomic_store(&prompt.pending, false);
  atomic_store(&prompt.raised, false);
  atomic_store(&prompt.insists, false);
}

/* interruptible(f, …) -> true and what f returns, or false and its error, which on Ctrl-C is "interrupted". Where f
 * catches that error, it comes again if Ctrl-C does, and is the end of f. */
static int lfp8_interruptible(lua_State *L) {
  if (!lua_isfunction(L, 1)) argument_error(L, 1, "function expected, got %s", luaL_typename(L, 1));
  forget();
  Context *context = state_now()->context, *outer_context = atomic_exchange(&prompt.context, context);
  lua_State *outer = atomic_exchange(&prompt.running, L);
  bool was_interruptible = context->interruptible;
  context->interruptible = true;
  bool failed = call_protected(L, lua_gettop(L) - 1, LUA_MULTRET) != 0;
  context->interruptible = was_interruptible;
  atomic_store(&prompt.running, outer);
  atomic_store(&prompt.context, outer_context);
  want_end(context, false);
  if (lua_gethook(L) == stop) lua_sethook(L, NULL, 0, 0);
  if (atomic_load(&prompt.insists)) {
    failed = true;
    lua_settop(L, 0);
    lua_pushliteral(L, "interrupted");
  }
  forget();
  lua_pushboolean(L, !failed);
  lua_insert(L, 1);
  return lua_gettop(L);
}

/* wait_for_input() -> whether there is some on the terminal; false on Ctrl-C. The signal is let in only while this
 * waits, so that none comes between the question and the waiting. */
static int lfp8_wait_for_input(lua_State *L) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGINT);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  int ready = 0;
  while (ready == 0 && !atomic_load(&prompt.pending)) {
    fd_set input;
    FD_ZERO(&input);
    FD_SET(STDIN_FILENO, &input);
    ready = pselect(STDIN_FILENO + 1, &input, NULL, NULL, NULL, &before);
    if (ready < 0 && errno == EINTR) ready = 0;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  bool interrupted = atomic_exchange(&prompt.pending, false);
  lua_pushboolean(L, !interrupted);
  return 1;
}

const luaL_Reg interrupt_functions[] = {
    {"watch_interrupts", lfp8_watch_interrupts},
    {"interruptible", lfp8_interruptible},
    {"wait_for_input", lfp8_wait_for_input},
    {NULL, NULL},
};
