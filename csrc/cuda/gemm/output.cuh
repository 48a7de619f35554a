// What becomes of the sums of a product, and which tile of y a block computes.
#pragma once

#include "checks.h"
#include "cuda/kernel.cuh"

namespace nemotron_h::cuda::gemm {

// y[m,n] = sum * x_scale[m] * scale + bias[n], in f32, rounded once when stored. Null leaves one out.
struct Output {
  void* data;
  int64_t M, N;
  bool f32, packed;      // else bf16; whether 8 columns from a multiple of 8 on are aligned as kernel.cuh wants them
  const float* x_scale;  // [M], or [1] with x_scale_step 0
  int x_scale_step;
  const float* scale;  // [1]
  const float* bias;   // [N]

  // kN sums of row m from column n on, a multiple of kN.
  template <int kN>
  __device__ void store(int64_t m, int64_t n, float (&sums)[kN]) const {
    static_assert(kPack % kN == 0);
    if (m >= M || n >= N) return;
    const float of_row = x_scale ? x_scale[m * x_scale_step] : 1, of_all = scale ? *scale : 1;
#pragma unroll
    for (int i = 0; i < kN; ++i)  // adding -0 leaves all as they are
      sums[i] = fmaf(sums[i] * of_row, of_all, bias && n + i < N ? bias[n + i] : -0.0f);
    if (f32) put(static_cast<float*>(data) + m * N + n, N - n, sums);
    else put(static_cast<bf16*>(data) + m * N + n, N - n, sums);
  }

 private:
  template <class T, int kN>
  __device__ void put(T* to, int64_t left, const float (&sums)[kN]) const {
    if (packed) return cuda::store(to, sums);
#pragma unroll
    for (int i = 0; i < kN; ++i)
      if (i < left) to[i] = narrow<T>(sums[i]);
  }
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
