// What one warp-wide shared-memory access costs on a real GPU.
//
// Reads cases in the text form that records.py makes of a cases file, one a line:
//     name op width mask address0 … address31        (mask and addresses in decimal)
// and runs every case in a launch of its own, so that a profiler's rows are the cases. Prints JSON lines.
//
//     bank_cases CASES [--warps 1,8,16] [--repetitions 9] [--iterations 2048]
//     bank_cases CASES --counters        one launch a case, in the file's order, for a profiler
//
// The cost is the time of a loop of `unroll` accesses at offsets 0, 128, 256 …: a multiple of 128 bytes leaves
// every lane in its bank, and makes the accesses different ones to the compiler. From turn to turn the address
// grows by `step`, which is 0 but comes from outside, so that nothing can be hoisted. Loads are folded into a
// word that is written out a turn later, stores are volatile. One warp shows the rate of one scheduler; with 8 and 16 warps,
// spread over the four schedulers, the shared data stage is the only thing left to wait for.
#include "ptx.cuh"
#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

constexpr int unroll = 16;        // 16 × 4 registers of results leave 512 threads enough of them
constexpr int offsetBytes = 128;  // all banks once
constexpr int warmTurns = 4;
constexpr int sharedLimit = 48 * 1024;  // what a block gets without asking

enum class Op { none, load, store, ldmatrix, stmatrix, copy, copyCached };

struct Pattern {
  uint32_t mask;
  uint32_t address[32];
};

// Words: what an access leaves behind, folded once a turn.
struct Words {
  uint32_t value[unroll][4];
};

// issue: the access itself. `size` is the bytes a lane, or the number of 8 × 8 matrices.
template <Op op, int size, bool transposed, int index>
__device__ __forceinline__ void issue(uint32_t address, Words &words, const uint4 *source) {
  uint32_t(&w)[4] = words.value[index];
  uint32_t(&data)[4] = words.value[0];  // stores write one set of registers: no moves in the loop
  constexpr int offset = index * offsetBytes;
  if constexpr (op == Op::none) {
    w[0] = address + offset;
  } else if constexpr (op == Op::load) {
    if constexpr (size == 1) {
      asm volatile("ld.volatile.shared.u8 %0, [%1+%2];" : "=r"(w[0]) : "r"(address), "n"(offset));
    } else if constexpr (size == 2) {
      asm volatile("ld.volatile.shared.u16 %0, [%1+%2];" : "=r"(w[0]) : "r"(address), "n"(offset));
    } else if constexpr (size == 4) {
      asm volatile("ld.volatile.shared.u32 %0, [%1+%2];" : "=r"(w[0]) : "r"(address), "n"(offset));
    } else if constexpr (size == 8) {
      asm volatile("ld.volatile.shared.v2.u32 {%0,%1}, [%2+%3];"
                   : "=r"(w[0]), "=r"(w[1]) : "r"(address), "n"(offset));
    } else {
      asm volatile("ld.volatile.shared.v4.u32 {%0,%1,%2,%3}, [%4+%5];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(address), "n"(offset));
    }
  } else if constexpr (op == Op::store) {
    if constexpr (size == 1) {
      asm volatile("st.volatile.shared.u8 [%0+%1], %2;" ::"r"(address), "n"(offset), "r"(data[0]));
    } else if constexpr (size == 2) {
      asm volatile("st.volatile.shared.u16 [%0+%1], %2;" ::"r"(address), "n"(offset), "r"(data[0]));
    } else if constexpr (size == 4) {
      asm volatile("st.volatile.shared.u32 [%0+%1], %2;" ::"r"(address), "n"(offset), "r"(data[0]));
    } else if constexpr (size == 8) {
      asm volatile("st.volatile.shared.v2.u32 [%0+%1], {%2,%3};" ::"r"(address), "n"(offset), "r"(data[0]), "r"(data[1]));
    } else {
      asm volatile("st.volatile.shared.v4.u32 [%0+%1], {%2,%3,%4,%5};" ::"r"(address), "n"(offset), "r"(data[0]),
                   "r"(data[1]), "r"(data[2]), "r"(data[3]));
    }
  } else if constexpr (op == Op::ldmatrix) {
    if constexpr (size == 1 && !transposed) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1+%2];" : "=r"(w[0]) : "r"(address), "n"(offset));
    } else if constexpr (size == 1) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1+%2];"
                   : "=r"(w[0]) : "r"(address), "n"(offset));
    } else if constexpr (size == 2 && !transposed) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2+%3];"
                   : "=r"(w[0]), "=r"(w[1]) : "r"(address), "n"(offset));
    } else if constexpr (size == 2) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2+%3];"
                   : "=r"(w[0]), "=r"(w[1]) : "r"(address), "n"(offset));
    } else if constexpr (!transposed) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4+%5];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(address), "n"(offset));
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4+%5];"
                   : "=r"(w[0]), "=r"(w[1]), "=r"(w[2]), "=r"(w[3]) : "r"(address), "n"(offset));
    }
  } else if constexpr (op == Op::stmatrix) {
#if __CUDA_ARCH__ >= 900
    if constexpr (size == 1 && !transposed) {
      asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0+%1], {%2};" ::"r"(address), "n"(offset), "r"(data[0]));
    } else if constexpr (size == 1) {
      asm volatile("stmatrix.sync.aligned.m8n8.x1.trans.shared.b16 [%0+%1], {%2};" ::"r"(address), "n"(offset),
                   "r"(data[0]));
    } else if constexpr (size == 2 && !transposed) {
      asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0+%1], {%2,%3};" ::"r"(address), "n"(offset),
                   "r"(data[0]), "r"(data[1]));
    } else if constexpr (size == 2) {
      asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0+%1], {%2,%3};" ::"r"(address), "n"(offset),
                   "r"(data[0]), "r"(data[1]));
    } else if constexpr (!transposed) {
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0+%1], {%2,%3,%4,%5};" ::"r"(address), "n"(offset),
                   "r"(data[0]), "r"(data[1]), "r"(data[2]), "r"(data[3]));
    } else {
      asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0+%1], {%2,%3,%4,%5};" ::"r"(address),
                   "n"(offset), "r"(data[0]), "r"(data[1]), "r"(data[2]), "r"(data[3]));
    }
