// The rotation of rope and of kv_append: element i of a head is paired with i + P/2.
//
// Angles are computed in f64: in f32 an angle of 131072 radians would be off by 0.004. What is left is the
// rounding of cosine and sine to f32.
#pragma once

#include <cmath>

#include "cpu/cpu.h"

namespace nemotron_h::cpu {

class Rotation {
 public:
  explicit Rotation(const Tensor& inv_freq)
      : frequency_(inv_freq.as<float>()), pairs_(inv_freq.size(0)), cosine_(pairs_), sine_(pairs_) {}

  // Of the `heads` heads of a token.
  void operator()(int64_t position, int64_t heads, float* values) {
    for (int64_t j = 0; j < pairs_; ++j) {
      const double angle = static_cast<double>(position) * frequency_[j];
      cosine_[j] = static_cast<float>(std::cos(angle)), sine_[j] = static_cast<float>(std::sin(angle));
    }
    for (int64_t h = 0; h < heads; ++h) {
      float *first = values + h * 2 * pairs_, *second = first + pairs_;
      for (int64_t j = 0; j < pairs_; ++j) {
        const float a = first[j], b = second[j];
        first[j] = a * cosine_[j] - b * sine_[j];
        second[j] = b * cosine_[j] + a * sine_[j];
      }
    }
  }

 private:
  const float* frequency_;
  int64_t pairs_;
  Scratch cosine_, sine_;
};

}  // namespace nemotron_h::cpu
