// Rotary position embedding (Su et al. 2021), pairing element i of a head with i + P/2.
//
// Angles are computed in f64: in f32 an angle of 131072 radians would be off by 0.004. What is left is the
// rounding of cosine and sine to f32.
#include <cmath>

#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {

void rope(const Tensor& x, const Tensor& inv_freq, const Tensor& offsets, const Tensor& past) {
  const int64_t H = x.size(1), P = x.size(2), pairs = P / 2;
  check_rotation(x);
  const float* frequency = inv_freq.as<float>();

  for (const Sequence& s : sequences(offsets, past, x.size(0))) {
    parallel_for(s.length(), grain(H * P), [&](int64_t begin, int64_t end) {
      const Scratch row(H * P), cosine(pairs), sine(pairs);
      for (int64_t i = begin; i < end; ++i) {
        const double position = static_cast<double>(s.past + i);
        for (int64_t j = 0; j < pairs; ++j) {
          cosine[j] = static_cast<float>(std::cos(position * frequency[j]));
          sine[j] = static_cast<float>(std::sin(position * frequency[j]));
        }
        load_row(x, s.begin + i, row);
        float* values = floats_for(x, s.begin + i, row);
        for (int64_t h = 0; h < H; ++h) {
          float *first = values + h * P, *second = first + pairs;
          for (int64_t j = 0; j < pairs; ++j) {
            const float a = first[j], b = second[j];
            first[j] = a * cosine[j] - b * sine[j];
            second[j] = b * cosine[j] + a * sine[j];
          }
        }
        finish_row(x, s.begin + i, values);
      }
    });
  }
}

}  // namespace nemotron_h::cpu