#endif
  } else if constexpr (op == Op::copy) {
    asm volatile("cp.async.cg.shared.global [%0+%1], [%2], 16;" ::"r"(address), "n"(offset), "l"(source) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0+%1], [%2], %3;" ::"r"(address), "n"(offset), "l"(source), "n"(size)
                 : "memory");
  }
}

// issue_all: the accesses of one turn. An access's result of the turn before is folded just before the access is
// made again, so that all of them are on their way at any time; folding after the turn, the compiler waits for each.
template <Op op, int size, bool transposed, int index>
__device__ __forceinline__ void issue_all(uint32_t address, Words &words, uint32_t &folded, const uint4 *source) {
  constexpr bool reads = op == Op::load || op == Op::ldmatrix || op == Op::none;
  constexpr int results = op == Op::ldmatrix ? size : op == Op::load && size > 4 ? size / 4 : 1;
  if constexpr (index < unroll) {
    if constexpr (reads) {
#pragma unroll
      for (int j = 0; j < results; j++) folded ^= words.value[index][j];
    }
    issue<op, size, transposed, index>(address, words, source);
    issue_all<op, size, transposed, index + 1>(address, words, folded, source);
  }
}

// One block; times[2w], times[2w + 1] are the clock before and after the loop of warp w. The loop runs twice: a few
// turns that fetch the instructions, then the turns that count.
template <Op op, int size, bool transposed>
__global__ void __launch_bounds__(512)
bank_case(const Pattern *pattern, const uint4 *source, int warmTurns, int turns, uint32_t step, long long *times, uint32_t *sink) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  uint32_t address = shared_address(shared) + pattern->address[lane];
  // Matrix instructions are executed by whole warps; the others by the lanes of the mask.
  constexpr bool wholeWarp = op == Op::ldmatrix || op == Op::stmatrix;
  // Asking the address as well makes its load end before the clock is read.
  const bool active = address != 0xffffffffu && (wholeWarp || ((pattern->mask >> lane) & 1));
  source += lane;

  Words w;
#pragma unroll
  for (int i = 0; i < unroll; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) w.value[i][j] = step + lane;
  uint32_t folded = 0;
  long long begin = 0, end = 0;
#pragma unroll 1
  for (int pass = 0; pass < 2; pass++) {
    const int count = pass == 0 ? warmTurns : turns;
    __syncthreads();
    if (active) {
      begin = clock64();
#pragma unroll 1
      for (int turn = 0; turn < count; turn++) {
        issue_all<op, size, transposed, 0>(address, w, folded, source);
        address += step;
        if constexpr (op == Op::copy || op == Op::copyCached) copy_async_commit();
      }
      if constexpr (op == Op::copy || op == Op::copyCached) copy_async_wait<0>();
      end = clock64();
    }
  }
  // The first active lane speaks for the warp.
  const uint32_t speakers = wholeWarp ? 0xffffffffu : pattern->mask;
  if (lane == __ffs(speakers) - 1) {
    times[2 * warp] = begin;
    times[2 * warp + 1] = end;
  }
#pragma unroll
  for (int i = 0; i < unroll; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) folded ^= w.value[i][j];
  if (folded == 0x9e3779b9u && step != 0) sink[threadIdx.x] = folded;
}

using Kernel = void (*)(const Pattern *, const uint4 *, int, int, uint32_t, long long *, uint32_t *);

