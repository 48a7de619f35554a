// Norms whose results go to fp8: the norm in memory of its own, its largest magnitudes, and quantize.
#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

Tensor temporary(DType dtype, int rank, int64_t rows, int64_t width) {
  Tensor t;
  t.dtype = dtype, t.rank = rank, t.shape = {rows, width}, t.row_stride = width;
  t.data = std::make_shared_for_overwrite<std::byte[]>(rows * width * size_of(dtype));
  return t;
}
// What a norm of x gives.
Tensor normed(const Tensor& x) { return temporary(x.dtype, 2, x.size(0), x.size(1)); }

Tensor largest(const Tensor& x, int64_t scales) {
  const Tensor y = temporary(DType::f32, 1, scales, 1);
  if (scales == 1) amax(x, y);
  else row_amax(x, y);
  return y;
}

}  // namespace

void rms_norm_quantize(const Tensor& x, const Tensor& weight, float eps, int64_t scales, DType to, const Tensor& y,
                       const Tensor& scale) {
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  rms_norm(x, weight, eps, norm);
  quantize(norm, largest(norm, scales), to, y, scale);
}

void add_rms_norm_quantize(const Tensor& residual, const Tensor& x, const Tensor& weight, float eps, int64_t scales,
                           DType to, const Tensor& y, const Tensor& scale) {
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  add_rms_norm(residual, x, weight, eps, norm);
  quantize(norm, largest(norm, scales), to, y, scale);
}

void gated_rms_norm_quantize(const Tensor& x, const Tensor& z, const Tensor& weight, int64_t groups, float eps,
                             int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  check_groups(groups, x.size(1));
  check_scales(scales, "T", x.size(0));
  const Tensor norm = normed(x);
  gated_rms_norm(x, z, weight, groups, eps, norm);
  quantize(norm, largest(norm, scales), to, y, scale);
}

void rms_norm_quantize_transpose(const Tensor& x, const Tensor& weight, float eps, DType to, const Tensor& y,
                                 const Tensor& transposed, const Tensor& scale) {
  const Tensor norm = normed(x);
  rms_norm(x, weight, eps, norm);
  quantize_transpose(norm, largest(norm, 1), to, y, transposed, scale);
}

}  // namespace nemotron_h::cpu
