/* Modules and kernels of the driver without a GPU: PTX becomes C, C becomes a library, and a launch
 * is a loop over its threads in it. SOURCES is the folder of ptx2c.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"
#include "launch.h"

typedef struct { uint64_t hash; char stem[600]; void *library; } Module;
typedef struct Function {
  Module *module;
  char name[512];
  Entry entry;
  struct Function *next;
} Function;

static int running(void) { return strcmp(setting("FAKECUDA_MODE", "run"), "dump") != 0; }

static FILE *log_file(void) {
  static FILE *file;
  const char *path = setting("FAKECUDA_LOG", NULL);
  if (!file && path) file = fopen(path, "a");
  return file;
}

static uint64_t hash_of(const char *text, uint64_t hash) {
  for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 1099511628211ull;
  return hash;
}

/* Write PTX once, however many processes do so at a time. */
static int store(const char *path, const char *text) {
  char fresh[700];
  if (!access(path, R_OK)) return 1;
  snprintf(fresh, sizeof fresh, "%s.%d", path, getpid());
  FILE *file = fopen(fresh, "w");
  if (!file) return 0;
  int whole = fputs(text, file) >= 0;
  return !fclose(file) && whole && !rename(fresh, path);
}

/* Make a library of a module, unless one was made by the same translator with the same options. */
static int compile(Module *module) {
  char flags[400], stem[700], library[720], command[8192];
  snprintf(flags, sizeof flags, "%s%s", setting("FAKECUDA_CFLAGS", "-O1"),
           watching() ? " -DRACES" : "");
  unsigned made = hash_of(flags, hash_of(SOURCES, 2166136261u));
  snprintf(stem, sizeof stem, "%s-%08x", module->stem, made);
  snprintf(library, sizeof library, "%s.so", stem);
  if (access(library, R_OK)) {
    int own = getpid();
    snprintf(command, sizeof command,
             "%s '%s/ptx2c.py' '%s.ptx' '%s.%d.c' && gcc %s -w -Werror=implicit-function-declaration "
             "-fno-strict-aliasing -ffp-contract=off -I'%s/driver' -shared -fPIC -o '%s.%d.so' "
             "'%s.%d.c' -lm && rm '%s.%d.c' && mv '%s.%d.so' '%s'",
             setting("FAKECUDA_PYTHON", "python3"), SOURCES, module->stem, stem, own, flags, SOURCES,
             stem, own, stem, own, stem, own, stem, own, library);
    if (system(command)) {
      say("%s.ptx cannot be run", module->stem);
      return 0;
    }
  }
  module->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!module->library) say("%s", dlerror());
  return module->library != NULL;
}

API cuModuleLoadDataEx(void **out, const char *image, uint32_t n, uint32_t *options, void **values) {
  USABLE;
  Module *module = calloc(1, sizeof *module);
  char path[640];
  for (uint32_t i = 0; i < n; i++) say("module option %u=%ld", options[i], (long)values[i]);
  module->hash = hash_of(image, 14695981039346656037ull);
  const char *folder = setting("FAKECUDA_DIR", "/tmp/fakecuda");
  mkdir(folder, 0777);
  snprintf(module->stem, sizeof module->stem, "%s/%016lx", folder, (unsigned long)module->hash);
  snprintf(path, sizeof path, "%s.ptx", module->stem);
  if (!store(path, image)) {
    say("%s cannot be written", path);
    return INVALID_VALUE;
  }
  if (log_file()) {
    fprintf(log_file(), "module %016lx\n", (unsigned long)module->hash);
    fflush(log_file());
  }
  if (running() && !compile(module)) return INVALID_PTX;
  *out = module;
  return 0;
}

API cuModuleGetFunction(void **out, Module *module, const char *name) {
  static Function *known;
  USABLE;
  for (Function *function = known; function; function = function->next)
    if (function->module == module && !strcmp(function->name, name)) {
      *out = function;
      return 0;
    }
  Function *function = calloc(1, sizeof *function);
  char symbol[600];
  function->module = module;
  snprintf(function->name, sizeof function->name, "%s", name);
  if (running()) {
    snprintf(symbol, sizeof symbol, "launch_%s", name);
    function->entry = (Entry)dlsym(module->library, symbol);
    if (!function->entry) {
      free(function);
      return NOT_FOUND;
    }
  }
  function->next = known;
  *out = known = function;
  return 0;
}

