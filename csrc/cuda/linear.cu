// Matrix products with weights as they are stored, and those of their gradients: which kernel computes which.
//
// Everywhere, what bf16 holds exactly is multiplied on tensor cores: activations in bf16 with weights in bf16 or fp8,
// and fp8 with fp8. The rest is summed in f32 without them.
#include <optional>

#include "cuda/gemm/copies.cuh"
#include "cuda/gemm/cublaslt/cublaslt.h"
#include "cuda/gemm/f32.cuh"
#include "cuda/gemm/hopper/hopper.h"
#include "cuda/gemm/product.h"
#include "cuda/gemm/provider.h"
#include "cuda/kernels.h"
#include "cuda/gemm/streaming/config.h"
#include "cuda/gemm/streaming/streaming.h"
#include "cuda/gemm/tensor_cores.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

using gemm::Output;
using gemm::Product;

bool is_fp8(const Tensor& t) { return t.dtype == DType::e4m3 || t.dtype == DType::e5m2; }

// The kernels for every GPU. They want both operands with k innermost.
void portable(const Product& p) {
  std::optional<gemm::Transposed> of_a, of_b;
  const Tensor& a = p.a_transposed ? of_a.emplace(p.a) : p.a;
  const Tensor& b = p.b_transposed ? of_b.emplace(p.b) : p.b;
  const bool native = current().architecture >= 89 && a.dtype == DType::e4m3 && b.dtype == DType::e4m3;
  if (native) gemm::on_tensor_cores<e4m3, e4m3>(a, b, p.y);
  else if (is_fp8(a)) gemm::on_tensor_cores<uint8_t, uint8_t>(a, b, p.y);
  else if (a.dtype == DType::bf16 && b.dtype == DType::bf16) gemm::on_tensor_cores<bf16, bf16>(a, b, p.y);
  else if (a.dtype == DType::bf16 && is_fp8(b)) gemm::on_tensor_cores<bf16, uint8_t>(a, b, p.y);
  else gemm::in_f32(a, b, p.y);
}

// Whether a view is read from a copy of it, which the kernels for Hopper take: then it has the same bits as one.
bool is_copied(const Tensor& t) {
  const auto aligned = [&](int64_t elements) { return elements * size_of(t.dtype) % 16 == 0; };
  const bool in_place = aligned(t.row_stride) && reinterpret_cast<uintptr_t>(t.data.get()) % 16 == 0;
  return current().architecture == 90 && t.dtype != DType::f32 && !in_place && aligned(t.size(1)) && t.size(0) > 0;
}

void multiply(const Product& p) {
  if (kernels() == Kernels::portable) return portable(p);
  std::optional<gemm::Dense> of_a, of_b;
  const Tensor& a = is_copied(p.a) ? of_a.emplace(p.a) : p.a;
  const Tensor& b = is_copied(p.b) ? of_b.emplace(p.b) : p.b;
  const Product q = {.a = a, .b = b, .a_transposed = p.a_transposed, .b_transposed = p.b_transposed,
                     .decode = p.decode, .fast = p.fast, .y = p.y};
  if (gemm::cublaslt::takes(q)) return gemm::cublaslt::run(q);
  if (gemm::streaming::takes(q)) return gemm::streaming::run(q);
  if (gemm::hopper::takes(q)) return gemm::hopper::run(q);
  portable(q);
}

// So many rows at a time as weights are streamed for.
void multiply_decode(const Tensor& x, const Tensor& weight, bool fast, const Output& y) {
  for (int64_t m = 0; m < y.M; m += gemm::streaming::kMaxRows) {
    const int64_t rows = std::min<int64_t>(y.M - m, gemm::streaming::kMaxRows);
    Tensor some = x;
    some.data = std::shared_ptr<void>(std::shared_ptr<void>(), x.row_address(m)), some.shape[0] = rows;
    multiply({.a = some, .b = weight, .decode = true, .fast = fast, .y = y.rows(m, rows)});
  }
}

void multiply(const Tensor& x, const Tensor& weight, bool decode, bool fast, const Output& y) {
  if (decode) multiply_decode(x, weight, fast, y);
  else multiply({.a = x, .b = weight, .fast = fast, .y = y});
}

const float* optional(const Tensor& t) { return t ? t.as<float>() : nullptr; }

Output output(const Tensor& y, const Tensor& scale, const Tensor& bias) {
  return {.data = y.data.get(), .M = y.size(0), .N = y.size(1), .f32 = y.dtype == DType::f32,
          .packed = packs(y.size(1), y), .scale = optional(scale), .bias = optional(bias)};
}
Output output(const Tensor& y) { return output(y, {}, {}); }

Output with_scales(Output y, const Tensor& x_scale) {
  check_scales("xScale", x_scale, "M", y.M);
  y.x_scale = x_scale.as<float>(), y.x_scale_step = x_scale.size(0) > 1;
  return y;
}

// Its amax, of all or of each row, begins at zero.
Output with_relu2(Output y, int64_t scales, const Tensor& amax) {
  check_scales(scales, "M", y.M);
  zero(amax.as<float>(), scales);
  y.relu2 = true, y.amax = amax.as<float>(), y.amax_step = scales > 1;
  return y;
}

Output added(Output y) {
  y.add = true;
  return y;
}

}  // namespace

void linear(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, bool decode, DType,
            const Tensor& y) {
  multiply(x, weight, decode, false, output(y, scale, bias));
}

void linear_relu2(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, bool decode,
                  int64_t scales, DType, const Tensor& y, const Tensor& amax) {
  multiply(x, weight, decode, false, with_relu2(output(y, scale, bias), scales, amax));
}

void linear_add(const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias,
                bool decode) {
  multiply(x, weight, decode, false, added(output(y, scale, bias)));
}

void matmul_nn(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  multiply({.a = a, .b = b, .b_transposed = true, .y = output(y)});
}

void matmul_tn(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  multiply({.a = a, .b = b, .a_transposed = true, .b_transposed = true, .y = output(y)});
}

void matmul_tn_add(const Tensor& y, const Tensor& a, const Tensor& b) {
  multiply({.a = a, .b = b, .a_transposed = true, .b_transposed = true, .y = added(output(y))});
}

void matmul_tt(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  multiply({.a = a, .b = b, .a_transposed = true, .y = output(y)});
}

void fp8_linear(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                const Tensor& bias, bool decode, bool fast, DType, const Tensor& y) {
  const Output to = with_scales(output(y, weight_scale, bias), x_scale);
  multiply(x, weight, decode, fast, to);
}

void fp8_linear_relu2(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                      const Tensor& bias, bool decode, bool fast, int64_t scales, DType, const Tensor& y,
                      const Tensor& amax) {
  const Output to = with_relu2(with_scales(output(y, weight_scale, bias), x_scale), scales, amax);
  multiply(x, weight, decode, fast, to);
}

void fp8_linear_add(const Tensor& y, const Tensor& x, const Tensor& x_scale, const Tensor& weight,
                    const Tensor& weight_scale, const Tensor& bias, bool decode, bool fast) {
  const Output to = added(with_scales(output(y, weight_scale, bias), x_scale));
  multiply(x, weight, decode, fast, to);
}

}  // namespace nemotron_h::cuda
