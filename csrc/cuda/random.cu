// Random weights: what limits it is arithmetic, so a thread makes whole packs of deviates, from two calls of Philox each.
#include "checks.h"
#include "cuda/rows.cuh"
#include "ops.h"
#include "random.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 8;  // for each processor, at most; they go on where all together have ended

// y [n]. CUDA's logf, sqrtf and sincospif, not the intrinsics: see docs/numerics.md.
template <class E, int kN>
__global__ void __launch_bounds__(kThreads) fill_normal_kernel(E* y, int64_t n, float deviation, int64_t seed) {
  wait_for_previous_launch();
  const int64_t step = int64_t{gridDim.x} * kThreads * kPack;
  for (int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kPack; i < n; i += step) {
    float v[kPack];
#pragma unroll
    for (int j = 0; j < kPack; j += 4) {
      const Points points = normal_points(seed, (i + j) / 4);
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        const float length = sqrtf(-2 * logf(points.v[p].share));
        float sine, cosine;
        sincospif(2 * points.v[p].turn, &sine, &cosine);
        v[j + 2 * p] = deviation * (length * cosine);
        v[j + 2 * p + 1] = deviation * (length * sine);
      }
    }
    store_pack<kN>(y, i, n, v);
  }
}

}  // namespace

void fill_normal(const Tensor& y, float deviation, int64_t seed) {
  check_deviation(deviation);
  const int64_t n = y.numel();
  const int64_t blocks = std::min<int64_t>(ceil_div(n, kThreads * kPack), kBlocks * current().processors);
  with_real(y.dtype, [&]<class E>() {
    with_packs(packs(n, y), [&]<int kN>() {
      launch(fill_normal_kernel<E, kN>, {.grid = static_cast<unsigned>(blocks), .block = kThreads}, y.as<E>(), n,
             deviation, seed);
    });
  });
}

}  // namespace nemotron_h::cuda
