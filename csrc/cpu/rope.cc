// Rotary position embedding (Su et al. 2021), in place.
#include "cpu/rope.h"

#include "ops.h"

namespace nemotron_h::cpu {

void rope(const Tensor& x, const Tensor& inv_freq, const Tensor& offsets, const Tensor& past) {
  const int64_t H = x.size(1), P = x.size(2);
  check_rotation("x", x);

  for (const Sequence& s : sequences(offsets, past, x.size(0))) {
    parallel_for(s.length(), grain(H * P), [&](int64_t begin, int64_t end) {
      const Scratch row(H * P);
      Rotation rotate(inv_freq);
      for (int64_t i = begin; i < end; ++i) {
        load_row(x, s.begin + i, row);
        float* values = floats_for(x, s.begin + i, row);
        rotate(s.past + i, H, values);
        finish_row(x, s.begin + i, values);
      }
    });
  }
}

}  // namespace nemotron_h::cpu
