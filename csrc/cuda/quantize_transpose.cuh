// Rows to fp8 in both layouts at once: a GEMM's operand for either of its dimensions.
//
// A block takes a tile of kTile tokens and columns, a thread packs of columns from four rows at a time, so that a
// column of them is a 32-bit word of the transposed tile. Its words lie at `word ^ 2 * pack`: a warp's 16 packs times
// 2 words are in 32 banks, and pairs of words stay together for the way out.
#pragma once

#include "cuda/fp8.cuh"
#include "cuda/rows.cuh"

namespace nemotron_h::cuda::both_layouts {

constexpr int kThreads = 256;
constexpr int kTile = 128;  // 128 bytes of a row of either result

// What becomes of elements before they are quantised: of_column(d) and of_row(t) are asked for at once, and apply(v,
// row, column) changes kPack elements.
struct Unchanged {
  struct Nothing {};
  __device__ Nothing of_column(int64_t, int64_t) const { return {}; }
  __device__ Nothing of_row(int64_t) const { return {}; }
  __device__ void apply(float (&)[kPack], Nothing, Nothing) const {}
};

template <class E, class To, int kN, class Change>
__global__ void __launch_bounds__(kThreads, 1)
    kernel(Rows<const E> x, Change change, const float* amax, Rows<To> y, Rows<To> transposed, float* inverse,
           int64_t T, int64_t D) {
  wait_for_previous_launch();
  constexpr int kPacks = kTile / kPack, kRows = 4, kGroups = kTile / kRows, kAtOnce = kThreads / kPacks,
                kTimes = kGroups / kAtOnce;
  auto& tile = shared<uint32_t[kTile][kGroups], struct Tile>();
  const int64_t t0 = int64_t{blockIdx.x} * kTile, d0 = int64_t{blockIdx.y} * kTile;
  const int pack = threadIdx.x % kPacks, group = threadIdx.x / kPacks;
  const int64_t d = d0 + pack * kPack;

  const auto token = [&](int k, int i) { return t0 + (group + k * kAtOnce) * kRows + i; };
  Pack<E, kPack> packs[kTimes][kRows];
  decltype(change.of_row(0)) of_row[kTimes][kRows];
#pragma unroll
  for (int k = 0; k < kTimes; ++k)
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int64_t t = min(token(k, i), T - 1);
      packs[k][i] = load_pack<kN>(x[t], d, D);
      of_row[k][i] = change.of_row(t);
    }
  const auto of_column = change.of_column(d, D);

  const float scale = scale_from_amax<To>(*amax);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *inverse = 1 / scale;

#pragma unroll
  for (int k = 0; k < kTimes; ++k) {
    Pack<To, kPack> narrowed[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float v[kPack];
      widen(packs[k][i], v);
      change.apply(v, of_row[k][i], of_column);
#pragma unroll
      for (int j = 0; j < kPack; ++j) v[j] *= scale;
      narrowed[i] = narrow<To>(v);
      if (token(k, i) < T) store_pack<kN>(y[token(k, i)], d, D, narrowed[i]);
    }
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      uint32_t word = 0;
#pragma unroll
      for (int i = 0; i < kRows; ++i) word |= uint32_t{narrowed[i].v[j].bits} << 8 * i;
      tile[pack * kPack + j][(group + k * kAtOnce) ^ 2 * pack] = word;
    }
  }
  __syncthreads();

  for (int row = threadIdx.x / kPacks; row < kTile && d0 + row < D; row += kAtOnce) {
    const int64_t t = t0 + pack * kPack;
    const auto* tokens = reinterpret_cast<const Pack<To, kPack>*>(&tile[row][2 * pack ^ 2 * (row / kPack)]);
    store_pack<kN>(transposed[d0 + row], t, T, *tokens);
  }
}

// x changed and times its scale, to y and `transposed`.
template <class E, class To, int kN, class Change>
void run(const Tensor& x, const Change& change, const float* amax, const Tensor& y, const Tensor& transposed,
         float* inverse) {
  const int64_t T = x.size(0), D = x.size(1);
  const Shape shape{.grid = {static_cast<unsigned>(ceil_div(T, kTile)), static_cast<unsigned>(ceil_div(D, kTile))},
                    .block = kThreads};
  launch(kernel<E, To, kN, Change>, shape, rows<const E>(x), change, amax, rows<To>(y), rows<To>(transposed), inverse,
         T, D);
}

}  // namespace nemotron_h::cuda::both_layouts