struct Case {
  std::string name, op;
  int width;
  Pattern pattern;
  Kernel kernel;
  int minimumCapability;
};

bool contains(const std::string &text, const char *part) { return text.find(part) != std::string::npos; }

// choose: the kernel of a case; the number of matrices is read off the mask, as the cases file defines.
bool choose(Case &c) {
  c.minimumCapability = 75;
  if (c.op == "ld") {
    std::map<int, Kernel> table = {{1, bank_case<Op::load, 1, false>}, {2, bank_case<Op::load, 2, false>},
                                   {4, bank_case<Op::load, 4, false>}, {8, bank_case<Op::load, 8, false>},
                                   {16, bank_case<Op::load, 16, false>}};
    c.kernel = table.count(c.width) ? table[c.width] : nullptr;
  } else if (c.op == "st") {
    std::map<int, Kernel> table = {{1, bank_case<Op::store, 1, false>}, {2, bank_case<Op::store, 2, false>},
                                   {4, bank_case<Op::store, 4, false>}, {8, bank_case<Op::store, 8, false>},
                                   {16, bank_case<Op::store, 16, false>}};
    c.kernel = table.count(c.width) ? table[c.width] : nullptr;
  } else if (c.op == "ldgsts") {
    c.minimumCapability = 80;
    // 16 bytes go past L1 unless the case's name asks for the cached form; smaller copies have only that one.
    bool cached = c.width != 16 || contains(c.name, "-ca-");
    std::map<int, Kernel> table = {{4, bank_case<Op::copyCached, 4, false>}, {8, bank_case<Op::copyCached, 8, false>},
                                   {16, cached ? bank_case<Op::copyCached, 16, false> : bank_case<Op::copy, 16, false>}};
    c.kernel = table.count(c.width) ? table[c.width] : nullptr;
  } else if (c.op == "ldmatrix" || c.op == "stmatrix") {
    bool load = c.op == "ldmatrix", transposed = contains(c.name, "trans");
    int matrices = c.pattern.mask == 0xffu ? 1 : c.pattern.mask == 0xffffu ? 2 : c.pattern.mask == 0xffffffffu ? 4 : 0;
    if (!load) c.minimumCapability = 90;
    std::map<int, Kernel> table;
    if (load && !transposed)
      table = {{1, bank_case<Op::ldmatrix, 1, false>}, {2, bank_case<Op::ldmatrix, 2, false>}, {4, bank_case<Op::ldmatrix, 4, false>}};
    else if (load)
      table = {{1, bank_case<Op::ldmatrix, 1, true>}, {2, bank_case<Op::ldmatrix, 2, true>}, {4, bank_case<Op::ldmatrix, 4, true>}};
    else if (!transposed)
      table = {{1, bank_case<Op::stmatrix, 1, false>}, {2, bank_case<Op::stmatrix, 2, false>}, {4, bank_case<Op::stmatrix, 4, false>}};
    else
      table = {{1, bank_case<Op::stmatrix, 1, true>}, {2, bank_case<Op::stmatrix, 2, true>}, {4, bank_case<Op::stmatrix, 4, true>}};
    c.kernel = table.count(matrices) ? table[matrices] : nullptr;
  } else {
    c.kernel = nullptr;
  }
  return c.kernel != nullptr;
}

std::vector<Case> read_cases(const char *path) {
  std::ifstream file(path);
  if (!file) {
    std::fprintf(stderr, "error: %s: cannot be opened\n", path);
    std::exit(66);
  }
  std::vector<Case> cases;
  std::string line;
  for (int number = 1; std::getline(file, line); number++) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    Case c;
    bool good = static_cast<bool>(fields >> c.name >> c.op >> c.width >> c.pattern.mask);
    for (uint32_t &address : c.pattern.address) good = good && (fields >> address) && address <= sharedLimit;
    if (!good || !choose(c)) {
      std::fprintf(stderr, "error: %s:%d: not a case this program can run (op, width, mask, 32 addresses up to %d)\n", path,
                   number, sharedLimit);
      std::exit(65);
    }
    cases.push_back(c);
  }
  return cases;
}

// Bench: the buffers of one run.
struct Bench {
  Pattern *pattern;
  uint4 *source;
  long long *times;
  uint32_t *sink;

  Bench() {
    CHECK(cudaMalloc(&pattern, sizeof(Pattern)));
    CHECK(cudaMalloc(&source, 32 * sizeof(uint4)));
    CHECK(cudaMemset(source, 0, 32 * sizeof(uint4)));
    CHECK(cudaMalloc(&times, 2 * 32 * sizeof(long long)));
    CHECK(cudaMalloc(&sink, 1024 * sizeof(uint32_t)));
  }

