// Tiles in shared memory, and the products of 16 x 16 blocks that a warp makes of them: on tensor cores (mma.sync) if
// they are bf16; element by element, slow and as accurate as the CPU, if they are f32.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/ptx.cuh"

namespace nemotron_h::cuda {

// 16 x 16 sums over the lanes of a warp: columns 0 to 7 in d[0], 8 to 15 in d[1]. Of each half lane l holds rows l/4
// and l/4 + 8, and of these columns 2 (l%4) and the next.
using Sums = float[2][4];

// The row and the column in the block of d[half][e].
__device__ inline int sum_row(int e) { return threadIdx.x % kWarp / 4 + e / 2 * 8; }
__device__ inline int sum_column(int half, int e) { return 8 * half + 2 * (threadIdx.x % 4) + e % 2; }

// A 16 x 16 block of a tile as an operand: in registers, or where it is.
template <class T>
struct Operand;
template <>
struct Operand<bf16> {
  uint32_t pairs[4];  // rows 0 to 7 and 8 to 15 of columns 0 to 7, then of 8 to 15; each over the lanes as sums are
};
template <>
struct Operand<float> {
  const float* block;
  int row, column;  // from one to the next
};

// The block's rows, or, transposed, its columns, are `ld` elements apart.
template <bool kTransposed = false>
__device__ Operand<bf16> operand(const bf16* block, int ld) {
  const int lane = threadIdx.x % kWarp, row = lane / 8 % 2 * 8, column = lane / 16 * 8;
  Operand<bf16> r;
  if (kTransposed) ldmatrix_x4_trans(r.pairs, block + (column + lane % 8) * ld + row);
  else ldmatrix_x4(r.pairs, block + (row + lane % 8) * ld + column);
  return r;
}
template <bool kTransposed = false>
__device__ Operand<float> operand(const float* block, int ld) {
  return {block, kTransposed ? 1 : ld, kTransposed ? ld : 1};
}

// The sums, rounded to T, in a block of the warp's own.
template <class T>
__device__ void put(const Sums& d, T* block, int ld) {
  __syncwarp();  // all lanes have read what was there
#pragma unroll
  for (int half = 0; half < 2; ++half)
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      T* const to = block + sum_row(e) * ld + sum_column(half, 0);
      narrow_pair(d[half][e], d[half][e + 1], to[0], to[1]);
    }
  __syncwarp();
}

// d += a b^T.
__device__ inline void multiply(Sums& d, const Operand<bf16>& a, const Operand<bf16>& b) {
  mma_m16n8k16_bf16(d[0], a.pairs, {b.pairs[0], b.pairs[2]});
  mma_m16n8k16_bf16(d[1], a.pairs, {b.pairs[1], b.pairs[3]});
}
__device__ inline void multiply(Sums& d, const Operand<float>& a, const Operand<float>& b) {
  const float* const rows = a.block + sum_row(0) * a.row;
  const float* const columns = b.block + sum_column(0, 0) * b.row;
#pragma unroll 4
  for (int k = 0; k < 16; ++k) {
    const float left[2] = {rows[k * a.column], rows[8 * a.row + k * a.column]};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float* const right = columns + 8 * half * b.row + k * b.column;
      const float pair[2] = {right[0], right[b.row]};
#pragma unroll
      for (int e = 0; e < 4; ++e) d[half][e] = fmaf(left[e / 2], pair[e % 2], d[half][e]);
    }
  }
}

// Elements after each row of a tile: 16 bytes, so that the 8 rows of a matrix lie in different banks.
template <class T>
inline constexpr int kPadding = 16 / sizeof(T);
template <class T, int kRows, int kColumns>
using Tile = T[kRows][kColumns + kPadding<T>];

// Both fill whole blocks of 16 rows of a tile from `rows` x `columns` elements, neither of which is 0, with zeros
// outside: element by element, unless the matrix can be read a pack at a time.

// The copy is there after cp_async_wait_all() and a barrier.
template <int kThreads, class T, int kRows, int kWidth>
__device__ void copy(T (&tile)[kRows][kWidth], const T* from, int64_t stride, int rows, int columns, bool packs) {
  constexpr int kColumns = kWidth - kPadding<T>;
  const int filled = (rows + 15) / 16 * 16, each = packs ? 16 / sizeof(T) : 1;
  for (int i = threadIdx.x * each; i < filled * kColumns; i += kThreads * each) {
    const int row = i / kColumns, column = i % kColumns;
    const bool inside = row < rows && column < columns;
    const T* const at = inside ? from + row * stride + column : from;
    if (packs) cp_async_16(&tile[row][column], at, inside);
    else tile[row][column] = inside ? *at : T{};
  }
}

// Times factors[row], rounded to T. Each thread has several loads on their way at a time.
template <int kThreads, class T, int kRows, int kWidth>
__device__ void scale(T (&tile)[kRows][kWidth], const T* from, int64_t stride, int rows, int columns, bool packs,
                      const float* factors) {
  constexpr int kColumns = kWidth - kPadding<T>, kAtOnce = 8 / sizeof(T);
  const int filled = (rows + 15) / 16 * 16;
  if (!packs) {
    for (int i = threadIdx.x; i < filled * kColumns; i += kThreads) {
      const int row = i / kColumns, column = i % kColumns;
      const bool inside = row < rows && column < columns;
      tile[row][column] = narrow<T>(inside ? widen(from[row * stride + column]) * factors[row] : 0);
    }
    return;
  }
  for (int first = threadIdx.x * kPack; first < filled * kColumns; first += kThreads * kPack * kAtOnce) {
    Pack<T, kPack> loaded[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kThreads * kPack, row = at / kColumns, column = at % kColumns;
      loaded[i] = load<kPack>(from + min(row, rows - 1) * stride + min(column, columns - kPack));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const int at = first + i * kThreads * kPack, row = at / kColumns, column = at % kColumns;
      if (row >= filled) break;
      const bool inside = row < rows && column < columns;
#pragma unroll
      for (T& v : loaded[i].v) v = narrow<T>(inside ? widen(v) * factors[row] : 0);
      *reinterpret_cast<Pack<T, kPack>*>(&tile[row][column]) = loaded[i];
    }
  }
}

}  // namespace nemotron_h::cuda
