// What becomes of the sums of a product, and which tile of y a block computes.
#pragma once

#include "checks.h"
#include "cuda/kernel.cuh"

namespace nemotron_h::cuda::gemm {

// y[m,n] = sum * x_scale[m] * scale + bias[n], then max(y, 0)^2 or y + what was there, in f32, rounded once when
// stored. Null leaves one out.
struct Output {
  void* data;
  int64_t M, N;
  bool f32, packed;      // else bf16; whether 8 columns from a multiple of 8 on are aligned as kernel.cuh wants them
  const float* x_scale = nullptr;  // [M], or [1] with x_scale_step 0
  int x_scale_step = 0;
  const float* scale = nullptr;  // [1]
  const float* bias = nullptr;   // [N]
  bool relu2 = false, add = false;
  float* amax = nullptr;  // [M], or [1] with amax_step 0: becomes the largest of what was there and of |y| as stored
  int amax_step = 0;

  // Of `count` rows from m on.
  Output rows(int64_t m, int64_t count) const {
    Output some = *this;
    some.data = static_cast<std::byte*>(data) + m * N * (f32 ? sizeof(float) : sizeof(bf16));
    some.M = count;
    if (x_scale) some.x_scale += m * x_scale_step;
    if (amax) some.amax += m * amax_step;
    return some;
  }

  // kN sums of row m from column n on, a multiple of kN. Gives the largest |y| that it stored, where amax wants it.
  template <int kN>
  __device__ float store(int64_t m, int64_t n, float (&sums)[kN]) const { return store(row(m), n, sums); }

  // The same where more of a row are stored: its scales are read once.
  struct Row {
    bool inside;
    int64_t first;  // element of y
    float scale, of_all;
  };
  __device__ Row row(int64_t m) const {
    return {m < M, m * N, m < M && x_scale ? x_scale[m * x_scale_step] : 1, scale ? *scale : 1};
  }
  template <int kN>
  __device__ float store(const Row& row, int64_t n, float (&sums)[kN]) const {
    static_assert(kPack % kN == 0);
    if (!row.inside || n >= N) return 0;
    if (packed) return store<true>(row, n, kN, sums);
    return store<false>(row, n, static_cast<int>(min(N - n, int64_t{kN})), sums);
  }

 private:
  // Of the kN columns `left` are inside, which are all where kWhole.
  template <bool kWhole, int kN>
  __device__ float store(const Row& row, int64_t n, int left, float (&sums)[kN]) const {
    float added[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) added[i] = bias && (kWhole || i < left) ? bias[n + i] : -0.0f;  // as if none
#pragma unroll
    for (int i = 0; i < kN; ++i) sums[i] = fmaf(sums[i] * row.scale, row.of_all, added[i]);
    if (relu2)
#pragma unroll
      for (int i = 0; i < kN; ++i) sums[i] = squared_relu(sums[i]);
    const int64_t at = row.first + n;
    return f32 ? put<kWhole>(static_cast<float*>(data) + at, left, sums)
               : put<kWhole>(static_cast<bf16*>(data) + at, left, sums);
  }

  template <bool kWhole, class T, int kN>
  __device__ float put(T* to, int left, float (&sums)[kN]) const {
    if (add) {
      float before[kN] = {};
      if constexpr (kWhole) load(to, before);
      else
#pragma unroll
        for (int i = 0; i < kN; ++i)
          if (i < left) before[i] = widen(to[i]);
#pragma unroll
      for (int i = 0; i < kN; ++i) sums[i] += before[i];
    }
    const Pack<T, kN> pack = narrow<T>(sums);
    if constexpr (kWhole) cuda::store(to, pack);
    else
#pragma unroll
      for (int i = 0; i < kN; ++i)
        if (i < left) to[i] = pack.v[i];
    float largest = 0;
    if (amax)
#pragma unroll
      for (int i = 0; i < kN; ++i)
        if (kWhole || i < left) largest = fmaxf(largest, fabsf(widen(pack.v[i])));
    return largest;
  }
};

// A warp's share of amax, where there is one: kLanes neighbouring lanes hold the same row of y.
template <int kLanes>
class Amax {
 public:
  __device__ explicit Amax(const Output& y) : y_(y) {}

  // After a store of row m by all lanes of the warp: what it gave.
  __device__ void add(int64_t m, float largest) {
    if (!y_.amax) return;
    if (y_.amax_step == 0) {
      largest_ = fmaxf(largest_, largest);
      return;
    }
#pragma unroll
    for (int by = kLanes / 2; by; by /= 2) largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, by));
    if (threadIdx.x % kLanes == 0 && m < y_.M) raise(y_.amax + m, largest);
  }

  // After the last row.
  __device__ void finish() {
    if (!y_.amax || y_.amax_step) return;
    largest_ = warp_reduce(largest_, Max{});
    if (threadIdx.x % kWarp == 0) raise(y_.amax, largest_);
  }

 private:
  const Output& y_;
  float largest_ = 0;
};

template <class Tile>
unsigned tiles(const Output& y) {
  const int64_t n = ceil_div(y.M, Tile::kRows) * ceil_div(y.N, Tile::kCols);
  expect(n <= INT32_MAX, "y is cut into " + std::to_string(n) + " tiles", "at most 2^31 - 1");
  return static_cast<unsigned>(n);
}

// The first row and column of this block's tile. Blocks that run together lie together, up to 16 tiles high, so that
// most of what they read is in L2.
struct Place { int64_t m, n; };
template <class Tile>
__device__ Place place(const Output& y) {
  constexpr int64_t kHigh = 16;
  const int64_t down = ceil_div(y.M, Tile::kRows), across = ceil_div(y.N, Tile::kCols);
  const int64_t group = blockIdx.x / (kHigh * across), within = blockIdx.x % (kHigh * across);
  const int64_t high = min(kHigh, down - group * kHigh);
  return {(group * kHigh + within % high) * Tile::kRows, within / high * Tile::kCols};
}

}  // namespace nemotron_h::cuda::gemm
