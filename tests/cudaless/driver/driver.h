/* What the files of the driver share. */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t Result;
#define API __attribute__((visibility("default"))) Result
#define IGNORED __attribute__((unused)) /* a parameter that changes nothing here */

enum { /* as the real driver numbers them */
  INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_PTX = 218, NOT_FOUND = 500,
  ILLEGAL_ADDRESS = 700, ASSERTION = 710, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801
};

/* The value of an environment variable, as text and as a whole number */
const char *setting(const char *name, const char *otherwise);
long number(const char *name, long otherwise);

/* Say something on stderr. */
void say(const char *format, ...);

/* The error of calls in this thread: it has no context, or a kernel has failed. */
Result unusable(const char *call);
#define USABLE do { Result why = unusable(__func__); if (why) return why; } while (0)

/* After a kernel has failed, all calls do, as with a real driver. */
void break_down(Result why);

/* Describe the place of an address among the arrays. */
void describe(const void *address, char *out, size_t size);

/* Races, see races.c. `race` says what is wrong with an access of a thread, if anything. */
enum { READ, WRITE, UPDATE };
int watching(void);
void next_launch(void);
void watch_array(const void *start, size_t size);
void forget_array(const void *start);
const char *race(uint64_t address, unsigned size, int what, int32_t thread);
