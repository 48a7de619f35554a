// A Mamba-2 layer between its projections, of one token for every sequence: the ops that it is, over memory in f32.
#include "checks.h"
#include "cpu/quantize.h"

namespace nemotron_h::cpu {
namespace {

// `heads` times `width` columns of x [S,C], from column `first` on.
Tensor columns(const Tensor& x, int64_t first, int64_t heads, int64_t width) {
  Tensor view = x;
  view.rank = 3, view.shape = {x.size(0), heads, width};
  view.data = std::shared_ptr<void>(x.data, x.as<float>() + first);
  return view;
}

}  // namespace

void mamba2_step(const Tensor& x, const Tensor& z, const Tensor& dt, const Tensor& conv_weight, const Tensor& conv_bias,
                 const Tensor& A, const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max,
                 const Tensor& norm_weight, int64_t groups, float eps, const Tensor& past, const Tensor& slots,
                 const Tensor& conv_state, const Tensor& state, int64_t seed, const Tensor& y) {
  check_mamba2_step(x, z, state, groups, dt_min, dt_max);
  const int64_t S = x.size(0), I = z.size(1), H = state.size(1), P = state.size(2), N = state.size(3);
  const Tensor conv = temporary(DType::f32, 2, {S, x.size(1)}), out = temporary(DType::f32, 3, {S, H, P});
  causal_conv1d_step(x, conv_weight, conv_bias, past, slots, conv_state, conv);
  const Tensor B = columns(conv, I, groups, N), C = columns(conv, I + groups * N, groups, N);
  ssm_step(columns(conv, 0, H, P), dt, A, B, C, D, dt_bias, dt_min, dt_max, {}, past, slots, state, seed, out);
  Tensor rows = out;
  rows.rank = 2, rows.shape = {S, I};
  gated_rms_norm(rows, z, norm_weight, groups, eps, y);
}

void mamba2_step_quantize(const Tensor& x, const Tensor& z, const Tensor& dt, const Tensor& conv_weight,
                          const Tensor& conv_bias, const Tensor& A, const Tensor& D, const Tensor& dt_bias,
                          float dt_min, float dt_max, const Tensor& norm_weight, int64_t groups, float eps,
                          const Tensor& past, const Tensor& slots, const Tensor& conv_state, const Tensor& state,
                          int64_t seed, int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  check_scales(scales, "S", x.size(0));
  const Tensor norm = temporary(x.dtype, 2, {z.size(0), z.size(1)});
  mamba2_step(x, z, dt, conv_weight, conv_bias, A, D, dt_bias, dt_min, dt_max, norm_weight, groups, eps, past, slots,
              conv_state, state, seed, norm);
  quantize_by_own(norm, scales, to, y, scale);
}

}  // namespace nemotron_h::cpu
