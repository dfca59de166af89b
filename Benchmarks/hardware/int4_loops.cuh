// The kernels of int4_loops.cu and what packs their operands. Device code only, and every instruction that C++ cannot say
// comes from ptx.cuh: emulated/run.cpp puts its own in that place and runs this very text on a processor.
#pragma once
#include <cstddef>
#include <cstdint>

struct Problem {
  const half *x;          // M × K, row by row
  const uint32_t *words;  // in the kernel's order
  const half *scales;     // in the kernel's order
  const uint32_t *zeros;  // in the kernel's order
  half *partial;          // splits × M × N (awq, quick)
  half *y;                // M × N
  float *sums;            // marlin: running sums of columns that several blocks share
  int *turns;             // marlin: whose turn it is to add, a counter a column; 0 between launches
  int m, n, k, group, splits;
  int again;  // 0; distance of the second read of the words, see loop_quick
};

// MARK: Codes to halves. A word's nibbles i and i + 4 become the two halves of pair i.

__device__ __forceinline__ half2 pair(uint32_t bits) { return *reinterpret_cast<half2 *>(&bits); }
__device__ __forceinline__ uint32_t bits(half2 pair) { return *reinterpret_cast<uint32_t *>(&pair); }
__device__ __forceinline__ half2 both(uint16_t bits) { return pair(uint32_t(bits) * 0x10001u); }

// values_plain: v, exactly. 4 masks, 1 shift, 2 subtractions, 2 fused multiply-adds.
__device__ __forceinline__ void values_plain(uint32_t word, half2 (&v)[4]) {
  const uint32_t upper = word >> 8;
  v[0] = __hsub2(pair(masked<0x000f000f>(word)), both(0x6400));
  v[1] = __hfma2(pair(masked<0x00f000f0>(word)), both(0x2c00), both(0xd400));
  v[2] = __hsub2(pair(masked<0x000f000f>(upper)), both(0x6400));
  v[3] = __hfma2(pair(masked<0x00f000f0>(upper)), both(0x2c00), both(0xd400));
}

// values_raised: 1024 + v, which a zero point raised alike takes away again. Saves the two subtractions.
__device__ __forceinline__ void values_raised(uint32_t word, half2 (&v)[4]) {
  const uint32_t upper = word >> 8;
  v[0] = pair(masked<0x000f000f>(word));
  v[1] = __hfma2(pair(masked<0x00f000f0>(word)), both(0x2c00), both(0x6380));
  v[2] = pair(masked<0x000f000f>(upper));
  v[3] = __hfma2(pair(masked<0x00f000f0>(upper)), both(0x2c00), both(0x6380));
}

// values_minus_eight: v − 8 for codes whose zero point is 8 by definition.
__device__ __forceinline__ void values_minus_eight(uint32_t word, half2 (&v)[4]) {
  const uint32_t upper = word >> 8;
  v[0] = __hsub2(pair(masked<0x000f000f>(word)), both(0x6408));
  v[1] = __hfma2(pair(masked<0x00f000f0>(word)), both(0x2c00), both(0xd480));
  v[2] = __hsub2(pair(masked<0x000f000f>(upper)), both(0x6408));
  v[3] = __hfma2(pair(masked<0x00f000f0>(upper)), both(0x2c00), both(0xd480));
}

// MARK: What awq and quick share: x in shared memory with rows of 32 + 8 halves, two warps, 64 columns each

constexpr int xPitch = 80;  // bytes: ldmatrix is free of conflicts, the store is two-way

// store_x: rows × 32 halves from global to shared; lane → row lane / 4, 16 bytes lane mod 4. Rows past M are zeros.
template <int rows>
__device__ __forceinline__ void store_x(const Problem &p, uint32_t tile, int firstRow, int firstK) {
  const int chunk = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < rows; r += 16) {
    const int row = r + threadIdx.x / 4;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (firstRow + row < p.m)
      v = *reinterpret_cast<const uint4 *>(p.x + size_t(firstRow + row) * p.k + firstK + 8 * chunk);
    store_shared_16(tile + row * xPitch + 16 * chunk, v);
  }
}

