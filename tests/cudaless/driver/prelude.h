/* What each translated module includes: PTX's types, memory, and arithmetic where C differs. */
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

static Stop stop;
static Watch watch;
enum { NOT_SUPPORTED = 801, ASSERTION = 710, LAUNCH_FAILED = 719 };
enum { READ, WRITE, UPDATE };
#ifdef RACES
#define WATCH(address, size, what) watch(thread, address, size, what)
#else
#define WATCH(address, size, what)
#endif
#define INLINE static inline __attribute__((always_inline, unused))

/* The same bits as another type */
INLINE float as_f32(uint32_t x) { float y; memcpy(&y, &x, 4); return y; }
INLINE double as_f64(uint64_t x) { double y; memcpy(&y, &x, 8); return y; }
INLINE uint32_t of_f32(float x) { uint32_t y; memcpy(&y, &x, 4); return y; }
INLINE uint64_t of_f64(double x) { uint64_t y; memcpy(&y, &x, 8); return y; }

/* .ftz: what is too small for a normal number becomes zero */
INLINE float ftz(float x) { return (of_f32(x) & 0x7f800000u) ? x : copysignf(0.0f, x); }

/* Memory of any alignment, in any state space: all are the host's */
#define ACCESS(type, name) \
  INLINE type ld_##name(uint64_t at) { \
    type value; \
    memcpy(&value, (void *)(uintptr_t)at, sizeof value); \
    return value; \
  } \
  INLINE void st_##name(uint64_t at, type value) { \
    memcpy((void *)(uintptr_t)at, &value, sizeof value); \
  }
ACCESS(uint8_t, u8) ACCESS(int8_t, s8) ACCESS(uint16_t, u16) ACCESS(int16_t, s16)
ACCESS(uint32_t, u32) ACCESS(int32_t, s32) ACCESS(uint64_t, u64) ACCESS(int64_t, s64)
ACCESS(float, f32) ACCESS(double, f64)

/* Integers: division by zero and long shifts are undefined in C, not in PTX */
#define INTEGER(bits, sint, uint) \
  INLINE sint div_s##bits(sint a, sint b) { \
    return !b ? -1 : b == -1 ? (sint)(0 - (uint)a) : a / b; \
  } \
  INLINE sint rem_s##bits(sint a, sint b) { return !b ? a : b == -1 ? 0 : a % b; } \
  INLINE uint div_u##bits(uint a, uint b) { return b ? a / b : (uint)-1; } \
  INLINE uint rem_u##bits(uint a, uint b) { return b ? a % b : a; } \
  INLINE uint shl_##bits(uint a, uint32_t b) { return b >= bits ? 0 : (uint)(a << b); } \
  INLINE uint shr_u##bits(uint a, uint32_t b) { return b >= bits ? 0 : (uint)(a >> b); } \
  INLINE sint shr_s##bits(sint a, uint32_t b) { return (sint)(a >> (b >= bits ? bits - 1 : b)); } \
  INLINE uint bfe_u##bits(uint a, uint32_t at, uint32_t n) { \
    at &= 255, n &= 255; \
    uint rest = shr_u##bits(a, at); \
    return n >= bits ? rest : (uint)(rest & (((uint)1 << n) - 1)); \
  } \
  INLINE sint bfe_s##bits(sint a, uint32_t at, uint32_t n) { \
    at &= 255, n &= 255; \
    uint32_t over = n >= bits ? 0 : bits - n; \
    return n ? shr_s##bits((sint)shl_##bits((uint)shr_s##bits(a, at), over), over) : 0; \
  }
INTEGER(16, int16_t, uint16_t) INTEGER(32, int32_t, uint32_t) INTEGER(64, int64_t, uint64_t)

/* The smaller and the larger: a number rather than a NaN, and -0 is less than 0 */
#define EXTREME(name, type) \
  INLINE type min_##name(type a, type b) { \
    return a != a ? b : b != b ? a : a < b || (a == b && signbit(a)) ? a : b; \
  } \
  INLINE type max_##name(type a, type b) { \
    return a != a ? b : b != b ? a : a > b || (a == b && !signbit(a)) ? a : b; \
  }
EXTREME(f32, float) EXTREME(f64, double)

/* Conversion to integers keeps to their range */
#define TO_INTEGER(name, type, low, high, end, nan) \
  INLINE type to_##name(double x) { \
    return x != x ? nan : x <= low ? (type)low : x >= high ? end : (type)x; \
  }
TO_INTEGER(s32, int32_t, -2147483648.0, 2147483647.0, INT32_MAX, 0)
TO_INTEGER(u32, uint32_t, 0.0, 4294967295.0, UINT32_MAX, 0)
TO_INTEGER(s64, int64_t, -9223372036854775808.0, 9223372036854775808.0, INT64_MAX, INT64_MIN)
TO_INTEGER(u64, uint64_t, 0.0, 18446744073709551616.0, UINT64_MAX, (uint64_t)1 << 63)

/* What PTX calls approximate. FAKECUDA_WRONG=1 makes it one or two units in the last place off. */
static int wrong;
INLINE float approximate(float x) {
  if (!wrong || !isfinite(x) || x == 0) return x;
  uint32_t bits = of_f32(x);
  return as_f32(bits + (int)((bits * 2654435761u) >> 30) - 1);
}

/* The threads of a launch, one after the other: 0 forward, 1 in reverse, 2 shuffled */
static uint64_t shuffled(uint64_t i, uint64_t n, uint64_t stride) {
  return (uint64_t)(((unsigned __int128)i * stride + n / 3) % n);
}
static uint64_t stride_of(uint64_t n) { /* near the golden section, and without a common divisor */
  for (uint64_t stride = n > 3 ? (uint64_t)(0.6180339887 * n) | 1 : 1;; stride += 2) {
    uint64_t a = n, b = stride;
    while (b) { uint64_t rest = a % b; a = b; b = rest; }
    if (a == 1) return stride;
  }
}
static __thread jmp_buf next_thread; /* where a thread goes that exits within a function */
static __attribute__((noinline)) void one_thread(void (*run)(Thread *, void **), Thread *thread,
                                                 void **params) {
  if (!_setjmp(next_thread)) run(thread, params);
}
static void each_thread(void (*run)(Thread *, void **), void **params, int order, Thread *thread,
                        Stop on_stop, Watch on_access) {
  const char *off = getenv("FAKECUDA_WRONG");
  uint64_t n = (uint64_t)thread->nctaid * thread->ntid, stride = stride_of(n);
  wrong = off && *off == '1', stop = on_stop, watch = on_access;
  for (uint64_t i = 0; i < n; i++) {
    uint64_t at = order == 0 ? i : order == 1 ? n - 1 - i : shuffled(i, n, stride);
    thread->tid = at % thread->ntid, thread->ctaid = at / thread->ntid;
    one_thread(run, thread, params);
  }
}
