// Products on tensor cores, of bf16, of fp8 or of both, by mma.sync: for every GPU of compute capability 8.0 or more.
//
// Stages of k come to shared memory by cp.async while earlier ones are multiplied. An element's sum is in an order
// that depends on k alone, so tiles of every shape give the same bits.
#pragma once

#include "cuda/gemm/config.h"
#include "cuda/gemm/operand.cuh"
#include "cuda/gemm/output.cuh"

namespace nemotron_h::cuda::gemm {

template <class Tile, class X, class W>
struct Stage {
  static_assert(kSlab<X> == kSlab<W>);
  static constexpr int kDepth = Tile::kSlabs * kSlab<X>;  // of k
  X x[Tile::kSlabs][Tile::kRows][kSlab<X>];
  W weight[Tile::kSlabs][Tile::kCols][kSlab<W>];
};

// sums[j] += 16 rows of a slab of x, of which this lane has parts of two, by 8 rows of weight.
template <class X, int kN>
__device__ void multiply(const uint32_t (&upper)[4], const uint32_t (&lower)[4], const uint32_t (&weight)[kN][4],
                         float (&sums)[kN][4]) {
  const uint32_t a[2][4] = {{upper[0], lower[0], upper[1], lower[1]}, {upper[2], lower[2], upper[3], lower[3]}};
  if constexpr (std::is_same_v<X, e4m3>) {
    // These tensor cores add with about 13 bits below the largest product (DeepSeek-V3, 3.3.2): only within a slab.
#pragma unroll
    for (int j = 0; j < kN; ++j) {
      float slab[4] = {};
      mma_m16n8k32<e4m3, e4m3>(slab, a[0], {weight[j][0], weight[j][1]});
      mma_m16n8k32<e4m3, e4m3>(slab, a[1], {weight[j][2], weight[j][3]});
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[j][e] += slab[e];
    }
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < kN; ++j)
        mma_m16n8k16_bf16(sums[j], a[half], {weight[j][2 * half], weight[j][2 * half + 1]});
    }
  }
}

// Blocks that an SM must have registers for. For e4m3 it is one: GPUs that multiply it have shared memory for no more,
// and where it is widened by the compiler, that takes registers.
template <class X>
inline constexpr int kBlocks = std::is_same_v<X, e4m3> ? 1 : 2;

template <class Tile, class X, class W>
__global__ void __launch_bounds__(Tile::kThreads, kBlocks<X>)
    tensor_core_kernel(Operand<X> x, Operand<W> weight, Output y) {
  wait_for_previous_launch();
  using S = Stage<Tile, X, W>;
  constexpr int kStages = Tile::kStages;
  constexpr int kRows = Tile::kRows / Tile::kDown, kCols = Tile::kCols / Tile::kAcross;  // of a warp
  constexpr int kM = kRows / 16, kN = kCols / 8;
  S* stages = static_cast<S*>(dynamic_smem());
  const auto [m0, n0] = place<Tile>(y);
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, r = lane / 4, q = lane % 4;
  const int row = warp / Tile::kAcross * kRows, col = warp % Tile::kAcross * kCols;

  const int blocks = static_cast<int>(ceil_div(x.K, S::kDepth));  // of k
  const auto copy = [&](int block) {
    if (block < blocks) {
      S& stage = stages[block % kStages];
      const int64_t k = int64_t{block} * S::kDepth;
      x.template copy<Tile::kRows, Tile::kSlabs, Tile::kThreads>(m0, k, &stage.x[0][0][0]);
      weight.template copy<Tile::kCols, Tile::kSlabs, Tile::kThreads>(n0, k, &stage.weight[0][0][0]);
    }
    cp_async_commit_group();  // even of nothing: waits count groups
  };

  float sums[kM][kN][4] = {};
#pragma unroll 1  // the loop below copies as well, and the code is long
  for (int block = 0; block < kStages - 1; ++block) copy(block);
  for (int block = 0; block < blocks; ++block) {
    cp_async_wait_group<kStages - 2>();
    __syncthreads();  // all have this stage, and are done with the one before, which is filled next
    copy(block + kStages - 1);
    const S& stage = stages[block % kStages];
#pragma unroll
    for (int slab = 0; slab < Tile::kSlabs; ++slab) {
      uint32_t b[kN][4];
#pragma unroll
      for (int j = 0; j < kN; ++j)  // rows in the order that gives a lane 2 * kN neighbouring columns of y
        load_quarter(stage.weight[slab][col + r / 2 * (2 * kN) + 2 * j + r % 2], q, weight.widening, b[j]);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
        uint32_t upper[4], lower[4];
        load_quarter(stage.x[slab][row + 16 * i + r], q, x.widening, upper);
        load_quarter(stage.x[slab][row + 16 * i + r + 8], q, x.widening, lower);
        multiply<X>(upper, lower, b, sums[i]);
      }
    }
  }

  Amax<4> amax(y);
#pragma unroll
  for (int i = 0; i < kM; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float neighbours[2 * kN];
#pragma unroll
      for (int j = 0; j < 2 * kN; ++j) neighbours[j] = sums[i][j / 2][2 * half + j % 2];
      const int64_t m = m0 + row + 16 * i + 8 * half + r;
      amax.add(m, y.store(m, n0 + col + q * (2 * kN), neighbours));
    }
  }
  amax.finish();
}

template <class X, class W>
void on_tensor_cores(const Tensor& x, const Tensor& weight, const Output& y) {
  with_tile(y.M, y.N, current().processors, [&]<class Tile>() {
    launch(tensor_core_kernel<Tile, X, W>,
           {.grid = tiles<Tile>(y), .block = Tile::kThreads, .smem = Tile::kStages * sizeof(Stage<Tile, X, W>)},
           Operand<X>(x), Operand<W>(weight), y);
  });
}

}  // namespace nemotron_h::cuda::gemm
