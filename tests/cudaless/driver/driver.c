/* A CUDA driver without a GPU, for Taichi 1.7.4: errors, devices, contexts, streams and events.
 *
 * Device memory is host memory (memory.c), and kernels are what ptx2c.py makes of their PTX, run
 * thread after thread (modules.c). Environment, all optional:
 *   FAKECUDA_DIR      folder for PTX, C and compiled modules (default /tmp/fakecuda)
 *   FAKECUDA_MODE     "run" (default), or "dump": modules are written, launches do nothing
 *   FAKECUDA_PYTHON   interpreter for the translator (default python3)
 *   FAKECUDA_CFLAGS   for the translated modules (default -O1)
 *   FAKECUDA_SMS, FAKECUDA_BLOCKS   multiprocessors (132) and blocks on each (32)
 *   FAKECUDA_CC       compute capability times ten (90)
 *   FAKECUDA_MEMORY   bytes of the device (80 GiB)
 *   FAKECUDA_POOLS    0: the driver has no memory pools
 *   FAKECUDA_ORDER    of threads: "forward" (default), "reverse" or "shuffle"
 *   FAKECUDA_RACES    1: a launch fails in which two threads race for a word (races.c)
 *   FAKECUDA_POISON   1: fresh memory is filled with 0xA5, not with zeros
 *   FAKECUDA_WRONG    1: what PTX calls approximate is one or two units in the last place off
 *   FAKECUDA_POINTERS 1: every pointer is said to be of the device, as for torch's CUDA tensors
 *   FAKECUDA_CONTEXTS 0: calls work in threads without a current context; else error 201, as real
 *   FAKECUDA_LOG      file that gets one line for each module and each launch
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

const char *setting(const char *name, const char *otherwise) {
  const char *value = getenv(name);
  return value && *value ? value : otherwise;
}
long number(const char *name, long otherwise) {
  const char *value = getenv(name);
  return value && *value ? atol(value) : otherwise;
}
void say(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  fputs("fakecuda: ", stderr);
  vfprintf(stderr, format, rest);
  fputc('\n', stderr);
  va_end(rest);
}

/* Errors and versions */
API cuGetErrorName(Result error, const char **out) {
  static __thread char unnamed[32];
  switch (error) {
    case 0: *out = "CUDA_SUCCESS"; break;
    case INVALID_VALUE: *out = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *out = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case INVALID_CONTEXT: *out = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case INVALID_PTX: *out = "CUDA_ERROR_INVALID_PTX"; break;
    case NOT_FOUND: *out = "CUDA_ERROR_NOT_FOUND"; break;
    case ILLEGAL_ADDRESS: *out = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case ASSERTION: *out = "CUDA_ERROR_ASSERT"; break;
    case LAUNCH_FAILED: *out = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case NOT_SUPPORTED: *out = "CUDA_ERROR_NOT_SUPPORTED"; break;
    default: snprintf(unnamed, sizeof unnamed, "CUDA error %u", error); *out = unnamed;
  }
  return 0;
}
API cuGetErrorString(Result error, const char **out) { return cuGetErrorName(error, out); }
API cuDriverGetVersion(int *out) { *out = 12040; return 0; }
API cuInit(IGNORED int flags) { return 0; }

/* Devices */
API cuDeviceGetCount(int *out) { *out = 1; return 0; }
API cuDeviceGet(int *out, IGNORED int ordinal) { *out = 0; return 0; }
API cuDeviceGetName(char *out, int size, IGNORED void *device) {
  snprintf(out, size, "no GPU at all");
  return 0;
}
API cuDeviceGetDefaultMemPool(void **out, IGNORED void *device) { *out = (void *)1; return 0; }
API cuDeviceGetAttribute(int *out, uint32_t which, IGNORED void *device) {
  switch (which) {
    case 2: *out = 1024; break;    /* threads of a block along x */
    case 16: *out = number("FAKECUDA_SMS", 132); break;
    case 41: *out = 1; break;      /* unified addressing */
    case 75: *out = number("FAKECUDA_CC", 90) / 10; break;
    case 76: *out = number("FAKECUDA_CC", 90) % 10; break;
    case 97: *out = 232448; break; /* shared bytes of a block */
    case 106: *out = number("FAKECUDA_BLOCKS", 32); break;
    case 115: *out = number("FAKECUDA_POOLS", 1); break;
    default: say("attribute %u is unknown", which); return INVALID_VALUE;
  }
  return 0;
}

/* Contexts. A thread starts without one, and most calls then fail. */
static __thread void *current_context;
static Result broken;

Result unusable(const char *call) {
  if (broken) return broken;
  if (current_context || !number("FAKECUDA_CONTEXTS", 1)) return 0;
  say("%s in a thread without a current context", call);
  return INVALID_CONTEXT;
}
void break_down(Result why) { broken = why; }

API cuCtxCreate_v2(void **out, IGNORED int flags, IGNORED void *device) {
  *out = current_context = (void *)1;
  return 0;
}
API cuCtxSetCurrent(void *context) { current_context = context; return 0; }
API cuCtxGetCurrent(void **out) { *out = current_context; return 0; }
API cuDevicePrimaryCtxRetain(void **out, IGNORED int device) { *out = (void *)1; return 0; }
API cuCtxSetLimit(IGNORED int which, IGNORED size_t value) { USABLE; return 0; }

/* Streams and events: all that is launched has ended when the launch returns. */
typedef struct { struct timespec at; } Event;

API cuStreamCreate(void **out, IGNORED uint32_t flags) { USABLE; *out = (void *)1; return 0; }
API cuStreamSynchronize(IGNORED void *stream) { USABLE; return 0; }
API cuEventCreate(void **out, IGNORED uint32_t flags) {
  USABLE;
  *out = calloc(1, sizeof(Event));
  return 0;
}
API cuEventDestroy(void *event) { free(event); return 0; }
API cuEventRecord(void *event, IGNORED void *stream) {
  clock_gettime(CLOCK_MONOTONIC, &((Event *)event)->at);
  return 0;
}
API cuEventSynchronize(IGNORED void *event) { return 0; }
API cuEventElapsedTime(float *out, void *from, void *to) {
  struct timespec *a = &((Event *)from)->at, *b = &((Event *)to)->at;
  *out = (b->tv_sec - a->tv_sec) * 1e3f + (b->tv_nsec - a->tv_nsec) * 1e-6f;
  return 0;
}

/* Looked up by Taichi, never called without Vulkan */
#define ABSENT(name) API name(void) { return NOT_SUPPORTED; }
ABSENT(cuImportExternalMemory) ABSENT(cuExternalMemoryGetMappedBuffer)
ABSENT(cuExternalMemoryGetMappedMipmappedArray) ABSENT(cuMipmappedArrayGetLevel)
ABSENT(cuSurfObjectCreate) ABSENT(cuSignalExternalSemaphoresAsync)
ABSENT(cuWaitExternalSemaphoresAsync) ABSENT(cuImportExternalSemaphore)
