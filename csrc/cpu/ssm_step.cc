// One token of the Mamba-2 recurrence for every sequence. Its time is that of reading and writing the state,
// which is passed over once.
#include "cpu/ssm.h"
#include "ops.h"

namespace nemotron_h::cpu {

void ssm_step(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
              const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& past,
              const Tensor& slots, const Tensor& state, const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  const auto batch = decode_sequences(past, slots, state.size(0));
  const int64_t H = x.size(1), P = x.size(2), G = B.size(1), N = B.size(2);

  parallel_for(x.size(0) * H, grain(P * N), [&](int64_t begin, int64_t end) {
    const Scratch x_scratch(P), B_scratch(N), C_scratch(N), y_scratch(P), dt_scratch(1);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t s = i / H, h = i % H, group = h / (H / G);
      const float* xs = load(x, s, h * P, P, x_scratch);
      const float* Bs = load(B, s, group * N, N, B_scratch);
      const float* Cs = load(C, s, group * N, N, C_scratch);
      const float d = step_size(*load(dt, s, h, 1, dt_scratch), dt_bias.as<float>()[h], dt_min, dt_max);
      const float decay = std::exp(d * A.as<float>()[h]);

      float* const rows = state.row<float>(batch[s].slot) + h * P * N;
      if (batch[s].past == 0) std::fill_n(rows, P * N, 0.f);
      for (int64_t p = 0; p < P; ++p) {
        y_scratch[p] = simd().ssm_row(decay, d * xs[p], Bs, Cs, rows + p * N, N) + D.as<float>()[h] * xs[p];
      }
      store(y, s, h * P, P, y_scratch);
    }
  });
}

}  // namespace nemotron_h::cpu
