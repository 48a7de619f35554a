// Matrix products with weights as they are stored.
//
// What bf16 holds exactly is multiplied on tensor cores: activations in bf16 with weights in bf16 or fp8, and fp8 with
// fp8. The rest is summed in f32 without them.
#include "cuda/gemm/f32.cuh"
#include "cuda/gemm/tensor_cores.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

const float* optional(const Tensor& t) { return t ? t.as<float>() : nullptr; }
bool is_fp8(const Tensor& t) { return t.dtype == DType::e4m3 || t.dtype == DType::e5m2; }

gemm::Output output(const Tensor& y, const Tensor& scale, const Tensor& bias) {
  return {.data = y.data.get(), .M = y.size(0), .N = y.size(1), .f32 = y.dtype == DType::f32,
          .packed = packs(y.size(1), y), .x_scale = nullptr, .x_scale_step = 0, .scale = optional(scale),
          .bias = optional(bias)};
}

}  // namespace

void linear(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, DType, const Tensor& y) {
  const gemm::Output to = output(y, scale, bias);
  const bool narrow = x.dtype == DType::bf16;
  if (narrow && weight.dtype == DType::bf16) gemm::on_tensor_cores<bf16, bf16>(x, weight, to);
  else if (narrow && is_fp8(weight)) gemm::on_tensor_cores<bf16, uint8_t>(x, weight, to);
  else gemm::in_f32(x, weight, to);
}

void fp8_linear(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                const Tensor& bias, DType, const Tensor& y) {
  check_scales("xScale", x_scale, "M", x.size(0));
  gemm::Output to = output(y, weight_scale, bias);
  to.x_scale = x_scale.as<float>(), to.x_scale_step = x_scale.size(0) > 1;
  const bool native = current().compute >= 89 && x.dtype == DType::e4m3 && weight.dtype == DType::e4m3;
  if (native) gemm::on_tensor_cores<e4m3, e4m3>(x, weight, to);
  else gemm::on_tensor_cores<uint8_t, uint8_t>(x, weight, to);
}

}  // namespace nemotron_h::cuda
