// The inner loops of three int4 matrix products on a real GPU: y[M, N] = x[M, K] · w[K, N], with 4-bit codes, a scale
// and a zero point for each group of rows of a column. The loops are our own; what they share with the published kernels
// is the data path, that is every pattern of shared and global access, the tiles and the number of barriers:
//
//     awq      words along n; dequantized halves go back to shared memory (pitch 272) and come out by ldmatrix.trans
//     quick    words in the order of the fragment of mma.m16n8k16: from global memory to registers, 16, 32 or 64 rows
//     quick-once   the same with 64 rows, each word read and converted once and not once for each 32 rows
//     marlin   the same words in lane order, through shared memory by asynchronous copies, four stages, the activations
//              under an exclusive-or swizzle, the work cut into equal stripes
//
//     int4_loops [--rows 1,2,4,…] [--n 8192] [--k 8192] [--group 128] [--splits S] [--repetitions 20]
//     int4_loops --counters         one launch a kernel and M of 16 and 64, for a profiler (kernel names start with loop_)
//
// Every product is compared with a plain kernel: random values within a relative bound, integers exactly. Prints JSON.
#include "ptx.cuh"
#include "int4_loops.cuh"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

// MARK: Running

template <typename T> T *allocate(size_t count) {
  T *pointer;
  CHECK(cudaMalloc(&pointer, count * sizeof(T)));
  CHECK(cudaMemset(pointer, 0, count * sizeof(T)));
  return pointer;
}

enum class Order { awq, quick, marlin };

struct Loop {
  const char *name;
  Order order;
  int tileRows;
  void (*kernel)(Problem);
  int threads, sharedBytes;
};

