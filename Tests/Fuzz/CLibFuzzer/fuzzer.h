#ifndef QK_FUZZER_H
#define QK_FUZZER_H
#include <stddef.h>
#include <stdint.h>

// What libFuzzer offers a program with a main of its own
// (https://llvm.org/docs/LibFuzzer.html#using-libfuzzer-as-a-library).
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test_one_input)(const uint8_t *data, size_t size));

#endif
