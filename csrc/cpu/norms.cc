// Root mean square norms, over rows or over groups within rows.
#include <cmath>

#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

// y = x * rsqrt(mean(x^2) + eps) * weight over n elements; y may be x.
void normalize(const float* x, const float* weight, float eps, float* y, int64_t n) {
  const float scale = 1 / std::sqrt(simd().sum_squares(x, n) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

}  // namespace

void rms_norm(const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  const int64_t D = x.size(1);
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch in(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      float* result = floats_for(y, t, out);
      normalize(load_row(x, t, in), weight.as<float>(), eps, result, D);
      finish_row(y, t, result);
    }
  });
}

void add_rms_norm(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, const Tensor& y) {
  const int64_t D = x.size(1);
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch a(D), b(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      const float *before = load_row(residual, t, a), *added = load_row(x, t, b);
      float* sum = floats_for(residual, t, a);
      for (int64_t d = 0; d < D; ++d) sum[d] = before[d] + added[d];
      finish_row(residual, t, sum);

      // The norm of what was stored: what rms_norm would read.
      float* result = floats_for(y, t, out);
      normalize(load_row(residual, t, a), weight.as<float>(), eps, result, D);
      finish_row(y, t, result);
    }
  });
}

void gated_rms_norm(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                    const Tensor& y) {
  const int64_t D = x.size(1);
  check_groups(groups, D);
  const int64_t size = D / groups;
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch a(D), b(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      const float *values = load_row(x, t, a), *gate = load_row(z, t, b);
      float* result = floats_for(y, t, out);
      simd().silu(gate, result, D);
      for (int64_t d = 0; d < D; ++d) result[d] *= values[d];
      for (int64_t d = 0; d < D; d += size)
        normalize(result + d, weight.as<float>() + d, eps, result + d, size);
      finish_row(y, t, result);
    }
  });
}

}  // namespace nemotron_h::cpu
