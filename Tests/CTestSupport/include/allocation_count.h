#ifndef ALLOCATION_COUNT_H
#define ALLOCATION_COUNT_H
// Counts allocations of the whole process, by standing in front of the C library's allocator.

// 1 where that works (glibc without a sanitizer), else 0: there the count stays 0.
int allocation_count_available(void);
// Starts counting from 0, in all threads.
void allocation_count_begin(void);
// Stops, and returns how many blocks were asked for since.
long allocation_count_end(void);
#endif
