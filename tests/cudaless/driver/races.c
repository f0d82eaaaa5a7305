/* Races of a launch: two threads touch a word, at least one writes, and not both by atomics. Kernels
 * here have no barriers, so that any such pair is one, in whatever order the threads happen to run.
 * Watched are arrays of the driver, in words of four bytes, when FAKECUDA_RACES=1. */
#include <stdio.h>
#include <stdlib.h>

#include "driver.h"

enum { PAGE_BITS = 12, TABLE = 1 << 16, MANY = -1 };
typedef struct { int32_t launch, reader, writer, adder; } Word; /* threads from 1; 0 for none */
typedef struct Shadow {
  struct Shadow *next;
  uint64_t start;
  size_t words;
  Word of[];
} Shadow;

static Shadow *shadows, *of_page[TABLE];
static int32_t current;

int watching(void) { return number("FAKECUDA_RACES", 0) != 0; }
void next_launch(void) { current++; }

void watch_array(const void *start, size_t size) {
  Shadow *shadow = calloc(1, sizeof *shadow + (size / 4 + 1) * sizeof(Word));
  if (!shadow) return;
  *shadow = (Shadow){shadows, (uint64_t)(uintptr_t)start, size / 4};
  shadows = shadow;
}
void forget_array(const void *start) {
  for (Shadow **at = &shadows; *at; at = &(*at)->next)
    if ((*at)->start == (uint64_t)(uintptr_t)start) {
      Shadow *gone = *at;
      *at = gone->next;
      free(gone);
      for (int i = 0; i < TABLE; i++) of_page[i] = NULL;
      return;
    }
}

static Word *word_at(uint64_t address) {
  Shadow **kept = &of_page[(address >> PAGE_BITS) % TABLE], *shadow = *kept;
  if (!shadow || address - shadow->start >= 4 * shadow->words) {
    for (shadow = shadows; shadow; shadow = shadow->next)
      if (address - shadow->start < 4 * shadow->words) break;
    if (!shadow) return NULL;
    *kept = shadow;
  }
  return &shadow->of[(address - shadow->start) / 4];
}

static int other(int32_t seen, int32_t thread) { return seen && seen != thread; }

static void remember(int32_t *seen, int32_t thread) { *seen = other(*seen, thread) ? MANY : thread; }

const char *race(uint64_t address, unsigned size, int what, int32_t thread) {
  static char message[200];
  static const char *names[] = {"reads", "writes", "updates by an atomic"};
  for (uint64_t at = address; at < address + size; at += 4) {
    Word *word = word_at(at);
    if (!word) return NULL;
    if (word->launch != current) *word = (Word){current, 0, 0, 0};
    const char *how = other(word->writer, thread)                       ? "wrote"
                      : what != UPDATE && other(word->adder, thread)    ? "updated by an atomic"
                      : what != READ && other(word->reader, thread)     ? "read"
                                                                        : NULL;
    if (how) {
      snprintf(message, sizeof message, "a race: it %s a word that another thread %s", names[what],
               how);
      return message;
    }
    remember(what == READ ? &word->reader : what == WRITE ? &word->writer : &word->adder, thread);
  }
  return NULL;
}
