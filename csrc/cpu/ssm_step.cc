// One token of the Mamba-2 recurrence for every sequence. Its time is that of reading and writing the state,
// which is passed over once.
#include "cpu/ssm.h"
#include "ops.h"
#include "random.h"

namespace nemotron_h::cpu {
namespace {

// Row `row` of the N elements of a sequence's state, in f16 rounded at random.
void store_rounded(const Tensor& state, const Sequence& sequence, int64_t row, int64_t N, int64_t seed,
                   const float* values) {
  f16* const to = state.row<f16>(sequence.slot) + row * N;
  const int64_t eights = (N + 7) / 8;
  for (int64_t n = 0; n < N; n += 8) {
    const RandomWords words = state_noise(seed, static_cast<int32_t>(sequence.past),
                                          static_cast<uint32_t>(row * eights + n / 8));
    for (int64_t i = 0; i < std::min<int64_t>(8, N - n); ++i) {
      const uint32_t word = words.v[i / 2];
      to[n + i] = round_randomly(values[n + i], i % 2 ? second_noise(word) : first_noise(word));
    }
  }
}

}  // namespace

void ssm_step(const Tensor& x, const Tensor& dt, const Tensor& A, const Tensor& B, const Tensor& C,
              const Tensor& D, const Tensor& dt_bias, float dt_min, float dt_max, const Tensor& z,
              const Tensor& past, const Tensor& slots, const Tensor& state, int64_t seed, const Tensor& y) {
  check_ssm(x, B, dt_min, dt_max);
  const auto batch = decode_sequences(past, slots, state.size(0));
  const int64_t H = x.size(1), P = x.size(2), G = B.size(1), N = B.size(2);
  const bool rounds = state.dtype == DType::f16;

  parallel_for(x.size(0) * H, grain(P * N), [&](int64_t begin, int64_t end) {
    const Scratch x_scratch(P), B_scratch(N), C_scratch(N), y_scratch(P), gate(P), dt_scratch(1), row_scratch(N);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t s = i / H, h = i % H, group = h / (H / G);
      const float* xs = load(x, s, h * P, P, x_scratch);
      const float* Bs = load(B, s, group * N, N, B_scratch);
      const float* Cs = load(C, s, group * N, N, C_scratch);
      const float d = step_size(*load(dt, s, h, 1, dt_scratch), dt_bias.as<float>()[h], dt_min, dt_max);
      const float decay = std::exp(d * A.as<float>()[h]);

      for (int64_t p = 0; p < P; ++p) {
        const int64_t row = h * P + p, first = row * N;
        float* const values = rounds ? row_scratch.data() : state.row<float>(batch[s].slot) + first;
        if (batch[s].past == 0) std::fill_n(values, N, 0.f);
        else if (rounds) read(state, batch[s].slot, first, N, values);
        y_scratch[p] = simd().ssm_row(decay, d * xs[p], Bs, Cs, values, N) + D.as<float>()[h] * xs[p];
        if (rounds) store_rounded(state, batch[s], row, N, seed, values);
      }
      if (z) {
        simd().silu(load(z, s, h * P, P, gate), gate, P);
        for (int64_t p = 0; p < P; ++p) y_scratch[p] *= gate[p];
      }
      store(y, s, h * P, P, y_scratch);
    }
  });
}

}  // namespace nemotron_h::cpu