__device__ __forceinline__ uint32_t x_fragment(uint32_t tile, int row, int slice) {
  const int lane = threadIdx.x % 32;
  return tile + (row + lane % 16) * xPitch + 32 * slice + 16 * (lane / 16);
}

// store_partial: 16 × 64 sums of a warp as halves.
__device__ __forceinline__ void store_partial(const Problem &p, const float (&sum)[8][4], int firstRow, int firstColumn, int split) {
  const int lane = threadIdx.x % 32;
  half *out = p.partial + size_t(split) * p.m * p.n;
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      const int row = firstRow + lane / 4 + 8 * h;
      const int column = firstColumn + 8 * j + 2 * (lane % 4);
      if (row < p.m)
        *reinterpret_cast<half2 *>(out + size_t(row) * p.n + column) = __floats2half2_rn(sum[j][2 * h], sum[j][2 * h + 1]);
    }
}

__global__ void __launch_bounds__(64) loop_awq(Problem p) {
  constexpr int wPitch = 272;  // (128 + 8) halves
  __shared__ __align__(128) unsigned char xTile[16 * xPitch];
  __shared__ __align__(128) unsigned char wTile[32 * wPitch];
  const uint32_t x = shared_address(xTile), w = shared_address(wTile);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int columnBlocks = p.n / 128;
  const int columnBlock = blockIdx.x % columnBlocks, firstRow = 16 * (blockIdx.x / columnBlocks);
  const int wordsARow = p.n / 8;
  const int word = columnBlock * 16 + threadIdx.x % 16;  // this thread's eight columns
  const int wordRow = threadIdx.x / 16;
  float sum[8][4] = {};

#pragma unroll 1
  for (int step = blockIdx.y; step < p.k / 32; step += p.splits) {
    __syncthreads();
    store_x<16>(p, x, firstRow, 32 * step);
    const int group = 32 * step / p.group;
    half2 zero[4];
    values_plain(p.zeros[size_t(group) * wordsARow + word], zero);
    const uint4 scaleBits = *reinterpret_cast<const uint4 *>(p.scales + size_t(group) * p.n + 8 * word);
    const half2 scale[4] = {pair(scaleBits.x), pair(scaleBits.y), pair(scaleBits.z), pair(scaleBits.w)};
    // 32 rows of 16 words: four rows a turn, a warp two of them.
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const int row = 4 * i + wordRow;
      half2 v[4];
      values_plain(p.words[size_t(32 * step + row) * wordsARow + word], v);
      uint32_t out[4];
#pragma unroll
      for (int j = 0; j < 4; j++) out[j] = bits(__hfma2(__hsub2(v[j], zero[j]), scale[j], both(0)));
      store_shared_16(w + row * wPitch + 16 * (threadIdx.x % 16), make_uint4(out[0], out[1], out[2], out[3]));
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < 2; s++) {
      uint32_t a[4];
      ldmatrix_x4(a, x_fragment(x, 0, s));
#pragma unroll
      for (int j = 0; j < 4; j++) {
        uint32_t b[4];
        ldmatrix_x4_trans(b, w + (16 * s + lane % 16) * wPitch + 128 * warp + 32 * j + 16 * (lane / 16));
        mma(sum[2 * j], a, b[0], b[1]);
        mma(sum[2 * j + 1], a, b[2], b[3]);
      }
    }
  }
  store_partial(p, sum, firstRow, 128 * columnBlock + 64 * warp, blockIdx.y);
}

