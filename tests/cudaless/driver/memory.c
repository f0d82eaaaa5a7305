/* Device memory of the driver without a GPU: pages of the host that end where the array ends,
 * before one that may not be touched, so that a kernel that reads or writes beyond an array is caught
 * at the byte. What is freed stays forbidden for a while. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "driver.h"

enum { PAGE = 4096, KEPT = 64 };
typedef struct Block {
  struct Block *before, *after;
  size_t size, mapped;
  char *start;
} Block; /* lies in the first page of its mapping; then come a forbidden page, the array, another */

static Block *blocks;
static long live_bytes, live_blocks;
static struct { void *map; size_t size; char *start; size_t bytes; } freed[KEPT];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

/* For a look through ctypes */
__attribute__((visibility("default"))) long fakecuda_live_bytes(void) { return live_bytes; }
__attribute__((visibility("default"))) long fakecuda_live_blocks(void) { return live_blocks; }

static Block *block_of(const void *address) {
  for (Block *block = blocks; block; block = block->after)
    if ((char *)address >= block->start && (char *)address < block->start + block->size)
      return block;
  return NULL;
}

static Result take(void **out, size_t size) {
  size_t limit = number("FAKECUDA_MEMORY", 80L << 30), whole = (size + PAGE - 1) / PAGE * PAGE;
  if (!size) return INVALID_VALUE;
  if (size > limit || live_bytes + size > limit) return OUT_OF_MEMORY;
  pthread_mutex_lock(&guard);
  char *map = mmap(NULL, whole + 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
  int bad = map == MAP_FAILED || mprotect(map, PAGE, PROT_READ | PROT_WRITE) ||
            mprotect(map + 2 * PAGE, whole, PROT_READ | PROT_WRITE);
  if (!bad) {
    Block *block = (Block *)map;
    *block = (Block){NULL, blocks, size, whole + 3 * PAGE, map + 2 * PAGE + whole - size};
    if (blocks) blocks->before = block;
    blocks = block;
    live_bytes += size, live_blocks++;
    if (number("FAKECUDA_POISON", 0)) memset(map + 2 * PAGE, 0xA5, whole);
    if (watching()) watch_array(block->start, size);
    *out = block->start;
  }
  pthread_mutex_unlock(&guard);
  return bad ? OUT_OF_MEMORY : 0;
}

static Result give(void *start) {
  static int turn;
  if (!start) return 0;
  pthread_mutex_lock(&guard);
  Block *block = block_of(start);
  int known = block && block->start == start;
  if (known) {
    live_bytes -= block->size, live_blocks--;
    forget_array(start);
    if (block->before) block->before->after = block->after;
    else blocks = block->after;
    if (block->after) block->after->before = block->before;
    if (freed[turn].map) munmap(freed[turn].map, freed[turn].size);
    freed[turn].map = block, freed[turn].size = block->mapped;
    freed[turn].start = block->start, freed[turn].bytes = block->size;
    mmap(freed[turn].map, freed[turn].size, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    turn = (turn + 1) % KEPT;
  }
  pthread_mutex_unlock(&guard);
  return known ? 0 : INVALID_VALUE;
}

void describe(const void *address, char *out, size_t size) {
  const char *at = address;
  for (Block *block = blocks; block; block = block->after) {
    if (at >= block->start + block->size && at < block->start + block->size + PAGE)
      snprintf(out, size, "%td bytes after the end of an array of %zu bytes",
               at - block->start - (ptrdiff_t)block->size, block->size);
    else if (at < block->start && at >= block->start - PAGE)
      snprintf(out, size, "%td bytes before an array of %zu bytes", block->start - at, block->size);
    else continue;
    return;
  }
  for (int i = 0; i < KEPT; i++)
    if (freed[i].map && at >= freed[i].start && at < freed[i].start + freed[i].bytes) {
      snprintf(out, size, "in an array of %zu bytes that was freed", freed[i].bytes);
      return;
    }
  snprintf(out, size, "near no array");
}

/* Whether a copy stays within an array, or is of a tensor of the host that is said to be ours. */
static int inside(const void *start, size_t n) {
  pthread_mutex_lock(&guard);
  Block *block = block_of(start);
  size_t room = block ? block->start + block->size - (char *)start : 0;
  pthread_mutex_unlock(&guard);
  if (!n || (block ? n <= room : number("FAKECUDA_POINTERS", 0))) return 1;
  say("%zu bytes are copied or set at %p, where an array has %zu", n, start, room);
  return 0;
}
#define INSIDE(start, n) if (!inside(start, n)) return INVALID_VALUE

API cuMemAlloc_v2(void **out, size_t size) { USABLE; return take(out, size); }
API cuMemAllocAsync(void **out, size_t size, IGNORED void *stream) {
  USABLE;
  return take(out, size);
}
API cuMemAllocManaged(void **out, size_t size, IGNORED uint32_t flags) {
  USABLE;
  return take(out, size);
}
API cuMemFree_v2(void *start) { USABLE; return give(start); }
API cuMemFreeAsync(void *start, IGNORED void *stream) { USABLE; return give(start); }

API cuMemcpyHtoD_v2(void *to, void *from, size_t n) {
  USABLE; INSIDE(to, n);
  memcpy(to, from, n);
  return 0;
}
API cuMemcpyDtoH_v2(void *to, void *from, size_t n) {
  USABLE; INSIDE(from, n);
  memcpy(to, from, n);
  return 0;
}
API cuMemcpyDtoD_v2(void *to, void *from, size_t n) {
  USABLE; INSIDE(to, n); INSIDE(from, n);
  memmove(to, from, n);
  return 0;
}
API cuMemcpyHtoDAsync_v2(void *to, void *from, size_t n, IGNORED void *stream) {
  return cuMemcpyHtoD_v2(to, from, n);
}
API cuMemcpyDtoHAsync_v2(void *to, void *from, size_t n, IGNORED void *stream) {
  return cuMemcpyDtoH_v2(to, from, n);
}
API cuMemsetD8_v2(void *to, uint8_t value, size_t n) {
  USABLE; INSIDE(to, n);
  memset(to, value, n);
  return 0;
}
API cuMemsetD32_v2(void *to, uint32_t value, size_t n) {
  USABLE; INSIDE(to, 4 * n);
  for (size_t i = 0; i < n; i++) memcpy((char *)to + 4 * i, &value, 4);
  return 0;
}
API cuMemAdvise(IGNORED void *start, IGNORED size_t n, IGNORED uint32_t advice,
                IGNORED uint32_t device) {
  return 0;
}
API cuMemGetInfo_v2(size_t *unused, size_t *total) {
  USABLE;
  *total = number("FAKECUDA_MEMORY", 80L << 30);
  *unused = *total - live_bytes;
  return 0;
}
API cuPointerGetAttribute(void *out, uint32_t which, IGNORED void *start) {
  if (which != 2 || !number("FAKECUDA_POINTERS", 0)) return INVALID_VALUE;
  *(uint32_t *)out = 2; /* memory of the device */
  return 0;
}
API cuMemPoolSetAttribute(IGNORED void *pool, IGNORED uint32_t which, IGNORED void *value) {
  return 0;
}
