// Products summed by fused multiply-adds in f32, for operands that tensor cores would round: any types.
//
// 16 x 16 threads compute a tile of y. What they read becomes f32 on its way to shared memory, where there are two
// blocks of k: one is multiplied while the next is on its way. A sum goes up k, whatever the tile.
#pragma once

#include "cuda/gemm/config.h"
#include "cuda/gemm/output.cuh"

namespace nemotron_h::cuda::gemm {

struct AnyOperand {
  const void* data;
  DType dtype;
  int64_t rows, K, stride;

  explicit AnyOperand(const Tensor& t)
      : data(t.data.get()), dtype(t.dtype), rows(t.size(0)), K(t.size(1)), stride(t.row_stride) {}

  // This thread's share of kRows rows from `row` on by kDepth of k: elements threadIdx.x + i * kThreads, k innermost.
  template <int kDepth, int kThreads, int kEach>
  __device__ void read(int64_t row, int64_t k, float (&to)[kEach]) const {
    switch (dtype) {
      case DType::f32: return read<kDepth, kThreads>(static_cast<const float*>(data), row, k, to);
      case DType::bf16: return read<kDepth, kThreads>(static_cast<const bf16*>(data), row, k, to);
      case DType::f16: return read<kDepth, kThreads>(static_cast<const f16*>(data), row, k, to);
      case DType::e4m3: return read<kDepth, kThreads>(static_cast<const e4m3*>(data), row, k, to);
      default: return read<kDepth, kThreads>(static_cast<const e5m2*>(data), row, k, to);
    }
  }

 private:
  template <int kDepth, int kThreads, class T, int kEach>
  __device__ void read(const T* from, int64_t row, int64_t k, float (&to)[kEach]) const {
    T raw[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int e = threadIdx.x + i * kThreads;
      const int64_t m = row + e / kDepth, at = k + e % kDepth;
      raw[i] = m < rows && at < K ? from[m * stride + at] : T{};
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) to[i] = widen(raw[i]);
  }
};

template <class Tile>
__global__ void __launch_bounds__(256) f32_kernel(AnyOperand x, AnyOperand weight, Output y) {
  wait_for_previous_launch();
  constexpr int kThreads = 256, kDepth = 16, kGap = 4;  // the gap keeps columns of 4 on 16 bytes, and banks apart
  constexpr int kM = Tile::kRows / 16, kGroups = Tile::kCols / 64;  // a thread's rows, and its groups of 4 columns
  struct Block { float x[kDepth][Tile::kRows + kGap], weight[kDepth][Tile::kCols + kGap]; };
  auto& held = shared<Block[2], struct F32Blocks>();
  const auto [m0, n0] = place<Tile>(y);
  const int across = threadIdx.x % 16, down = threadIdx.x / 16;

  float of_x[Tile::kRows * kDepth / kThreads], of_weight[Tile::kCols * kDepth / kThreads];
  const auto read = [&](int block) {
    const int64_t k = int64_t{block} * kDepth;
    x.read<kDepth, kThreads>(m0, k, of_x);
    weight.read<kDepth, kThreads>(n0, k, of_weight);
  };
  const auto keep = [&](Block& to) {
    const int k = threadIdx.x % kDepth, row = threadIdx.x / kDepth;
#pragma unroll
    for (int i = 0; i < Tile::kRows * kDepth / kThreads; ++i) to.x[k][row + i * (kThreads / kDepth)] = of_x[i];
#pragma unroll
    for (int i = 0; i < Tile::kCols * kDepth / kThreads; ++i)
      to.weight[k][row + i * (kThreads / kDepth)] = of_weight[i];
  };

  float sums[kM][kGroups][4] = {};
  const int blocks = static_cast<int>(ceil_div(x.K, kDepth));
  if (blocks > 0) read(0);
  for (int block = 0; block < blocks; ++block) {
    Block& now = held[block % 2];
    keep(now);
    __syncthreads();  // this block is there, and nobody reads the one before, whose place the next will take
    if (block + 1 < blocks) read(block + 1);
#pragma unroll 4
    for (int k = 0; k < kDepth; ++k) {
      float a[kM];
      float4 b[kGroups];
#pragma unroll
      for (int i = 0; i < kM; ++i) a[i] = now.x[k][down * kM + i];
#pragma unroll
      for (int g = 0; g < kGroups; ++g) b[g] = reinterpret_cast<const float4&>(now.weight[k][g * 64 + across * 4]);
#pragma unroll
      for (int i = 0; i < kM; ++i) {
#pragma unroll
        for (int g = 0; g < kGroups; ++g) {
          const float four[4] = {b[g].x, b[g].y, b[g].z, b[g].w};
#pragma unroll
          for (int j = 0; j < 4; ++j) sums[i][g][j] = fmaf(a[i], four[j], sums[i][g][j]);
        }
      }
    }
  }

  Amax<16> amax(y);
#pragma unroll
  for (int i = 0; i < kM; ++i) {
    const int64_t m = m0 + down * kM + i;
    float largest = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) largest = fmaxf(largest, y.store(m, n0 + g * 64 + across * 4, sums[i][g]));
    amax.add(m, largest);
  }
  amax.finish();
}

inline void in_f32(const Tensor& x, const Tensor& weight, const Output& y) {
  with_f32_tile(y.M, y.N, current().processors, [&]<class Tile>() {
    launch(f32_kernel<Tile>, {.grid = tiles<Tile>(y), .block = 256}, AnyOperand(x), AnyOperand(weight), y);
  });
}

}  // namespace nemotron_h::cuda::gemm
