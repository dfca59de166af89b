// Runs the text of ../int4_loops.cuh on a processor at small sizes: integers must come out exactly, random values as
// closely as a GPU's must. So what reaches a GPU has its index maps, waits and hand-overs checked; only speed is open.
// Prints the shared-memory passes a warp and step, by the base rule.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include "ptx.cuh"

#include "../int4_loops.cuh"

Index threadIdx, blockIdx, blockDim, gridDim;
Counters counters;
std::vector<Thread> threads;
std::vector<Gate> warpGates;
Gate blockGate;
ucontext_t scheduler;
alignas(128) unsigned char dynamicShared[100 * 1024];

static void (*currentKernel)(Problem);
static Problem currentProblem;
static void entry() {
  currentKernel(currentProblem);
  self().done = true;
  swapcontext(&self().context, &scheduler);
}

static void run_block(void (*kernel)(Problem), const Problem &problem, int count) {
  currentKernel = kernel, currentProblem = problem;
  threads.resize(count);
  warpGates.assign(count / 32, Gate{32});
  blockGate = Gate{count};
  for (Thread &t : threads) {
    t.stack.resize(128 * 1024);
    t.done = false;
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack.data();
    t.context.uc_stack.ss_size = t.stack.size();
    t.context.uc_link = nullptr;
    makecontext(&t.context, entry, 0);
  }
  for (bool busy = true; busy;) {
    busy = false;
    for (int i = 0; i < count; i++)
      if (!threads[i].done) {
        threadIdx.x = i;
        swapcontext(&scheduler, &threads[i].context);
        busy = true;
      }
  }
  for (const Thread &t : threads)
    if (!t.open.empty() || !t.groups.empty()) std::printf("error: copies left over\n"), std::exit(70);
}

static Index one(int x = 1, int y = 1) { Index i; i.x = x, i.y = y; return i; }

int main() {
  const int n = 256, k = 512, group = 128, splits = 3;  // 16 steps over 3 splits: a ragged one
  struct Loop {
    const char *name;
    int order, rows, threads;
    void (*kernel)(Problem);
  };
  const Loop loops[] = {{"awq-16", 0, 16, 64, loop_awq},           {"quick-16", 1, 16, 64, loop_quick_16},
                        {"quick-32", 1, 32, 64, loop_quick_32},    {"quick-64", 1, 64, 64, loop_quick_64},
                        {"quick-once-64", 1, 64, 64, loop_quick_once_64}, {"marlin-16", 2, 16, 256, loop_marlin_16},
                        {"marlin-32", 2, 32, 256, loop_marlin_32}, {"marlin-64", 2, 64, 256, loop_marlin_64}};
  bool good = true;
  for (const Loop &loop : loops) {
    for (int m : {1, loop.rows, loop.rows + 3}) {
      for (bool integers : {true, false}) {
        const Values v{n, k, group, integers, loop.order == 2};
        std::vector<half> x(m * k), scales(2 * n * (k / group)), partial(splits * m * n), y(m * n);
        std::vector<uint32_t> words(k * n / 8), zeros(n / 4 * (k / group));
        std::vector<float> sums((m + 63) / 64 * 64 * n), expected(m * n);
        std::vector<int> turns(n / 64 * (m + 15));
        std::vector<uint8_t> codes(k * n);
        threadIdx = blockIdx = Index();
        blockDim = gridDim = one();
        fill_x(v, x.data(), m);
        fill_codes(v, codes.data());
        if (loop.order == 0) pack_awq(v, words.data(), scales.data(), zeros.data());
        if (loop.order == 1) pack_quick(v, words.data(), scales.data(), zeros.data());
        if (loop.order == 2) pack_marlin(v, words.data(), scales.data());
        for (blockIdx.x = 0; blockIdx.x < n; blockIdx.x++)
          for (blockIdx.y = 0; blockIdx.y < m; blockIdx.y++) plain(v, x.data(), codes.data(), expected.data(), m);

        Problem p{x.data(), words.data(), scales.data(), zeros.data(), partial.data(), y.data(), sums.data(), turns.data(),
                  m, n, k, group, splits, 0};
        counters = Counters();
        long warpSteps;
        if (loop.order == 2) {
          gridDim = one(3);  // three stripes over columns that they share
          // A block waits only for later ones.
          for (blockIdx = one(2, 0); blockIdx.x >= 0; blockIdx.x--) run_block(loop.kernel, p, loop.threads);
          warpSteps = long(n / 64) * (k / 32) * ((m + loop.rows - 1) / loop.rows);
          for (int t : turns) good = good && t == 0;
        } else {
          gridDim = one(n / 128 * ((m + loop.rows - 1) / loop.rows), splits);
          for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) run_block(loop.kernel, p, loop.threads);
          warpSteps = long(n / 64) * (k / 32) * ((m + loop.rows - 1) / loop.rows);
          threadIdx = blockIdx = Index();
          gridDim = blockDim = one();
          sum_partial(p);
        }
        double difference = 0, size = 0;
        int unequal = 0;
        for (int i = 0; i < m * n; i++) {
          const double got = __half2float(y[i]), want = expected[i];
          unequal += got != double(__half2float(__float2half_rn(expected[i])));
          difference += std::fabs(got - want);
          size += std::fabs(want);
        }
        const bool right = size > 0 && (integers ? unequal == 0 : difference <= 1e-3 * size);
        good = good && right;
        if (!right || (integers && m == loop.rows)) {
          const double s = double(warpSteps);
          std::printf("%-14s m %-3d %-8s unequal %d, relative error %.1e; a warp and step: stores %.2f (passes %.2f), loads %.2f (%.2f), "
                      "ldmatrix %.2f (%.2f), mma %.2f  %s\n", loop.name, m, integers ? "integers" : "random", unequal, difference / size,
                      counters.stores / s, counters.storePasses / s, counters.loads / s, counters.loadPasses / s,
                      counters.matrices / s, counters.matrixPasses / s, counters.products / s, right ? "ok" : "WRONG");
        }
      }
    }
  }
  std::printf(good ? "all loops agree with the plain product\n" : "error: a loop disagrees\n");
  return good ? 0 : 70;
}
