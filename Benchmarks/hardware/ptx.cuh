// The instructions that both programs issue by name, each a thin wrapper of one PTX instruction, and a check of
// CUDA calls. Nothing here decides anything: layouts and loops are in the programs.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define CHECK(call)                                                                                        \
  do {                                                                                                     \
    cudaError_t status_ = (call);                                                                          \
    if (status_ != cudaSuccess) {                                                                          \
      std::fprintf(stderr, "error: %s at %s:%d: %s\n", #call, __FILE__, __LINE__, cudaGetErrorString(status_)); \
      std::exit(70);                                                                                       \
    }                                                                                                      \
  } while (0)

// DYNAMIC_SHARED: the shared memory that a launch asks for.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]

// shared_address: the 32-bit address that shared-memory instructions take.
__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

// mma: d += a · b, 16 × 8 × 16, halves in, floats out.
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void store_shared_16(uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

__device__ __forceinline__ uint4 load_shared_16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
  return v;
}

// copy_async_16: global to shared past L1; `bytes` of 0 writes zeros and reads nothing.
__device__ __forceinline__ void copy_async_16(uint32_t to, const void *from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// copy_async_16_once: the same for bytes that nobody reads again, the first to leave L2.
__device__ __forceinline__ void copy_async_16_once(uint32_t to, const void *from, uint64_t policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "l"(policy) : "memory");
}

__device__ __forceinline__ uint64_t evict_first_policy() {
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int pending> __device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// masked: (word & mask) | 0x6400 in each half: 1024 + v, or 1024 + 16 v for the upper nibble of a byte.
template <uint32_t mask> __device__ __forceinline__ uint32_t masked(uint32_t word) {
  uint32_t result;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(result) : "r"(word), "n"(mask), "n"(0x64006400));
  return result;
}

// print_device: the line that every run starts with.
inline cudaDeviceProp print_device(const char *program) {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::fprintf(stderr, "error: %s: no CUDA device can be reached; run it on a machine with an NVIDIA GPU and its driver\n", program);
    std::exit(69);
  }
  CHECK(cudaSetDevice(0));
  cudaDeviceProp properties;
  CHECK(cudaGetDeviceProperties(&properties, 0));
  int clock = 0, driver = 0, runtime = 0;
  CHECK(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  CHECK(cudaDriverGetVersion(&driver));
  CHECK(cudaRuntimeGetVersion(&runtime));
  std::printf("{\"kind\":\"device\",\"program\":\"%s\",\"gpu\":\"%s\",\"computeCapability\":\"%d.%d\","
              "\"multiprocessors\":%d,\"maximumClockMegahertz\":%d,\"l2Bytes\":%d,\"driverCUDA\":%d,\"runtimeCUDA\":%d}\n",
              program, properties.name, properties.major, properties.minor, properties.multiProcessorCount, clock / 1000,
              properties.l2CacheSize, driver, runtime);
  return properties;
}
