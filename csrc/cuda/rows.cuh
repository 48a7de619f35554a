// How a block shares out a row: in packs of kPack elements, or elements where rows are not aligned for that.
//
// map() is for ops that compute element by element. A block takes a piece of one row, and each of its threads
// issues the loads of kEach packs before it uses the first.
#pragma once

#include <tuple>

#include "cuda/kernel.cuh"

namespace nemotron_h::cuda {

// Loads past the end of a row give elements of it: unlike a branch, that leaves loads to be issued together.
template <int kN, class T>
__device__ Pack<T, kN> load_within(const T* row, int64_t d, int64_t D) { return load<kN>(row + min(d, D - kN)); }

// Elements d to d + kPack of a row of D. kN: as with_packs says; the bits do not depend on it.
template <int kN, class T>
__device__ Pack<T, kPack> load_pack(const T* row, int64_t d, int64_t D) {
  if constexpr (kN == kPack) {
    return load_within<kPack>(row, d, D);
  } else {
    Pack<T, kPack> pack;
#pragma unroll
    for (int i = 0; i < kPack; ++i) pack.v[i] = row[min(d + i, D - 1)];
    return pack;
  }
}

template <int kN, class T>
__device__ void store_pack(T* row, int64_t d, int64_t D, const Pack<T, kPack>& from) {
  if constexpr (kN == kPack) {
    if (d < D) store(row + d, from);
  } else {
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (d + i < D) row[d + i] = from.v[i];
  }
}

template <int kN, class T>
__device__ void store_pack(T* row, int64_t d, int64_t D, const float (&from)[kPack]) {
  store_pack<kN>(row, d, D, narrow<T>(from));
}

// Threads for `packs` packs, kEach a thread: whole warps, at most `most`.
inline unsigned threads_for(int64_t packs, int each, unsigned most) {
  return static_cast<unsigned>(std::clamp<int64_t>(ceil_div(packs, each * kWarp) * kWarp, kWarp, most));
}

// Rows of `width` cut into pieces, one a block.
template <int kN>
struct Pieces {
  static constexpr int kEach = 4, kThreads = 256;
  int64_t width;
  unsigned threads, of_row;

  explicit Pieces(int64_t row_size)
      : width(row_size), threads(threads_for(ceil_div(width, kN), kEach, kThreads)),
        of_row(static_cast<unsigned>(ceil_div(width, int64_t{kN} * kEach * threads))) {}
  Shape shape(int64_t rows) const { return {.grid = static_cast<unsigned>(rows * of_row), .block = threads}; }

  __device__ int64_t row() const { return blockIdx.x / of_row; }
  // Where this thread's pack i < kEach begins; not below `width`: it has none.
  __device__ int64_t begin(int i) const {
    return ((int64_t{blockIdx.x % of_row} * kEach + i) * blockDim.x + threadIdx.x) * kN;
  }
};

template <int kN, class OfRow, class Y, class... X>
__global__ void __launch_bounds__(Pieces<kN>::kThreads)
    map_kernel(Pieces<kN> pieces, OfRow of_row, Rows<Y> y, Rows<const X>... x) {
  wait_for_previous_launch();
  constexpr int kEach = Pieces<kN>::kEach;
  const int64_t t = pieces.row();
  std::tuple<Pack<X, kN>...> packs[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) packs[i] = {load_within<kN>(x[t], pieces.begin(i), pieces.width)...};
  const auto f = of_row(t, pieces.begin(0) == 0);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    if (pieces.begin(i) >= pieces.width) continue;
    float result[kN];
#pragma unroll
    for (int j = 0; j < kN; ++j)
      result[j] = std::apply([&](const Pack<X, kN>&... p) { return f(widen(p.v[j])...); }, packs[i]);
    store(y[t] + pieces.begin(i), result);
  }
}

// y[t][d] = f(x[t][d]...) for rows of `width`, where f = of_row(t, whether this is the row's first thread).
// packed: as packs() says of all of them.
template <class OfRow, class Y, class... X>
void map(bool packed, int64_t rows, int64_t width, OfRow of_row, Rows<Y> y, Rows<const X>... x) {
  with_packs(packed, [&]<int kN>() {
    const Pieces<kN> pieces(width);
    launch(map_kernel<kN, OfRow, Y, X...>, pieces.shape(rows), pieces, of_row, y, x...);
  });
}

}  // namespace nemotron_h::cuda
