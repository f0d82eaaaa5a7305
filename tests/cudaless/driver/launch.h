/* Between the driver and a translated module: how a kernel is launched. */
#include <stdint.h>

typedef struct { uint32_t tid, ntid, ctaid, nctaid; } Thread;

/* Ends the launch with an error of the driver. */
typedef void (*Stop)(int error, const char *why);

/* Is told of accesses to memory in modules that look for races. */
typedef void (*Watch)(const Thread *thread, uint64_t address, unsigned size, int what);

/* launch_NAME: runs all threads in an order (0 forward, 1 in reverse, 2 shuffled). `thread` brings
 * the numbers of blocks and of threads in each, and says at any time which thread runs. */
typedef void (*Entry)(void **params, int order, Thread *thread, Stop stop, Watch watch);
