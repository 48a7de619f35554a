// What the ops on logits share: the order of a row's tokens, and checks of parameters given by the row.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>

#include "cpu/cpu.h"

namespace nemotron_h::cpu {

// The ids of a row by falling logit, equal ones by rising id, NaN as -inf; sorted only as far as asked.
// A token is one integer: its logit in the upper half, so mapped that integers and floats have one order, and
// the complement of its id in the lower. One at a time in a thread, as the memory is the thread's own.
class Ranking {
 public:
  Ranking(const float* logits, int64_t n) {
    keys_.resize(n);
    for (int64_t i = 0; i < n; ++i) {
      const float logit = std::isnan(logits[i]) ? -std::numeric_limits<float>::infinity() : logits[i];
      const uint32_t bits = std::bit_cast<uint32_t>(logit + 0.f);  // -0 becomes 0
      const uint32_t ordered = bits >> 31 ? ~bits : bits | 1u << 31;
      keys_[i] = uint64_t{ordered} << 32 | ~static_cast<uint32_t>(i);
    }
  }
  int32_t operator[](int64_t i) {
    if (i >= sorted_) sort(std::min<int64_t>(keys_.size(), std::max<int64_t>(256, 4 * i)));
    return static_cast<int32_t>(~static_cast<uint32_t>(keys_[i]));
  }

 private:
  void sort(int64_t end) {
    const auto first = keys_.begin() + sorted_, last = keys_.begin() + end;
    std::nth_element(first, last, keys_.end(), std::greater());
    std::sort(first, last, std::greater());
    sorted_ = end;
  }

  static thread_local inline std::vector<uint64_t> keys_;
  int64_t sorted_ = 0;
};

// Throws "topP[1] is 2, expected above 0, at most 1" unless ok(value) for the value of every row.
template <class T, class Ok>
void check_parameter(const char* name, const Tensor& values, const char* expected, Ok ok) {
  for (int64_t s = 0; s < values.size(0); ++s) {
    const T value = values.as<T>()[s];
    if (ok(value)) continue;
    std::string found;
    if constexpr (std::is_integral_v<T>) found = std::to_string(value);
    else found = std::isnan(value) ? "NaN" : shortest(value);
    throw std::out_of_range(std::string(name) + "[" + std::to_string(s) + "] is " + found + ", expected " + expected);
  }
}

}  // namespace nemotron_h::cpu
