// Norms, and a gated activation, whose results go to fp8: the result in memory of its own, its largest magnitudes, and
// quantize.
#include "cpu/quantize.h"

#include "checks.h"

namespace nemotron_h::cpu {
namespace {

// What a norm of x, or another op of its size, gives.
Tensor normed(const Tensor& x) { return temporary(x.dtype, 2, {x.size(0), x.size(1)}); }

}  // namespace

void rms_norm_quantize(const Tensor& x, const Tensor& weight, float eps, int64_t scales, DType to, const Tensor& y,
                       const Tensor& scale) {
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  rms_norm(x, weight, eps, norm);
  quantize_by_own(norm, scales, to, y, scale);
}

void add_rms_norm_quantize(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, int64_t scales,
                           DType to, const Tensor& y, const Tensor& scale) {
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  add_rms_norm(residual, x, weight, eps, norm);
  quantize_by_own(norm, scales, to, y, scale);
}

void gated_rms_norm_quantize(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                             int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  check_groups(groups, x.size(1));
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  gated_rms_norm(x, z, weight, groups, eps, norm);
  quantize_by_own(norm, scales, to, y, scale);
}

void silu_mul_quantize(const Tensor& gate, const Tensor& up, int64_t scales, DType to, const Tensor& y,
                       const Tensor& scale) {
  check_scales(scales, "T", gate.size(0));
  const Tensor product = normed(gate);
  silu_mul(gate, up, product);
  quantize_by_own(product, scales, to, y, scale);
}

void rms_norm_quantize_transpose(const Tensor& x, const Tensor& weight, float eps, DType to, const Tensor& y,
                                 const Tensor& transposed, const Tensor& scale) {
  const Tensor norm = normed(x);
  rms_norm(x, weight, eps, norm);
  const Tensor largest = temporary(DType::f32, 1, {1});
  amax(norm, largest);
  quantize_transpose(norm, largest, to, y, transposed, scale);
}

}  // namespace nemotron_h::cpu
