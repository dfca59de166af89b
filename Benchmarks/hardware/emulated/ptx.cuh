// Stands in for ../ptx.cuh on a processor: threads are contexts that take turns, and the instructions of a warp are
// computed from what its 32 lanes hand in. Knows values and shared-memory passes, nothing of time.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <set>
#include <ucontext.h>
#include <vector>

#include <cuda_fp16.h>
#include <vector_functions.h>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#undef __shared__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after the other

struct Index {
  int x = 0, y = 0;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

// Counters: warp instructions and passes of the data stage, by the base rule of eight lanes a phase.
struct Counters {
  long stores = 0, storePasses = 0, loads = 0, loadPasses = 0, matrices = 0, matrixPasses = 0, products = 0, barriers = 0;
};
extern Counters counters;

struct Copy {
  void *to;
  const void *from;
  int bytes;
};

struct Thread {
  ucontext_t context;
  std::vector<char> stack;
  bool done = false;
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> open;
  uint32_t address = 0, a[4], b[2];
};

struct Gate {  // all of `size` threads pass together
  int size = 0, arrived = 0;
  long generation = 0;
};

extern std::vector<Thread> threads;
extern std::vector<Gate> warpGates;
extern Gate blockGate;
extern ucontext_t scheduler;
alignas(128) extern unsigned char dynamicShared[100 * 1024];
#define DYNAMIC_SHARED(name) unsigned char *name = dynamicShared

inline Thread &self() { return threads[threadIdx.x]; }
inline void pass(Gate &gate) {
  const long mine = gate.generation;
  if (++gate.arrived == gate.size) {
    gate.arrived = 0;
    gate.generation++;
    return;
  }
  while (gate.generation == mine) {
    Thread &me = self();
    swapcontext(&me.context, &scheduler);
  }
}
inline Gate &warp_gate() { return warpGates[threadIdx.x / 32]; }
inline Thread &lane(int l) { return threads[threadIdx.x / 32 * 32 + l]; }
inline void __syncthreads() {
  if (threadIdx.x == 0) counters.barriers++;
  pass(blockGate);
}
inline void __threadfence() {}
template <typename T> T __ldcg(const T *p) { return *p; }
template <typename T> void __stcg(T *p, T v) { *p = v; }
inline int min(int a, int b) { return a < b ? a : b; }
using std::fmaf;

inline uint32_t shared_address(const void *pointer) {
  return uint32_t(reinterpret_cast<intptr_t>(pointer) - reinterpret_cast<intptr_t>(dynamicShared));
}
inline unsigned char *shared_pointer(uint32_t address) { return dynamicShared + int32_t(address); }

// passes: lane l's 16 bytes at addresses handed in; each eight lanes are a phase.
inline int passes(int lanes) {
  int total = 0;
  for (int phase = 0; phase < lanes; phase += 8) {
    std::set<uint32_t> words[32];
    size_t most = 0;
    for (int l = phase; l < phase + 8; l++)
      for (int i = 0; i < 4; i++) {
        const uint32_t word = lane(l).address / 4 + i;
        words[word % 32].insert(word);
        most = std::max(most, words[word % 32].size());
      }
    total += int(most);
  }
  return total;
}

inline void hand_in(uint32_t address, long &count, long &passed) {
  if (address % 16 != 0) std::abort();
  self().address = address;
  pass(warp_gate());
  if (threadIdx.x % 32 == 0) count++, passed += passes(32);
}

inline void store_shared_16(uint32_t address, uint4 v) {
  hand_in(address, counters.stores, counters.storePasses);
  std::memcpy(shared_pointer(address), &v, 16);
  pass(warp_gate());
}
inline uint4 load_shared_16(uint32_t address) {
  hand_in(address, counters.loads, counters.loadPasses);
  uint4 v;
  std::memcpy(&v, shared_pointer(address), 16);
  pass(warp_gate());
  return v;
}

inline void ldmatrix_any(uint32_t (&r)[4], uint32_t address, bool transposed) {
  hand_in(address, counters.matrices, counters.matrixPasses);
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
  for (int m = 0; m < 4; m++) {
    uint16_t half[2];
    for (int i = 0; i < 2; i++) {
      const int row = transposed ? 2 * t + i : g, column = transposed ? g : 2 * t + i;
      std::memcpy(&half[i], shared_pointer(lane(8 * m + row).address) + 2 * column, 2);
    }
    r[m] = half[0] | uint32_t(half[1]) << 16;
  }
  pass(warp_gate());
}
inline void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) { ldmatrix_any(r, address, false); }
inline void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) { ldmatrix_any(r, address, true); }

inline float half_of(uint32_t word, int i) {
  __half_raw raw;
  raw.x = uint16_t(word >> (16 * i));
  return __half2float(__half(raw));
}
inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Thread &me = self();
  std::memcpy(me.a, a, sizeof me.a);
  me.b[0] = b0, me.b[1] = b1;
  pass(warp_gate());
  const int l = threadIdx.x % 32, g = l / 4, t = l % 4;
  for (int i = 0; i < 4; i++) {
    const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
    for (int k = 0; k < 16; k++)
      d[i] = fmaf(half_of(lane(4 * (row % 8) + k % 8 / 2).a[row / 8 + 2 * (k / 8)], k % 2),
                  half_of(lane(4 * column + k % 8 / 2).b[k / 8], k % 2), d[i]);
  }
  if (l == 0) counters.products++;
  pass(warp_gate());
}

// Copies happen at the last moment that the waits allow: what is read too early is old.
inline void copy_async_16(uint32_t to, const void *from, int bytes = 16) {
  self().open.push_back({shared_pointer(to), from, bytes});
}
inline void copy_async_16_once(uint32_t to, const void *from, uint64_t) { copy_async_16(to, from); }
inline uint64_t evict_first_policy() { return 0; }
inline void copy_async_commit() {
  self().groups.push_back(std::move(self().open));
  self().open.clear();
}
template <int pending> void copy_async_wait() {
  while (self().groups.size() > size_t(pending)) {
    for (const Copy &c : self().groups.front()) {
      std::memset(c.to, 0, 16);
      std::memcpy(c.to, c.from, c.bytes);
    }
    self().groups.pop_front();
  }
}

// The one operation that the header keeps for devices. A double holds product and sum exactly enough to round once.
inline half2 __hfma2(half2 a, half2 b, half2 c) {
  return __halves2half2(__double2half(std::fma(double(__low2float(a)), double(__low2float(b)), double(__low2float(c)))),
                        __double2half(std::fma(double(__high2float(a)), double(__high2float(b)), double(__high2float(c)))));
}

template <uint32_t mask> uint32_t masked(uint32_t word) { return (word & mask) | 0x64006400u; }
