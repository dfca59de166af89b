// Bank passes, coalescing, and the moves of values.
#include <stdlib.h>
#include <string.h>

#include "CDeviceModel.h"

uint8_t *cdm_allocate(size_t bytes) { return calloc(bytes > 0 ? bytes : 1, 1); }

void cdm_release(uint8_t *memory) { free(memory); }

cdm_passes cdm_bank_passes(const uint32_t *addresses, uint32_t mask, unsigned width, unsigned phase) {
  // A lane of 8 or 16 bytes covers 2 or 4 adjacent banks, aligned, so banks fall into groups of that many, and words
  // into units: the distinct words of a bank are the distinct units of its group.
  const unsigned shift = width <= 4 ? 2 : width == 8 ? 3 : 4;
  const unsigned groups = 128u >> shift;
  cdm_passes result = {0, 0};
  for (unsigned first = 0; first < CDM_LANES; first += phase) {
    const uint32_t lanes = phase == 32 ? 0xffffffffu : ((1u << phase) - 1) << first;
    uint32_t active = mask & lanes;
    if (active == 0) continue;
    uint32_t units[32][32];
    uint8_t count[32];
    memset(count, 0, groups);
    unsigned most = 1;
    while (active) {
      const unsigned lane = (unsigned)__builtin_ctz(active);
      active &= active - 1;
      const uint32_t unit = addresses[lane] >> shift;
      const unsigned group = unit & (groups - 1);
      unsigned at = 0;
      while (at < count[group] && units[group][at] != unit) at++;
      if (at == count[group]) {
        units[group][at] = unit;
        count[group] = (uint8_t)(at + 1);
        if (at + 1 > most) most = at + 1;
      }
    }
    result.wavefronts += most;
    result.ideal += 1;
  }
  return result;
}

// Distinct values of addresses >> shift.
static uint32_t distinct(const uint32_t *addresses, uint32_t mask, unsigned shift) {
  // Open addressing in 64 slots, at most half of them full.
  uint32_t keys[64];
  uint64_t used = 0;
  uint32_t count = 0;
  uint32_t last = 0;
  int have = 0;
  while (mask) {
    const unsigned lane = (unsigned)__builtin_ctz(mask);
    mask &= mask - 1;
    const uint32_t key = addresses[lane] >> shift;
    if (have && key == last) continue;
    have = 1;
    last = key;
    unsigned slot = (key * 2654435769u) >> 26; // Fibonacci hashing: 2³²/φ
    while ((used >> slot & 1) && keys[slot] != key) slot = (slot + 1) & 63;
    if (!(used >> slot & 1)) {
      used |= (uint64_t)1 << slot;
      keys[slot] = key;
      count++;
    }
  }
  return count;
}

cdm_sectors cdm_coalesce(const uint32_t *addresses, uint32_t mask) {
  const cdm_sectors result = {distinct(addresses, mask, 5), distinct(addresses, mask, 7)};
  return result;
}

int cdm_memo_hit(const cdm_memo *memo, const uint32_t *addresses, uint32_t mask, unsigned width, unsigned unit) {
  if (memo->width != width || memo->mask != mask || mask == 0) return 0;
  const int first = __builtin_ctz(mask);
  const uint32_t shift = addresses[first] - memo->addresses[first];
  if (shift & (unit - 1)) return 0;
  uint32_t different = 0;
  if (mask == 0xffffffffu) {
    for (int lane = 0; lane < CDM_LANES; lane++) different |= (addresses[lane] - memo->addresses[lane]) ^ shift;
  } else {
    for (int lane = 0; lane < CDM_LANES; lane++)
      different |= ((addresses[lane] - memo->addresses[lane]) ^ shift) & (0u - (mask >> lane & 1));
  }
  return different == 0;
}

int cdm_first_fault(const uint32_t *addresses, uint32_t mask, unsigned width, uint64_t limit) {
  if (mask == 0) return -1;
  if (limit >= width) {
    const uint64_t bound = limit - width;
    const uint32_t highest = bound > 0xffffffffu ? 0xffffffffu : (uint32_t)bound;
    uint32_t bad = 0;
    for (int lane = 0; lane < CDM_LANES; lane++) {
      const uint32_t active = 0u - (mask >> lane & 1);
      bad |= active & ((addresses[lane] & (width - 1)) | (0u - (uint32_t)(addresses[lane] > highest)));
    }
    if (bad == 0) return -1;
    for (int lane = 0; lane < CDM_LANES; lane++)
      if ((mask >> lane & 1) && ((addresses[lane] & (width - 1)) || addresses[lane] > highest)) return lane;
  }
  return __builtin_ctz(mask);
}

#define CDM_MOVES(lane_count, body)                                                                   \
  for (int lane = 0; lane < (lane_count); lane++) {                                                   \
    if (!(mask >> lane & 1)) continue;                                                                \
    body                                                                                              \
  }