int main(int argc, char **argv) {
  std::vector<int> rows = {1, 2, 4, 8, 16, 32, 64, 128, 256};
  int n = 8192, k = 8192, group = 128, splits = 0, repetitions = 20;
  bool counters = false, good = true;
  for (int i = 1; i < argc; i++) {
    auto number = [&](int &value) { good = good && ++i < argc && (value = std::atoi(argv[i])) > 0; };
    if (!std::strcmp(argv[i], "--counters")) counters = true;
    else if (!std::strcmp(argv[i], "--n")) number(n);
    else if (!std::strcmp(argv[i], "--k")) number(k);
    else if (!std::strcmp(argv[i], "--group")) number(group);
    else if (!std::strcmp(argv[i], "--splits")) number(splits);
    else if (!std::strcmp(argv[i], "--repetitions")) number(repetitions);
    else if (!std::strcmp(argv[i], "--rows") && i + 1 < argc) {
      rows.clear();
      std::istringstream list(argv[++i]);
      for (std::string part; std::getline(list, part, ',');) rows.push_back(std::atoi(part.c_str()));
    } else good = false;
  }
  for (int m : rows) good = good && m > 0 && m <= 4096;
  good = good && !rows.empty() && n % 256 == 0 && k % 128 == 0 && group % 128 == 0 && k % group == 0;
  if (!good) {
    std::fprintf(stderr, "usage: int4_loops [--counters] [--rows 1,2,…] [--n N] [--k K] [--group G] [--splits S] [--repetitions R]\n"
                         "N is a multiple of 256, K of G, G of 128\n");
    return 64;
  }
  cudaDeviceProp device = print_device("int4_loops");
  if (device.major < 8) {
    std::printf("{\"kind\":\"skipped\",\"reason\":\"mma.m16n8k16 and cp.async need compute capability 8.0; this is %d.%d\"}\n",
                device.major, device.minor);
    return 0;
  }
  if (counters) rows = {16, 64};
  // The published launcher's choice: 16 on an A100, otherwise 8 for these shapes.
  if (splits == 0) splits = std::strstr(device.name, "A100") ? 16 : n > k ? 2 : 8;
  const int mostRows = *std::max_element(rows.begin(), rows.end());

  using Shape16 = MarlinShape<1, 2, 8>;
  using Shape32 = MarlinShape<2, 4, 4>;
  using Shape64 = MarlinShape<4, 4, 4>;
  const std::vector<Loop> loops = {
      {"awq-16", Order::awq, 16, loop_awq, 64, 0},
      {"quick-16", Order::quick, 16, loop_quick_16, 64, 0},
      {"quick-32", Order::quick, 32, loop_quick_32, 64, 0},
      {"quick-64", Order::quick, 64, loop_quick_64, 64, 0},
      {"quick-once-64", Order::quick, 64, loop_quick_once_64, 64, 0},
      {"marlin-16", Order::marlin, 16, loop_marlin_16, 256, Shape16::sharedBytes},
      {"marlin-32", Order::marlin, 32, loop_marlin_32, 256, Shape32::sharedBytes},
      {"marlin-64", Order::marlin, 64, loop_marlin_64, 256, Shape64::sharedBytes},
  };
  for (const Loop &loop : loops)
    if (loop.sharedBytes > 0)
      CHECK(cudaFuncSetAttribute(loop.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, loop.sharedBytes));

  // Cold weights: copies taken in turn that together are more than twice the second-level cache.
  const size_t wordCount = size_t(k) * n / 8, groups = k / group;
  const int copies = counters ? 1 : int(2 * size_t(device.l2CacheSize) / (4 * wordCount)) + 2;
  half *x = allocate<half>(size_t(mostRows) * k);
  half *partial = allocate<half>(size_t(splits) * mostRows * n);
  half *y = allocate<half>(size_t(mostRows) * n);
  float *expected = allocate<float>(size_t(mostRows) * n);
  uint8_t *codes = allocate<uint8_t>(size_t(k) * n);
  float *sums = allocate<float>(size_t(mostRows + 63) * n);
  int *turns = allocate<int>(size_t(n / 128) * ((mostRows + 15) / 16));
  uint32_t *words = allocate<uint32_t>(wordCount * copies);
  half *scales = allocate<half>(groups * 2 * n);
  uint32_t *zeros = allocate<uint32_t>(groups * n / 4);
  cudaEvent_t start, stop;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&stop));

  auto launch = [&](const Loop &loop, int m, int copy) {
    Problem p{x, words + copy * wordCount, scales, zeros, partial, y, sums, turns, m, n, k, group, splits, 0};
    if (loop.order == Order::marlin) {
      loop.kernel<<<device.multiProcessorCount, loop.threads, loop.sharedBytes>>>(p);
    } else {
      const dim3 grid(n / 128 * ((m + loop.tileRows - 1) / loop.tileRows), splits);
      loop.kernel<<<grid, loop.threads>>>(p);
    }
    CHECK(cudaGetLastError());
    return p;
  };
  auto pack = [&](const Values &v, Order order) {
    if (order == Order::awq) pack_awq<<<1024, 256>>>(v, words, scales, zeros);
    if (order == Order::quick) pack_quick<<<1024, 256>>>(v, words, scales, zeros);
    if (order == Order::marlin) pack_marlin<<<1024, 256>>>(v, words, scales);
    CHECK(cudaGetLastError());
    for (int c = 1; c < copies; c++)
      CHECK(cudaMemcpy(words + c * wordCount, words, 4 * wordCount, cudaMemcpyDeviceToDevice));
  };
  auto prepare = [&](const Values &v) {
    fill_x<<<1024, 256>>>(v, x, mostRows);
    fill_codes<<<1024, 256>>>(v, codes);
    plain<<<dim3((n + 255) / 256, mostRows), 256>>>(v, x, codes, expected, mostRows);
    CHECK(cudaGetLastError());
  };

  bool allRight = true;
  std::vector<half> got(size_t(mostRows) * n);
  std::vector<float> want(size_t(mostRows) * n);

  for (bool symmetric : {false, true}) {
    for (bool integers : {true, false}) {
      const Values v{n, k, group, integers, symmetric};
      prepare(v);
      CHECK(cudaMemcpy(want.data(), expected, want.size() * sizeof(float), cudaMemcpyDeviceToHost));
      Order packed = Order::awq;
      bool first = true;
      for (const Loop &loop : loops) {
        if ((loop.order == Order::marlin) != symmetric) continue;
        if (first || packed != loop.order) pack(v, loop.order);
        packed = loop.order;
        first = false;
        for (int m : rows) {
          if (counters && integers) continue;
          const Problem p = launch(loop, m, 0);
          if (counters) {
            CHECK(cudaDeviceSynchronize());
            std::printf("{\"kind\":\"launch\",\"case\":\"%s-m%d\",\"kernel\":\"%s\",\"m\":%d,\"n\":%d,\"k\":%d}\n", loop.name, m,
                        loop.name, m, n, k);
            continue;
          }
          if (loop.order != Order::marlin) sum_partial<<<1024, 256>>>(p);
          CHECK(cudaMemcpy(got.data(), y, size_t(m) * n * sizeof(half), cudaMemcpyDeviceToHost));
          double difference = 0, size = 0, most = 0;
          size_t unequal = 0;
          for (size_t i = 0; i < size_t(m) * n; i++) {
            const double g = __half2float(got[i]), w = want[i];
            if (g != double(__half2float(__float2half_rn(want[i])))) unequal++;
            difference += std::fabs(g - w);
            size += std::fabs(w);
            most = std::max(most, std::fabs(g - w));
          }
          // A comparison that fails for NaN. One part in a thousand is the bound that Marlin's own test sets.
          const bool right = integers ? unequal == 0 : difference <= 1e-3 * size;
          allRight = allRight && right;
          std::printf("{\"kind\":\"check\",\"kernel\":\"%s\",\"m\":%d,\"n\":%d,\"k\":%d,\"values\":\"%s\",\"unequal\":%zu,"
                      "\"meanRelativeError\":%.3e,\"maximumError\":%.3e,\"correct\":%s}\n",
                      loop.name, m, n, k, integers ? "integers" : "random", unequal, difference / size, most,
                      right ? "true" : "false");
          if (integers || !right) continue;

          for (bool cold : {true, false}) {
            std::vector<double> each;
            for (int r = -3; r < repetitions; r++) {  // three to warm up
              CHECK(cudaEventRecord(start));
              launch(loop, m, cold ? (r + 3) % copies : 0);
              CHECK(cudaEventRecord(stop));
              CHECK(cudaEventSynchronize(stop));
              float milliseconds;
              CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
              if (r >= 0) each.push_back(1000.0 * milliseconds);
            }
            std::vector<double> total;
            for (int r = -3; r < repetitions && loop.order != Order::marlin; r++) {
              CHECK(cudaEventRecord(start));
              const Problem q = launch(loop, m, cold ? (r + 3) % copies : 0);
              sum_partial<<<1024, 256>>>(q);
              CHECK(cudaEventRecord(stop));
              CHECK(cudaEventSynchronize(stop));
              float milliseconds;
              CHECK(cudaEventElapsedTime(&milliseconds, start, stop));
              if (r >= 0) total.push_back(1000.0 * milliseconds);
            }
            if (total.empty()) total = each;
            auto print = [](const char *key, std::vector<double> &t) {
              std::sort(t.begin(), t.end());
              std::printf("\"%s\":{\"median\":%.3f,\"minimum\":%.3f,\"maximum\":%.3f,\"runs\":%zu}", key, t[t.size() / 2], t.front(),
                          t.back(), t.size());
            };
            std::printf("{\"kind\":\"loop\",\"kernel\":\"%s\",\"m\":%d,\"n\":%d,\"k\":%d,\"group\":%d,\"splits\":%d,"
                        "\"weights\":\"%s\",", loop.name, m, n, k, group, loop.order == Order::marlin ? 1 : splits, cold ? "cold" : "warm");
            print("microseconds", each);
            std::printf(",");
            print("microsecondsWithSum", total);
            std::printf("}\n");
            std::fflush(stdout);
          }
        }
      }
    }
  }
  CHECK(cudaDeviceSynchronize());
  return allRight ? 0 : 70;
}
