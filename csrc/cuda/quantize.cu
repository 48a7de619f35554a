// fp8 with current scaling, as Transformer Engine does it (Float8CurrentScaling, amax_epsilon 0, scales not
// confined to powers of two): the largest magnitude becomes the format's largest value.
#include <cfloat>
#include <cmath>

#include "checks.h"
#include "cuda/rows.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 256, kEach = 4;

// ---- largest magnitudes

// The largest of a row that this thread sees.
template <int kN, class E>
__device__ float magnitude(const E* row, int64_t D) {
  const int64_t step = int64_t{blockDim.x} * kN;
  float most = 0;
  for (int64_t first = int64_t{threadIdx.x} * kN; first < D; first += kEach * step) {
    Pack<E, kN> packs[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) packs[i] = load_within<kN>(row, first + i * step, D);
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kN; ++j) most = fmaxf(most, fabsf(widen(packs[i].v[j])));
  }
  return most;
}

template <class E, int kN>
__global__ void __launch_bounds__(kThreads) row_amax_kernel(Rows<const E> x, float* y, int64_t D) {
  const float most = block_reduce<kThreads, struct Most>(magnitude<kN>(x[blockIdx.x], D), Max{});
  if (threadIdx.x == 0) y[blockIdx.x] = most;
}

__global__ void zero_kernel(float* y) { *y = 0; }

// *y was 0. Floats that are not negative compare as their bits do, so the order of the blocks does not matter.
template <class E, int kN>
__global__ void __launch_bounds__(kThreads) amax_kernel(Rows<const E> x, float* y, int64_t T, int64_t D) {
  float most = 0;
  for (int64_t t = blockIdx.x; t < T; t += gridDim.x) most = fmaxf(most, magnitude<kN>(x[t], D));
  most = block_reduce<kThreads, struct Most>(most, Max{});
  if (threadIdx.x == 0) atomicMax(reinterpret_cast<int*>(y), __float_as_int(most));
}

// A block for each of `rows` rows.
Shape blocks_of_rows(int64_t rows, int64_t packs) {
  return {.grid = static_cast<unsigned>(rows), .block = threads_for(packs, kEach, kThreads)};
}

// ---- scales

template <class To>
constexpr float kLargest = 0;
template <>
constexpr float kLargest<e4m3> = 448;
template <>
constexpr float kLargest<e5m2> = 57344;

// compute_scale_from_amax of Transformer Engine's common/recipe/recipe_common.cuh.
template <class To>
__device__ float scale_from_amax(float amax) {
  if (!(amax > 0) || amax == INFINITY) return 1;
  return fminf(kLargest<To> / amax, FLT_MAX);
}

// inverse[r] = 1 / scale, where there is nothing to be scaled.
template <class To>
__global__ void scales_kernel(const float* amax, float* inverse) {
  inverse[blockIdx.x] = 1 / scale_from_amax<To>(amax[blockIdx.x]);
}

template <class To>
struct Quantize {
  const float* amax;
  float* inverse;
  int64_t R;
  __device__ auto operator()(int64_t t, bool first) const {
    const float scale = scale_from_amax<To>(amax[R == 1 ? 0 : t]);
    if (first && t < R) inverse[t] = 1 / scale;
    return [scale](float x) { return x * scale; };
  }
};

struct Dequantize {
  const float* scales;
  int64_t R;
  __device__ auto operator()(int64_t t, bool) const {
    return [scale = scales[R == 1 ? 0 : t]](float x) { return x * scale; };
  }
};

// ---- both layouts at once

constexpr int kTile = 128;  // tokens, and columns, of a block: 128 bytes of a row of either result

