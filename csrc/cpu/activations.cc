// The activations of the MLPs, element by element.
#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {

void relu2(const Tensor& x, const Tensor& y) {
  const int64_t D = x.size(1);
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch in(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      const float* values = load_row(x, t, in);
      float* result = floats_for(y, t, out);
      simd().relu2(values, result, D);
      finish_row(y, t, result);
    }
  });
}

void silu_mul(const Tensor& gate, const Tensor& up, const Tensor& y) {
  const int64_t D = gate.size(1);
  parallel_for(gate.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch a(D), b(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      const float *gates = load_row(gate, t, a), *values = load_row(up, t, b);
      float* result = floats_for(y, t, out);
      simd().silu(gates, result, D);
      for (int64_t d = 0; d < D; ++d) result[d] *= values[d];
      finish_row(y, t, result);
    }
  });
}

}  // namespace nemotron_h::cpu
