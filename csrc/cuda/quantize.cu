// fp8 with current scaling: largest magnitudes, and elements by the scales that follow from them.
#include "checks.h"
#include "cuda/fp8.cuh"
#include "cuda/quantize_transpose.cuh"
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
  wait_for_previous_launch();
  const float most = block_reduce<kThreads, struct Most>(magnitude<kN>(x[blockIdx.x], D), Max{});
  if (threadIdx.x == 0) y[blockIdx.x] = most;
}

__global__ void __launch_bounds__(kThreads) zero_kernel(float* y, int64_t n) {
  wait_for_previous_launch();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) y[i] = 0;
}

// *y was 0.
template <class E, int kN>
__global__ void __launch_bounds__(kThreads) amax_kernel(Rows<const E> x, float* y, int64_t T, int64_t D) {
  wait_for_previous_launch();
  float most = 0;
  for (int64_t t = blockIdx.x; t < T; t += gridDim.x) most = fmaxf(most, magnitude<kN>(x[t], D));
  most = block_reduce<kThreads, struct Most>(most, Max{});
  if (threadIdx.x == 0) raise(y, most);
}

// A block for each of `rows` rows.
Shape blocks_of_rows(int64_t rows, int64_t packs) {
  return {.grid = static_cast<unsigned>(rows), .block = threads_for(packs, kEach, kThreads)};
}

// ---- scales

// inverse[r] = 1 / scale, where there is nothing to be scaled.
template <class To>
__global__ void scales_kernel(const float* amax, float* inverse) {
  wait_for_previous_launch();
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

template <class To>
void scales(const Tensor& amax, const Tensor& inverse) {
  launch(scales_kernel<To>, {.grid = static_cast<unsigned>(amax.numel())}, amax.as<float>(), inverse.as<float>());
}

}  // namespace

void zero(float* y, int64_t n) {
  launch(zero_kernel, {.grid = static_cast<unsigned>(ceil_div(n, kThreads)), .block = kThreads}, y, n);
}

void amax(const Tensor& x, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  zero(y.as<float>(), 1);
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
  with_fp8(to, [&]<class To>() {
    if (x.numel() == 0) return scales<To>(amax, scale);
    with_act(x.dtype, [&]<class E>() {
      with_packs(packs(D, x, y) && packs(T, transposed), [&]<int kN>() {
        both_layouts::run<E, To, kN>(x, both_layouts::Unchanged{}, amax.as<float>(), y, transposed,
                                     scale.as<float>());
      });
    });
  });
}

}  // namespace nemotron_h::cuda
