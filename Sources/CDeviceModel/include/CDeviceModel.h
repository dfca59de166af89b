#ifndef CDEVICEMODEL_H
#define CDEVICEMODEL_H

// Inner loops of the simulated warp; not API. A warp has 32 lanes; registers are arrays of 32 words, register after
// register. Addresses are trusted: cdm_first_fault looks at them first.

#include <stddef.h>
#include <stdint.h>

#include "CDeviceModelNPU.h"

enum { CDM_LANES = 32 };

typedef struct cdm_passes {
  uint32_t wavefronts; // passes of the data stage
  uint32_t ideal;      // phases with an active lane
} cdm_passes;

typedef struct cdm_sectors {
  uint32_t sectors; // distinct 32-byte blocks
  uint32_t lines;   // distinct 128-byte blocks
} cdm_sectors;

// Zeroed memory whose pages cost nothing until they are touched, or NULL; and its release.
uint8_t *cdm_allocate(size_t bytes);
void cdm_release(uint8_t *memory);

// Passes over 32 banks of 4 bytes, `phase` consecutive lanes at a time. Addresses are multiples of `width`.
cdm_passes cdm_bank_passes(const uint32_t *addresses, uint32_t mask, unsigned width, unsigned phase);

// Sectors and lines that a warp-wide access to global memory touches. Addresses are multiples of `width`.
cdm_sectors cdm_coalesce(const uint32_t *addresses, uint32_t mask);

// The last access of a call site and its cost. Kernels step through memory with patterns that only shift.
typedef struct cdm_memo {
  uint32_t addresses[CDM_LANES];
  uint32_t mask;
  uint32_t width;        // 0: empty
  uint32_t costs[2];     // wavefronts and ideal, or sectors and lines
} cdm_memo;

// 1 when the access is the memo's with every active address shifted by one multiple of `unit`, which changes neither
// passes (unit 4 or the width) nor sectors and lines (unit 128).
int cdm_memo_hit(const cdm_memo *memo, const uint32_t *addresses, uint32_t mask, unsigned width, unsigned unit);

// The first active lane whose address is no multiple of `width` or whose bytes pass `limit`; -1 when there is none.
int cdm_first_fault(const uint32_t *addresses, uint32_t mask, unsigned width, uint64_t limit);

// `width` bytes a lane: 1 and 2 zero-extended into one register, 4, 8 and 16 into one, two and four. Inactive lanes
// read as 0 and write nothing. Of lanes that write the same bytes the highest wins.
void cdm_gather(uint32_t *registers, const uint8_t *memory, const uint32_t *addresses, uint32_t mask, unsigned width);
void cdm_scatter(const uint32_t *registers, uint8_t *memory, const uint32_t *addresses, uint32_t mask, unsigned width);
// Lane by lane from one memory to another.
void cdm_copy(uint8_t *to, const uint32_t *to_addresses, const uint8_t *from, const uint32_t *from_addresses,
              uint32_t mask, unsigned width);

// ldmatrix and stmatrix of 1, 2 or 4 8×8 matrices of halves: lane 8m + r holds the address of row r of matrix m.
void cdm_ldmatrix(uint32_t *registers, const uint8_t *memory, const uint32_t *addresses, int matrices, int transposed);
void cdm_stmatrix(const uint32_t *registers, uint8_t *memory, const uint32_t *addresses, int matrices, int transposed);

// C += A·B. Products are exact in float32 and are added in k order, each sum rounded once: the declared model of the
// tensor core's sum.
void cdm_mma_m16n8k16(const uint32_t *a, const uint32_t *b, float *c);
// Two products of one A: C of the second stands behind that of the first.
void cdm_mma_m16n8k16_pair(const uint32_t *a, const uint32_t *b_first, const uint32_t *b_second, float *c);
// int8, wrapping int32 sums; flags bit 0: A unsigned, bit 1: B unsigned.
void cdm_mma_m16n8k32(const uint32_t *a, const uint32_t *b, int32_t *c, int unsigned_operands);
// Four independent 8×8×4 products of quad-pairs; flags bit 0: A column-major, bit 1: B row-major.
void cdm_mma_m8n8k4(const uint32_t *a, const uint32_t *b, float *c, int orders);
// The same with binary16 sums, four words of pairs a lane: each sum in float32, rounded once an instruction.
void cdm_mma_m8n8k4_half(const uint32_t *a, const uint32_t *b, uint32_t *c, int orders);

// Pairs of binary16 in `count` words, each operation rounded once.
void cdm_half2_add(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count);
void cdm_half2_subtract(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count);
void cdm_half2_multiply(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count);
// (a − b) · c, rounded after each.
void cdm_half2_subtract_multiply(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, size_t count);
void cdm_half2_fma(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, size_t count);
// Two float32 to a pair of binary16 (low, high), rounded to nearest even; and back.
void cdm_half2_from_floats(const float *low, const float *high, uint32_t *out, size_t count);
void cdm_floats_from_half2(const uint32_t *pairs, float *low, float *high, size_t count);

// Four signed bytes by four signed bytes added to c, wrapping.
void cdm_dp4a(const uint32_t *a, const uint32_t *b, int32_t *c, size_t count);

#endif
