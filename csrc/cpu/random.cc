// Random weights. A deviate is computed in f64 and rounded to f32 before it is stored.
#include <cmath>
#include <numbers>

#include "cpu/cpu.h"
#include "ops.h"
#include "random.h"

namespace nemotron_h::cpu {

void fill_normal(const Tensor& y, float deviation, int64_t seed) {
  check_deviation(deviation);
  const int64_t n = y.numel();
  parallel_for((n + 3) / 4, kGrain / 4, [&](int64_t begin, int64_t end) {
    const Scratch values(4 * (end - begin));
    float* value = values;
    for (int64_t four = begin; four < end; ++four) {
      for (const Point& point : normal_points(seed, four).v) {
        const double length = deviation * std::sqrt(-2 * std::log(double{point.share}));
        const double angle = 2 * std::numbers::pi * point.turn;
        *value++ = static_cast<float>(length * std::cos(angle));
        *value++ = static_cast<float>(length * std::sin(angle));
      }
    }
    store(y, 0, 4 * begin, std::min(4 * end, n) - 4 * begin, values);  // y is dense: all of it is as one row
  });
}

}  // namespace nemotron_h::cpu