// `rows` a block; `part` of them at a time. The published kernel of 64 rows runs its body of 32 twice and so reads and
// converts every word twice. `again`, 0 but unknown to the compiler, keeps it from joining the two.
template <int rows, int part>
__device__ __forceinline__ void quick_body(const Problem &p) {
  __shared__ __align__(128) unsigned char xTile[rows * xPitch];
  const uint32_t x = shared_address(xTile);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int columnBlocks = p.n / 128;
  const int columnBlock = blockIdx.x % columnBlocks, firstRow = rows * (blockIdx.x / columnBlocks);
  const size_t lanePlace = size_t(2 * warp + lane / 16) * p.n + columnBlock * 128 + (lane % 16) * 8;
  const int channel = (2 * warp + lane / 16) * (p.n / 8) + 16 * columnBlock + lane % 16;
  float sum[rows / 16][8][4] = {};

#pragma unroll 1
  for (int step = blockIdx.y; step < p.k / 32; step += p.splits) {
    __syncthreads();
    store_x<rows>(p, x, firstRow, 32 * step);
    __syncthreads();
    // After the barrier, as published: the words' latency comes on top of the activations'.
    const int group = 32 * step / p.group;
    const uint4 *scales = reinterpret_cast<const uint4 *>(p.scales + size_t(group) * 2 * p.n + channel / 4 * 16);
    const uint2 zeroWords = *reinterpret_cast<const uint2 *>(p.zeros + size_t(group) * (p.n / 4) + channel / 4 * 2);
    const uint4 scales0 = scales[0], scales1 = scales[1];
    const half2 scale[8] = {pair(scales0.x), pair(scales0.y), pair(scales0.z), pair(scales0.w),
                            pair(scales1.x), pair(scales1.y), pair(scales1.z), pair(scales1.w)};
    half2 zero[2][4];
    values_raised(zeroWords.x, zero[0]);
    values_raised(zeroWords.y, zero[1]);
#pragma unroll
    for (int first = 0; first < rows; first += part) {
      const uint4 *words = reinterpret_cast<const uint4 *>(p.words + size_t(first / part) * p.again + size_t(step) * 4 * p.n + lanePlace);
      const uint4 words0 = words[0], words1 = words[1];
      const uint32_t word[8] = {words0.x, words0.y, words0.z, words0.w, words1.x, words1.y, words1.z, words1.w};
#pragma unroll
      for (int s = 0; s < 2; s++) {
        uint32_t a[part / 16][4];
#pragma unroll
        for (int r = 0; r < part / 16; r++) ldmatrix_x4(a[r], x_fragment(x, first + 16 * r, s));
#pragma unroll
        for (int j = 0; j < 4; j++) {
          half2 v[4];
          values_raised(word[4 * s + j], v);
          uint32_t b[4];
#pragma unroll
          for (int i = 0; i < 4; i++) {
            const int tile = 2 * j + i / 2;  // of eight columns
            b[i] = bits(__hmul2_rn(__hsub2(v[i], zero[tile / 4][tile % 4]), scale[tile]));
          }
#pragma unroll
          for (int r = 0; r < part / 16; r++) {
            mma(sum[first / 16 + r][2 * j], a[r], b[0], b[1]);
            mma(sum[first / 16 + r][2 * j + 1], a[r], b[2], b[3]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < rows / 16; r++)
    store_partial(p, sum[r], firstRow + 16 * r, 128 * columnBlock + 64 * warp, blockIdx.y);
}

__global__ void __launch_bounds__(64) loop_quick_16(Problem p) { quick_body<16, 16>(p); }
__global__ void __launch_bounds__(64) loop_quick_32(Problem p) { quick_body<32, 32>(p); }
__global__ void __launch_bounds__(64) loop_quick_64(Problem p) { quick_body<64, 32>(p); }
__global__ void __launch_bounds__(64) loop_quick_once_64(Problem p) { quick_body<64, 64>(p); }

__global__ void sum_partial(Problem p) {
  const size_t count = size_t(p.m) * p.n;
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < count; i += size_t(gridDim.x) * blockDim.x) {
    float sum = 0;
    for (int s = 0; s < p.splits; s++) sum += __half2float(p.partial[s * count + i]);
    p.y[i] = __float2half_rn(sum);
  }
}

// MARK: marlin

// A block of eight warps: columnTiles × 64 columns, slices × 16 k a stage. Warps that share columns take every other
// slice and are summed at the end of a column.
template <int rowTiles, int columnTiles, int slices> struct MarlinShape {
  static constexpr int stages = 4;
  static constexpr int rows = 16 * rowTiles;
  static constexpr int columns = 64 * columnTiles;
  static constexpr int depth = 16 * slices;
  static constexpr int kWarps = 8 / columnTiles;
  static constexpr int xChunksARow = 2 * slices;  // of 16 bytes
  static constexpr int xBytes = rows * depth * 2;
  static constexpr int wBytes = slices * columnTiles * 512;
  static constexpr int scaleBytes = columns * 2;
  static constexpr int stageBytes = xBytes + wBytes + scaleBytes;
  static constexpr int sumBytes = rows * columns * 4;
  static constexpr int sharedBytes = stages * stageBytes > sumBytes ? stages * stageBytes : sumBytes;
};

template <int rowTiles, int columnTiles, int slices>
__device__ __forceinline__ void marlin_body(const Problem &p) {
  using S = MarlinShape<rowTiles, columnTiles, slices>;
  DYNAMIC_SHARED(shared);
  const uint32_t base = shared_address(shared);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int nWarp = warp % columnTiles, kWarp = warp / columnTiles;
  const uint64_t once = evict_first_policy();

  const int tilesDeep = p.k / S::depth;
  const int columnsAcross = p.n / S::columns;
  const int total = tilesDeep * columnsAcross * ((p.m + S::rows - 1) / S::rows);
  const int stripe = (total + gridDim.x - 1) / gridDim.x;
  int next = blockIdx.x * stripe;
  const int stripeEnd = min(total, next + stripe);

#pragma unroll 1
  while (next < stripeEnd) {
    const int column = next / tilesDeep;  // counts row blocks as well
    const int firstTile = next % tilesDeep;
    const int count = min(tilesDeep - firstTile, stripeEnd - next);
    next += count;
    const int columnBlock = column % columnsAcross;
    const int firstRow = S::rows * (column / columnsAcross);

    auto fetch = [&](int t) {
      if (t < count) {
        const uint32_t stage = base + t % S::stages * S::stageBytes;
        const int tile = firstTile + t;
#pragma unroll
        for (int i = 0; i < S::rows * S::xChunksARow; i += 256) {
          const int c = i + threadIdx.x;
          if (c < S::rows * S::xChunksARow) {
            const int row = c / S::xChunksARow, chunk = c % S::xChunksARow;
            const bool inside = firstRow + row < p.m;
            const half *from = p.x + size_t(inside ? firstRow + row : 0) * p.k + tile * S::depth + 8 * chunk;
            copy_async_16(stage + 16 * (row * S::xChunksARow + (chunk ^ (row % 8))), from, inside ? 16 : 0);
          }
        }
#pragma unroll
        for (int i = 0; i < S::wBytes / 16; i += 256) {
          const int c = i + threadIdx.x;
          const int slice = c / (columnTiles * 32), place = c % (columnTiles * 32);
          const uint32_t *from = p.words + size_t(tile * slices + slice) * 2 * p.n + columnBlock * columnTiles * 128 + 4 * place;
          copy_async_16_once(stage + S::xBytes + 16 * c, from, once);
        }
        if (threadIdx.x < S::scaleBytes / 16) {
          const half *from = p.scales + size_t(tile * S::depth / p.group) * p.n + columnBlock * S::columns + 8 * threadIdx.x;
          copy_async_16(stage + S::xBytes + S::wBytes + 16 * threadIdx.x, from);
        }
      }
      copy_async_commit();
    };

    float sum[rowTiles][8][4] = {};
#pragma unroll
    for (int t = 0; t < S::stages - 1; t++) fetch(t);

#pragma unroll 1
    for (int t = 0; t < count; t++) {
      copy_async_wait<S::stages - 2>();
      __syncthreads();  // stage t has arrived for all, and stage t − 1 has been read by all
      fetch(t + S::stages - 1);
      const uint32_t stage = base + t % S::stages * S::stageBytes;
      const uint4 scaleBits = load_shared_16(stage + S::xBytes + S::wBytes + 128 * nWarp + 16 * (lane / 4));
      const uint32_t scalePairs[4] = {scaleBits.x, scaleBits.y, scaleBits.z, scaleBits.w};
      // Two slices a warp: the second one's operands are on their way while the first is multiplied.
      uint32_t a[2][rowTiles][4];
      uint4 w[2];
      auto load = [&](int s) {
        const int slice = kWarp + s * S::kWarps;
        w[s] = load_shared_16(stage + S::xBytes + 512 * (slice * columnTiles + nWarp) + 16 * lane);
#pragma unroll
        for (int r = 0; r < rowTiles; r++) {
          const int row = 16 * r + lane % 16, chunk = 2 * slice + lane / 16;
          ldmatrix_x4(a[s][r], stage + 16 * (row * S::xChunksARow + (chunk ^ (row % 8))));
        }
      };
      load(0);
#pragma unroll
      for (int s = 0; s < 2; s++) {
        if (s == 0) load(1);
        const uint32_t word[4] = {w[s].x, w[s].y, w[s].z, w[s].w};
#pragma unroll
        for (int j = 0; j < 4; j++) {
          half2 v[4];
          values_minus_eight(word[j], v);
          const half2 low = __low2half2(pair(scalePairs[j])), high = __high2half2(pair(scalePairs[j]));
          const uint32_t b[4] = {bits(__hmul2_rn(v[0], low)), bits(__hmul2_rn(v[1], low)),
                                 bits(__hmul2_rn(v[2], high)), bits(__hmul2_rn(v[3], high))};
#pragma unroll
          for (int r = 0; r < rowTiles; r++) {
            mma(sum[r][2 * j], a[s][r], b[0], b[1]);
            mma(sum[r][2 * j + 1], a[s][r], b[2], b[3]);
          }
        }
      }
    }
    copy_async_wait<0>();
    __syncthreads();

    // The warps that took other slices of the same columns hand over their sums, one after the other.
    float4 *handed = reinterpret_cast<float4 *>(shared);
    auto place = [&](int r, int j) { return ((nWarp * rowTiles + r) * 8 + j) * 32 + lane; };
#pragma unroll
    for (int from = S::kWarps - 1; from > 0; from--) {
      if (kWarp == from) {
#pragma unroll
        for (int r = 0; r < rowTiles; r++)
#pragma unroll
          for (int j = 0; j < 8; j++)
            handed[place(r, j)] = make_float4(sum[r][j][0], sum[r][j][1], sum[r][j][2], sum[r][j][3]);
      }
      __syncthreads();
      if (kWarp == 0) {
#pragma unroll
        for (int r = 0; r < rowTiles; r++)
#pragma unroll
          for (int j = 0; j < 8; j++) {
            const float4 v = handed[place(r, j)];
            sum[r][j][0] += v.x, sum[r][j][1] += v.y, sum[r][j][2] += v.z, sum[r][j][3] += v.w;
          }
      }
      __syncthreads();
    }

    // Blocks that share a column add in the order of falling k. A block's last piece is a column's beginning and its
    // first one a column's end, so that nobody waits for a block that waits: the grid must be resident as a whole.
    const int below = tilesDeep - firstTile - count;
    const int turn = (below + stripe - 1) / stripe;
    float4 *running = reinterpret_cast<float4 *>(p.sums) + size_t(column) * S::rows * S::columns / 4;
    if (turn > 0) {
      if (threadIdx.x == 0) {
        volatile int *whose = p.turns + column;
        while (*whose != turn) {}
        __threadfence();
      }
      __syncthreads();
    }
    if (kWarp == 0) {
#pragma unroll
      for (int r = 0; r < rowTiles; r++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
          float4 v = make_float4(sum[r][j][0], sum[r][j][1], sum[r][j][2], sum[r][j][3]);
          if (turn > 0) {
            const float4 old = __ldcg(running + place(r, j));
            v.x += old.x, v.y += old.y, v.z += old.z, v.w += old.w;
          }
          if (firstTile > 0) {
            __stcg(running + place(r, j), v);
          } else {
            const int row = firstRow + 16 * r + lane / 4;
            half *out = p.y + size_t(row) * p.n + columnBlock * S::columns + 64 * nWarp + 8 * j + 2 * (lane % 4);
            if (row < p.m) *reinterpret_cast<half2 *>(out) = __floats2half2_rn(v.x, v.y);
            if (row + 8 < p.m) *reinterpret_cast<half2 *>(out + size_t(8) * p.n) = __floats2half2_rn(v.z, v.w);
          }
        }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) *reinterpret_cast<volatile int *>(p.turns + column) = firstTile > 0 ? turn + 1 : 0;
  }
}

__global__ void __launch_bounds__(256) loop_marlin_16(Problem p) { marlin_body<1, 2, 8>(p); }
__global__ void __launch_bounds__(256) loop_marlin_32(Problem p) { marlin_body<2, 4, 4>(p); }
__global__ void __launch_bounds__(256) loop_marlin_64(Problem p) { marlin_body<4, 4, 4>(p); }

// MARK: Values, packing, the plain product

__host__ __device__ inline uint32_t mixed(uint64_t place, uint32_t seed) {
  uint64_t z = (place + seed * 0x632be59bd9b4e019ull) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return uint32_t(z >> 32);
}

// Values: what is multiplied, as a function of the place, so that every order is packed from the same numbers.
struct Values {
  int n, k, group;
  bool integers;   // scales of 1 and x of −1, 0, 1: all sums are exact
  bool symmetric;  // zero points of 8
  __device__ uint32_t code(int row, int column) const { return mixed(uint64_t(row) * n + column, 1) % 16; }
  __device__ uint32_t zero(int g, int column) const {
    return symmetric ? 8 : integers ? 7 + mixed(uint64_t(g) * n + column, 2) % 2 : mixed(uint64_t(g) * n + column, 2) % 16;
  }
  __device__ half scale(int g, int column) const {
    return integers ? __float2half(1) : __float2half(0.002f + 0.001f * (mixed(uint64_t(g) * n + column, 3) % 64) / 64);
  }
  __device__ half x(int row, int column) const {
    const uint32_t r = mixed(uint64_t(row) * k + column, 4);
    return integers ? __float2half(float(int(r % 3) - 1)) : __float2half((int(r % 2049) - 1024) / 1024.0f);
  }
};

#define EACH(index, count) \
  for (size_t index = blockIdx.x * size_t(blockDim.x) + threadIdx.x; index < size_t(count); index += size_t(gridDim.x) * blockDim.x)

__global__ void fill_x(Values v, half *x, int rows) {
  EACH(i, size_t(rows) * v.k) x[i] = v.x(int(i / v.k), int(i % v.k));
}

__device__ inline int awq_column(int nibble) {  // nibbles 0…7 are columns 0 2 4 6 1 3 5 7
  return nibble < 4 ? 2 * nibble : 2 * (nibble - 4) + 1;
}

// Pair i of a word is (nibble i, nibble i + 4): columns 2i and 2i + 1 come out side by side.
__global__ void pack_awq(Values v, uint32_t *words, half *scales, uint32_t *zeros) {
  const int across = v.n / 8, groups = v.k / v.group;
  EACH(i, size_t(v.k) * across) {
    uint32_t word = 0;
    for (int b = 0; b < 8; b++)
      word |= v.code(int(i / across), 8 * int(i % across) + awq_column(b)) << (4 * b);
    words[i] = word;
  }
  EACH(i, size_t(groups) * across) {
    uint32_t word = 0;
    for (int b = 0; b < 8; b++) word |= v.zero(int(i / across), 8 * int(i % across) + awq_column(b)) << (4 * b);
    zeros[i] = word;
  }
  EACH(i, size_t(groups) * v.n) scales[i] = v.scale(int(i / v.n), int(i % v.n));
}

// fragment_word: a lane's four k × two columns of a 16 × 16 piece; the same word in quick and in marlin.
__device__ inline uint32_t fragment_word(const Values &v, int firstRow, int firstColumn, int lane) {
  uint32_t word = 0;
  for (int b = 0; b < 8; b++) {
    const int half = b % 2, tile = b / 2 % 2, e = b / 4;
    word |= v.code(firstRow + 8 * half + 2 * (lane % 4) + e, firstColumn + 8 * tile + lane / 4) << (4 * b);
  }
  return word;
}

__global__ void pack_quick(Values v, uint32_t *words, half *scales, uint32_t *zeros) {
  const int groups = v.k / v.group;
  EACH(i, size_t(v.k) * v.n / 8) {
    const int kb = int(i / (4 * size_t(v.n))), inBlock = int(i % (4 * size_t(v.n)));
    const int quarter = inBlock / v.n, place = inBlock % v.n;  // quarter = 2 · warp + g / 4
    const int bx = place / 128, low = place % 128;
    const int lane = 4 * (4 * (quarter % 2) + low / 32) + low / 8 % 4;
    const int s = low / 4 % 2, j = low % 4;
    words[i] = fragment_word(v, 32 * kb + 16 * s, 128 * bx + 64 * (quarter / 2) + 16 * j, lane);
  }
  // Records of the four lanes of a quad: eight column tiles' scales, each twice; zeros likewise.
  EACH(i, size_t(groups) * 2 * v.n) {
    const int g = int(i / (2 * v.n)), place = int(i % (2 * v.n));
    const int record = place / 16, tile = place % 16 / 2;
    const int perQuarter = v.n / 32, quarter = record / perQuarter, inside = record % perQuarter;
    const int column = 128 * (inside / 4) + 64 * (quarter / 2) + 8 * tile + 4 * (quarter % 2) + inside % 4;
    scales[i] = v.scale(g, column);
  }
  EACH(i, size_t(groups) * (v.n / 4)) {
    const int g = int(i / (v.n / 4)), place = int(i % (v.n / 4));
    const int record = place / 2, which = place % 2;
    const int perQuarter = v.n / 32, quarter = record / perQuarter, inside = record % perQuarter;
    uint32_t word = 0;
    for (int b = 0; b < 8; b++) {
      const int tile = 4 * which + b % 4;
      word |= v.zero(g, 128 * (inside / 4) + 64 * (quarter / 2) + 8 * tile + 4 * (quarter % 2) + inside % 4) << (4 * b);
    }
    zeros[i] = word;
  }
}

__global__ void pack_marlin(Values v, uint32_t *words, half *scales) {
  EACH(i, size_t(v.k) * v.n / 8) {
    const int slice = int(i / (2 * size_t(v.n))), place = int(i % (2 * size_t(v.n)));
    words[i] = fragment_word(v, 16 * slice, place / 128 * 64 + place % 4 * 16, place % 128 / 4);
  }
  // A lane's eight column tiles side by side: one read of 16 bytes.
  EACH(i, size_t(v.k / v.group) * v.n) {
    const int g = int(i / v.n), place = int(i % v.n);
    scales[i] = v.scale(g, place / 64 * 64 + 8 * (place % 8) + place % 64 / 8);
  }
}

__global__ void fill_codes(Values v, uint8_t *codes) {
  EACH(i, size_t(v.k) * v.n) codes[i] = uint8_t(v.code(int(i / v.n), int(i % v.n)));
}

// plain: a thread an output, k in order, weights rounded to half as every kernel rounds them.
__global__ void plain(Values v, const half *x, const uint8_t *codes, float *y, int rows) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (column >= v.n || row >= rows) return;
  float sum = 0;
  for (int g = 0; g < v.k / v.group; g++) {
    const int zero = v.zero(g, column);
    const half scale = v.scale(g, column);
    for (int k = g * v.group; k < (g + 1) * v.group; k++) {
      const half w = __hmul_rn(__int2half_rn(int(codes[size_t(k) * v.n + column]) - zero), scale);
      sum = fmaf(__half2float(x[size_t(row) * v.k + k]), __half2float(w), sum);
    }
  }
  y[size_t(row) * v.n + column] = sum;
}
