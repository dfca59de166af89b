#include "allocation_count.h"

#include <stdatomic.h>
#include <stddef.h>

static atomic_int counting;
static atomic_long count;

void allocation_count_begin(void) {
  atomic_store(&count, 0);
  atomic_store(&counting, 1);
}

long allocation_count_end(void) {
  atomic_store(&counting, 0);
  return atomic_load(&count);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__linux__) && !defined(SANITIZED)
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The test bundle is an executable, so its symbols come before the C library's for every library in
// the process.
#if defined(__linux__) && defined(__GLIBC__) && !defined(SANITIZED)

int allocation_count_available(void) { return 1; }

static inline void note(void) {
  if (atomic_load_explicit(&counting, memory_order_relaxed))
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
}

// glibc's own names for the functions that we stand in front of.
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t number, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  note();
  return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
  note();
  return __libc_calloc(number, size);
}

void *realloc(void *block, size_t size) {
  note();
  return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
  note();
  return __libc_memalign(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  note();
  if (alignment < sizeof(void *) || (alignment & (alignment - 1)) != 0) return EINVAL;
  void *found = __libc_memalign(alignment, size);
  if (found == NULL) return ENOMEM;
  *block = found;
  return 0;
}

#if defined(SYS_mmap)
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  note();
  return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
#endif

#else
int allocation_count_available(void) { return 0; }
#endif
