// Into which tiles a product y[M,N] = x[M,K] weight[N,K]' is cut. K is never split, and every tile adds up the products
// of an element in the same order of k: the choice is of speed alone, and a row has the same bits in any batch.
#pragma once

#include <cstdint>
#include <type_traits>

namespace nemotron_h::cuda::gemm {

// What a block computes on tensor cores, and how it is fed.
template <int kRowsOfY, int kColsOfY, int kWarpsDown, int kWarpsAcross, int kSlabsOfStage, int kStagesHeld>
struct Tile {
  static constexpr int kRows = kRowsOfY, kCols = kColsOfY;
  static constexpr int kDown = kWarpsDown, kAcross = kWarpsAcross;  // warps along its rows and columns
  static constexpr int kSlabs = kSlabsOfStage;  // of k (operand.cuh) that are copied at once, a stage,
  static constexpr int kStages = kStagesHeld;   // of which shared memory has so many
  static constexpr int kThreads = 32 * kDown * kAcross;
};

// Of few rows, time goes into reading weights: narrow, so that there are blocks for all SMs, and deep, as memory
// answers late. Of many it goes into products: 64 x 32 a warp, to read shared memory seldom.
using FewRows = Tile<16, 32, 1, 4, 4, 6>;
using SomeRows = Tile<64, 32, 2, 2, 4, 4>;
using ManyRows = Tile<128, 128, 2, 4, 1, 4>;
enum class Rows { few, some, many };

// Whether tiles of 128 x 128 occupy at least half of the GPU.
constexpr bool fills(int64_t M, int64_t N, int processors) {
  return 2 * ((M + 127) / 128) * ((N + 127) / 128) >= processors;
}
constexpr Rows choose(int64_t M, int64_t N, int processors) {
  if (M <= FewRows::kRows) return Rows::few;
  return M > SomeRows::kRows && fills(M, N, processors) ? Rows::many : Rows::some;
}
static_assert(choose(1, 18560, 132) == Rows::few);    // decoding, in_proj of the 8B model
static_assert(choose(64, 4096, 132) == Rows::some);   // a batch
static_assert(choose(256, 4096, 132) == Rows::some);  // 64 tiles of 128 x 128
static_assert(choose(8192, 4096, 132) == Rows::many);  // prefill

// f.template operator()<Tile>()
template <class F>
void with_tile(int64_t M, int64_t N, int processors, F f) {
  switch (choose(M, N, processors)) {
    case Rows::few: return f.template operator()<FewRows>();
    case Rows::some: return f.template operator()<SomeRows>();
    case Rows::many: return f.template operator()<ManyRows>();
  }
}

// The same for sums in f32 without tensor cores, by 256 threads.
template <int kRowsOfY, int kColsOfY>
struct F32Tile {
  static constexpr int kRows = kRowsOfY, kCols = kColsOfY;
};
template <class F>
void with_f32_tile(int64_t M, int64_t N, int processors, F f) {
  if (M > 16 && fills(M, N, processors)) f.template operator()<F32Tile<128, 128>>();
  else f.template operator()<F32Tile<16, 64>>();
}

}  // namespace nemotron_h::cuda::gemm
