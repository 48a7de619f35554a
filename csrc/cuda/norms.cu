// Root mean square norms, over rows or over groups within rows.
//
// A block takes a row (or a group of one) and passes over memory once: kHeld packs a thread stay in registers between
// the sum of squares and the product, and the weights arrive meanwhile. What a row has beyond 8192 elements is read
// a second time, from the cache.
#include "checks.h"
#include "cuda/rows.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 512, kHeld = 2;

// Of those of a pack that lie in the row.
template <int kN>
__device__ float sum_squares(const float (&v)[kPack], int64_t d, int64_t D) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) sum += d + (kN == kPack ? 0 : i) < D ? v[i] * v[i] : 0;
  return sum;
}

// y = u * rsqrt(mean(u^2) + eps) * weight over D elements. read(d, v) gives kPack elements of u from d on, and
// keep(d, v) is told them again when all have been read.
template <int kN, class T, class Read, class Keep>
__device__ void normalize(int64_t D, const float* weight, float eps, T* y, Read read, Keep keep) {
  const int64_t step = int64_t{blockDim.x} * kPack, first = int64_t{threadIdx.x} * kPack;
  const int64_t rest = first + kHeld * step;
  float held[kHeld][kPack], squares = 0;
  Pack<float, kPack> weights[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) read(first + i * step, held[i]);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) weights[i] = load_pack<kN>(weight, first + i * step, D);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) squares += sum_squares<kN>(held[i], first + i * step, D);
#pragma unroll 1
  for (int64_t d = rest; d < D; d += step) {
    float u[kPack];
    read(d, u);
    squares += sum_squares<kN>(u, d, D);
  }
  const float mean = block_reduce<kThreads, struct Squares>(squares, Sum{}) / static_cast<float>(D);
  const float scale = rsqrtf(mean + eps);

  const auto write = [&](int64_t d, float (&u)[kPack], const Pack<float, kPack>& by) {
    keep(d, u);
#pragma unroll
    for (int i = 0; i < kPack; ++i) u[i] = u[i] * scale * by.v[i];
    store_pack<kN>(y, d, D, u);
  };
#pragma unroll
  for (int i = 0; i < kHeld; ++i) write(first + i * step, held[i], weights[i]);
#pragma unroll 1
  for (int64_t d = rest; d < D; d += step) {
    float u[kPack];
    read(d, u);
    write(d, u, load_pack<kN>(weight, d, D));
  }
}

struct Forget {
  __device__ void operator()(int64_t, const float (&)[kPack]) const {}
};

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    rms_norm_kernel(Rows<const T> x, const float* weight, float eps, Rows<T> y, int64_t D) {
  const T* row = x[blockIdx.x];
  const auto read = [&](int64_t d, float (&v)[kPack]) { widen(load_pack<kN>(row, d, D), v); };
  normalize<kN>(D, weight, eps, y[blockIdx.x], read, Forget{});
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    add_rms_norm_kernel(Rows<T> residual, Rows<const T> x, const float* weight, float eps, Rows<T> y, int64_t D) {
  T* before = residual[blockIdx.x];
  const T* added = x[blockIdx.x];
  const auto read = [&](int64_t d, float (&v)[kPack]) {
    const auto a = load_pack<kN>(before, d, D), b = load_pack<kN>(added, d, D);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = widen(a.v[i]) + widen(b.v[i]);
    widen(narrow<T>(v), v);  // what rms_norm would read
  };
  const auto keep = [&](int64_t d, const float (&v)[kPack]) { store_pack<kN>(before, d, D, v); };
  normalize<kN>(D, weight, eps, y[blockIdx.x], read, keep);
}

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    gated_rms_norm_kernel(Rows<const T> x, Rows<const T> z, const float* weight, unsigned groups, float eps, Rows<T> y,
                          int64_t size) {
  const int64_t t = blockIdx.x / groups, group = blockIdx.x % groups * size;
  const T *values = x[t] + group, *gates = z[t] + group;
  const auto read = [&](int64_t d, float (&v)[kPack]) {
    const auto a = load_pack<kN>(values, d, size), gate = load_pack<kN>(gates, d, size);
#pragma unroll
    for (int i = 0; i < kPack; ++i) v[i] = widen(a.v[i]) * silu(widen(gate.v[i]));
  };
  normalize<kN>(size, weight + group, eps, y[t] + group, read, Forget{});
}

// For `count` rows or groups, none where they are empty.
Shape blocks(int64_t count, int64_t width) {
  if (width == 0) count = 0;
  return {.grid = static_cast<unsigned>(count), .block = threads_for(ceil_div(width, kPack), kHeld, kThreads)};
}

}  // namespace

void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(D, x, weight, y), [&]<int kN>() {
      launch(rms_norm_kernel<E, kN>, blocks(T, D), rows<const E>(x), weight.as<float>(), eps, rows<E>(y), D);
    });
  });
}

void add_rms_norm(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(D, residual, x, weight, y), [&]<int kN>() {
      launch(add_rms_norm_kernel<E, kN>, blocks(T, D), rows<E>(residual), rows<const E>(x), weight.as<float>(), eps,
             rows<E>(y), D);
    });
  });
}

void gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                    const Tensor& y) {
  const int64_t T = x.size(0), D = x.size(1);
  check_groups(groups, D);
  const int64_t size = D / groups;
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(size, x, z, weight, y), [&]<int kN>() {
      launch(gated_rms_norm_kernel<E, kN>, blocks(T * groups, size), rows<const E>(x), rows<const E>(z),
             weight.as<float>(), static_cast<unsigned>(groups), eps, rows<E>(y), size);
    });
  });
}

}  // namespace nemotron_h::cuda