// A thread takes packs of columns from four rows at a time, so that a column of them is a 32-bit word of the
// transposed tile. Its words lie at `word ^ 2 * pack`: a warp's 16 packs times 2 words are in 32 banks, and pairs of
// words stay together for the way out.
template <class E, class To, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    quantize_transpose_kernel(Rows<const E> x, const float* amax, Rows<To> y, Rows<To> transposed, float* inverse,
                              int64_t T, int64_t D) {
  constexpr int kPacks = kTile / kPack, kRows = 4, kGroups = kTile / kRows, kAtOnce = kThreads / kPacks,
                kTimes = kGroups / kAtOnce;
  auto& tile = shared<uint32_t[kTile][kGroups], struct Tile>();
  const int64_t t0 = int64_t{blockIdx.x} * kTile, d0 = int64_t{blockIdx.y} * kTile;
  const int pack = threadIdx.x % kPacks, group = threadIdx.x / kPacks;
  const int64_t d = d0 + pack * kPack;

  const auto token = [&](int k, int i) { return t0 + (group + k * kAtOnce) * kRows + i; };
  Pack<E, kPack> packs[kTimes][kRows];
#pragma unroll
  for (int k = 0; k < kTimes; ++k)
#pragma unroll
    for (int i = 0; i < kRows; ++i) packs[k][i] = load_pack<kN>(x[min(token(k, i), T - 1)], d, D);

  const float scale = scale_from_amax<To>(*amax);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *inverse = 1 / scale;

#pragma unroll
  for (int k = 0; k < kTimes; ++k) {
    Pack<To, kPack> narrowed[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float v[kPack];
#pragma unroll
      for (int j = 0; j < kPack; ++j) v[j] = widen(packs[k][i].v[j]) * scale;
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

template <class To>
void scales(const Tensor& amax, const Tensor& inverse) {
  launch(scales_kernel<To>, {.grid = static_cast<unsigned>(amax.numel())}, amax.as<float>(), inverse.as<float>());
}

}  // namespace

void amax(const Tensor& x, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  launch(zero_kernel, {}, y.as<float>());
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(D, x), [&]<int kN>() {
      Shape shape = blocks_of_rows(T, ceil_div(D, kN));
      shape.grid.x = static_cast<unsigned>(std::min<int64_t>(T, 8 * current().processors));
      launch(amax_kernel<E, kN>, shape, rows<const E>(x), y.as<float>(), T, D);
    });
  });
}

void row_amax(const Tensor& x, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(D, x), [&]<int kN>() {
      launch(row_amax_kernel<E, kN>, blocks_of_rows(T, ceil_div(D, kN)), rows<const E>(x), y.as<float>(), D);
    });
  });
}

void quantize(const Tensor& x, const Tensor& amax, DType to, const Tensor& y, const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1), R = amax.size(0);
  check_scales("amax", amax, "T", T);
  with_fp8(to, [&]<class To>() {
    if (x.numel() == 0) return scales<To>(amax, scale);
    with_act(x.dtype, [&]<class E>() {
      map(packs(D, x, y), T, D, Quantize<To>{amax.as<float>(), scale.as<float>(), R}, rows<To>(y), rows<const E>(x));
    });
  });
}

void dequantize(const Tensor& x, const Tensor& scale, DType to, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  check_scales("scale", scale, "T", T);
  with_fp8(x.dtype, [&]<class E>() {
    with_act(to, [&]<class To>() {
      map(packs(D, x, y), T, D, Dequantize{scale.as<float>(), scale.size(0)}, rows<To>(y), rows<const E>(x));
    });
  });
}

void quantize_transpose(const Tensor& x, const Tensor& amax, DType to, const Tensor& y, const Tensor& transposed,
                        const Tensor& scale) {
  const int64_t T = x.size(0), D = x.size(1);
  const Shape shape{.grid = {static_cast<unsigned>(ceil_div(T, kTile)), static_cast<unsigned>(ceil_div(D, kTile))},
                    .block = kThreads};
  with_fp8(to, [&]<class To>() {
    if (x.numel() == 0) return scales<To>(amax, scale);
    with_act(x.dtype, [&]<class E>() {
      with_packs(packs(D, x, y) && packs(T, transposed), [&]<int kN>() {
        launch(quantize_transpose_kernel<E, To, kN>, shape, rows<const E>(x), amax.as<float>(), rows<To>(y),
               rows<To>(transposed), scale.as<float>(), T, D);
      });
    });
  });
}

}  // namespace nemotron_h::cuda