  // cycles: from the first warp's start to the last warp's end, all on one multiprocessor and so on one clock.
  long long cycles(Kernel kernel, const Pattern &p, int warps, int turns) {
    uint32_t highest = 0;
    for (int lane = 0; lane < 32; lane++)
      if ((p.mask >> lane) & 1) highest = std::max(highest, p.address[lane]);
    // Matrix instructions read the addresses of the mask's lanes only, but the others must be inside as well.
    Pattern safe = p;
    for (int lane = 0; lane < 32; lane++)
      if (!((p.mask >> lane) & 1)) safe.address[lane] = 0;
    const size_t bytes = highest + 16 + unroll * offsetBytes;
    if (bytes > static_cast<size_t>(sharedLimit)) return -1;
    CHECK(cudaMemcpy(pattern, &safe, sizeof safe, cudaMemcpyHostToDevice));
    kernel<<<1, 32 * warps, bytes>>>(pattern, source, warmTurns, turns, 0, times, sink);
    CHECK(cudaGetLastError());
    std::vector<long long> host(2 * warps);
    CHECK(cudaMemcpy(host.data(), times, host.size() * sizeof(long long), cudaMemcpyDeviceToHost));
    long long begin = host[0], end = host[1];
    for (int w = 0; w < warps; w++) {
      begin = std::min(begin, host[2 * w]);
      end = std::max(end, host[2 * w + 1]);
    }
    return end - begin;
  }
};

void print_quantiles(const char *key, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  std::printf("\"%s\":{\"median\":%.5f,\"minimum\":%.5f,\"maximum\":%.5f,\"runs\":%zu}", key,
              values[values.size() / 2], values.front(), values.back(), values.size());
}

int main(int argc, char **argv) {
  std::vector<int> warpCounts = {1, 8, 16};
  int repetitions = 9, iterations = 2048;
  bool counters = false;
  const char *path = nullptr;
  for (int i = 1; i < argc; i++) {
    if (!std::strcmp(argv[i], "--counters")) counters = true;
    else if (!std::strcmp(argv[i], "--repetitions") && i + 1 < argc) repetitions = std::atoi(argv[++i]);
    else if (!std::strcmp(argv[i], "--iterations") && i + 1 < argc) iterations = std::atoi(argv[++i]);
    else if (!std::strcmp(argv[i], "--warps") && i + 1 < argc) {
      warpCounts.clear();
      std::istringstream list(argv[++i]);
      for (std::string part; std::getline(list, part, ',');) warpCounts.push_back(std::atoi(part.c_str()));
    } else if (argv[i][0] != '-' && !path) path = argv[i];
    else path = nullptr, i = argc;
  }
  bool good = path && repetitions > 0 && iterations > 0 && !warpCounts.empty();
  for (int warps : warpCounts) good = good && warps >= 1 && warps <= 16;
  if (!good) {
    std::fprintf(stderr, "usage: bank_cases CASES [--counters] [--warps 1,8,16] [--repetitions 9] [--iterations 2048]\n");
    return 64;
  }

  std::vector<Case> cases = read_cases(path);
  cudaDeviceProp device = print_device("bank_cases");
  const int capability = 10 * device.major + device.minor;
  Bench bench;
  const Kernel none = bank_case<Op::none, 4, false>;

  for (Case &c : cases) {
    if (capability < c.minimumCapability) {
      std::printf("{\"kind\":\"skipped\",\"case\":\"%s\",\"reason\":\"%s needs compute capability %d.%d\"}\n", c.name.c_str(),
                  c.op.c_str(), c.minimumCapability / 10, c.minimumCapability % 10);
      continue;
    }
    if (counters) {
      // Few turns: a profiler counts exactly, and one warp alone has nothing to be arbitrated against.
      const int turns = 64;
      bench.cycles(c.kernel, c.pattern, 1, turns);
      std::printf("{\"kind\":\"launch\",\"case\":\"%s\",\"accesses\":%d}\n", c.name.c_str(), (warmTurns + turns) * unroll);
      continue;
    }
    for (int warps : warpCounts) {
      bench.cycles(c.kernel, c.pattern, warps, iterations);  // warms the clock and the instruction cache
      std::vector<double> each, empty;
      const double accesses = double(iterations) * unroll * warps;
      for (int r = 0; r < repetitions; r++) {
        each.push_back(bench.cycles(c.kernel, c.pattern, warps, iterations) / accesses);
        empty.push_back(bench.cycles(none, c.pattern, warps, iterations) / accesses);
      }
      std::printf("{\"kind\":\"bank\",\"case\":\"%s\",\"op\":\"%s\",\"widthBytes\":%d,\"warps\":%d,\"accesses\":%.0f,",
                  c.name.c_str(), c.op.c_str(), c.width, warps, accesses);
      print_quantiles("cyclesPerAccess", each);
      std::printf(",");
      print_quantiles("emptyCyclesPerAccess", empty);
      std::printf("}\n");
    }
  }
  return 0;
}
