// What the drivers share: repeatable random numbers, and buffers that end at a page nobody may
// touch.
#ifndef QK_DRIVER_SUPPORT_H
#define QK_DRIVER_SUPPORT_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

// The address sanitizer also finds what lies before a buffer; behind it is a page that nobody may
// touch.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#if !defined(ASAN_POISON_MEMORY_REGION)
#define ASAN_POISON_MEMORY_REGION(start, count) ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(start, count) ((void)0)
#endif

// MARK: Random values (splitmix64)

static uint64_t state = 20240917;
static uint64_t next(void) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
static float unit(void) { return (float)(next() >> 40) * 0x1p-23f - 1; }

// MARK: Buffers that end at a page nobody may touch

typedef struct guarded {
  uint8_t *bytes;
  uint8_t *mapping;
  size_t mapped;
} guarded;

static guarded reserve(size_t count) {
  const size_t page = 65536; // a multiple of every page size in use
  guarded g;
  g.mapped = (count + page - 1) / page * page + page;
  g.mapping = mmap(NULL, g.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.mapping == MAP_FAILED || mprotect(g.mapping + g.mapped - page, page, PROT_NONE) != 0) {
    puts("cannot map memory");
    exit(1);
  }
  g.bytes = g.mapping + g.mapped - page - count;
  ASAN_POISON_MEMORY_REGION(g.mapping, (size_t)(g.bytes - g.mapping));
  return g;
}
static void release(guarded g) {
  ASAN_UNPOISON_MEMORY_REGION(g.mapping, g.mapped - 65536);
  munmap(g.mapping, g.mapped);
}

#endif