/* What ends a launch early: a forbidden address, or an instruction that says so. */
static __thread struct {
  int on;
  sigjmp_buf landing;
  const void *address;
  const char *why;
} launch;
static struct sigaction others[NSIG];

static void on_stop(int error, const char *why) {
  launch.why = why;
  siglongjmp(launch.landing, error);
}
static void on_access(const Thread *thread, uint64_t address, unsigned size, int what) {
  const char *why = race(address, size, what, 1 + thread->tid + thread->ctaid * thread->ntid);
  if (why) on_stop(LAUNCH_FAILED, why);
}
static void on_signal(int signal, siginfo_t *info, IGNORED void *context) {
  if (!launch.on) { /* not of a kernel: whoever handled it before does so when it comes again */
    sigaction(signal, &others[signal], NULL);
    return;
  }
  launch.address = info->si_addr;
  siglongjmp(launch.landing, ILLEGAL_ADDRESS);
}
static void catch(int signal) {
  struct sigaction now;
  sigaction(signal, NULL, &now);
  if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_signal) return;
  others[signal] = now;
  struct sigaction ours = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(signal, &ours, NULL);
}

static Result failed(Function *function, const Thread *thread, int error) {
  char place[200];
  if (error == ILLEGAL_ADDRESS) {
    describe(launch.address, place, sizeof place);
    say("%s touches address %p, %s, in thread %u of block %u", function->name, launch.address, place,
        thread->tid, thread->ctaid);
  } else {
    say("%s stops in thread %u of block %u: %s", function->name, thread->tid, thread->ctaid,
        launch.why);
  }
  break_down(error);
  return error;
}

static Result run(Function *function, void **params, uint32_t grid, uint32_t block) {
  const char *orders[] = {"forward", "reverse", "shuffle"};
  const char *named = setting("FAKECUDA_ORDER", "forward");
  Thread thread = {0, block, 0, grid};
  int order = 0;
  while (order < 3 && strcmp(named, orders[order])) order++;
  if (order == 3) {
    say("FAKECUDA_ORDER=%s; expected forward, reverse or shuffle", named);
    return INVALID_VALUE;
  }
  next_launch();
  catch(SIGSEGV);
  catch(SIGBUS);
  int error = sigsetjmp(launch.landing, 1);
  if (!error) {
    launch.on = 1;
    function->entry(params, order, &thread, on_stop, on_access);
  }
  launch.on = 0;
  return error ? failed(function, &thread, error) : 0;
}

API cuLaunchKernel(Function *function, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx,
                   uint32_t by, uint32_t bz, uint32_t shared, IGNORED void *stream, void **params,
                   IGNORED void **extra) {
  USABLE;
  struct timespec from, to;
  if (gy != 1 || gz != 1 || by != 1 || bz != 1 || shared) return NOT_SUPPORTED;
  if (!gx || !bx || bx > 1024) return INVALID_VALUE;
  clock_gettime(CLOCK_MONOTONIC, &from);
  Result result = running() ? run(function, params, gx, bx) : 0;
  clock_gettime(CLOCK_MONOTONIC, &to);
  if (log_file()) {
    fprintf(log_file(), "launch %016lx %s grid=%u block=%u ms=%.3f\n",
            (unsigned long)function->module->hash, function->name, gx, bx,
            (to.tv_sec - from.tv_sec) * 1e3 + (to.tv_nsec - from.tv_nsec) * 1e-6);
    fflush(log_file());
  }
  return result;
}
API cuFuncGetAttribute(int *out, IGNORED uint32_t which, IGNORED void *function) {
  *out = 0;
  return 0;
}
API cuFuncSetAttribute(IGNORED void *function, IGNORED int which, IGNORED int value) { return 0; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, IGNORED void *function, IGNORED int block,
                                                IGNORED size_t shared) {
  *out = 8;
  return 0;
}