void cdm_gather(uint32_t *registers, const uint8_t *memory, const uint32_t *addresses, uint32_t mask, unsigned width) {
  const unsigned count = width <= 4 ? 1 : width / 4;
  if (mask != 0xffffffffu) memset(registers, 0, 4 * CDM_LANES * count);
  switch (width) {
  case 16: {
    uint32_t words[4];
    CDM_MOVES(CDM_LANES, {
      memcpy(words, memory + addresses[lane], 16);
      for (int r = 0; r < 4; r++) registers[CDM_LANES * r + lane] = words[r];
    })
    break;
  }
  case 8: {
    uint32_t words[2];
    CDM_MOVES(CDM_LANES, {
      memcpy(words, memory + addresses[lane], 8);
      registers[lane] = words[0];
      registers[CDM_LANES + lane] = words[1];
    })
    break;
  }
  case 4: CDM_MOVES(CDM_LANES, { memcpy(registers + lane, memory + addresses[lane], 4); }) break;
  case 2: {
    uint16_t half;
    CDM_MOVES(CDM_LANES, {
      memcpy(&half, memory + addresses[lane], 2);
      registers[lane] = half;
    })
    break;
  }
  default: CDM_MOVES(CDM_LANES, { registers[lane] = memory[addresses[lane]]; }) break;
  }
}

void cdm_scatter(const uint32_t *registers, uint8_t *memory, const uint32_t *addresses, uint32_t mask,
                 unsigned width) {
  switch (width) {
  case 16: {
    uint32_t words[4];
    CDM_MOVES(CDM_LANES, {
      for (int r = 0; r < 4; r++) words[r] = registers[CDM_LANES * r + lane];
      memcpy(memory + addresses[lane], words, 16);
    })
    break;
  }
  case 8: {
    uint32_t words[2];
    CDM_MOVES(CDM_LANES, {
      words[0] = registers[lane];
      words[1] = registers[CDM_LANES + lane];
      memcpy(memory + addresses[lane], words, 8);
    })
    break;
  }
  case 4: CDM_MOVES(CDM_LANES, { memcpy(memory + addresses[lane], registers + lane, 4); }) break;
  case 2: {
    uint16_t half;
    CDM_MOVES(CDM_LANES, {
      half = (uint16_t)registers[lane];
      memcpy(memory + addresses[lane], &half, 2);
    })
    break;
  }
  default: CDM_MOVES(CDM_LANES, { memory[addresses[lane]] = (uint8_t)registers[lane]; }) break;
  }
}

void cdm_copy(uint8_t *to, const uint32_t *to_addresses, const uint8_t *from, const uint32_t *from_addresses,
              uint32_t mask, unsigned width) {
  // A width that the compiler knows is a move of registers and not a call for each lane.
  switch (width) {
  case 16: CDM_MOVES(CDM_LANES, { memcpy(to + to_addresses[lane], from + from_addresses[lane], 16); }) break;
  case 8: CDM_MOVES(CDM_LANES, { memcpy(to + to_addresses[lane], from + from_addresses[lane], 8); }) break;
  default: CDM_MOVES(CDM_LANES, { memcpy(to + to_addresses[lane], from + from_addresses[lane], 4); }) break;
  }
}

void cdm_ldmatrix(uint32_t *registers, const uint8_t *memory, const uint32_t *addresses, int matrices,
                  int transposed) {
  for (int m = 0; m < matrices; m++) {
    uint32_t *out = registers + CDM_LANES * m;
    // Lane 4g + t gets row g, columns 2t and 2t + 1: the four words of row g, side by side.
    if (!transposed) {
      for (int r = 0; r < 8; r++) memcpy(out + 4 * r, memory + addresses[8 * m + r], 16);
      continue;
    }
    // Column g, rows 2t and 2t + 1.
    uint16_t halves[8][8];
    for (int r = 0; r < 8; r++) memcpy(halves[r], memory + addresses[8 * m + r], 16);
    for (int g = 0; g < 8; g++)
      for (int t = 0; t < 4; t++) out[4 * g + t] = halves[2 * t][g] | (uint32_t)halves[2 * t + 1][g] << 16;
  }
}

void cdm_stmatrix(const uint32_t *registers, uint8_t *memory, const uint32_t *addresses, int matrices,
                  int transposed) {
  for (int m = 0; m < matrices; m++) {
    const uint32_t *in = registers + CDM_LANES * m;
    if (!transposed) {
      for (int r = 0; r < 8; r++) memcpy(memory + addresses[8 * m + r], in + 4 * r, 16);
      continue;
    }
    uint16_t halves[8][8];
    for (int g = 0; g < 8; g++)
      for (int t = 0; t < 4; t++) {
        halves[2 * t][g] = (uint16_t)in[4 * g + t];
        halves[2 * t + 1][g] = (uint16_t)(in[4 * g + t] >> 16);
      }
    for (int r = 0; r < 8; r++) memcpy(memory + addresses[8 * m + r], halves[r], 16);
  }
}
