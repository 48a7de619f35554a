// fp8 with current scaling, as Transformer Engine does it (Float8CurrentScaling, amax_epsilon 0, scales not
// confined to powers of two): the largest magnitude becomes the format's largest value.
#include <cmath>
#include <limits>

#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

constexpr float largest(DType fp8) { return fp8 == DType::e4m3 ? 448 : 57344; }

// compute_scale_from_amax of Transformer Engine's common/recipe/recipe_common.cuh.
float scale_from_amax(float amax, float largest) {
  if (!(amax > 0) || std::isinf(amax)) return 1;
  return std::min(largest / amax, std::numeric_limits<float>::max());
}

// of_row[t] = max |x[t]|.
void row_maxima(const Tensor& x, float* of_row) {
  const int64_t D = x.size(1);
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch floats(D);
    for (int64_t t = begin; t < end; ++t) of_row[t] = simd().abs_max(load_row(x, t, floats), D);
  });
}

// y[t] = x[t] * scales[t], or * scales[0] where `shared`.
void scale_rows(const Tensor& x, const float* scales, bool shared, const Tensor& y) {
  const int64_t D = x.size(1);
  parallel_for(x.size(0), grain(D), [&](int64_t begin, int64_t end) {
    const Scratch in(D), out(D);
    for (int64_t t = begin; t < end; ++t) {
      float* result = floats_for(y, t, out);
      simd().scale(scales[shared ? 0 : t], load_row(x, t, in), result, D);
      finish_row(y, t, result);
    }
  });
}

}  // namespace

void row_amax(const Tensor& x, const Tensor& y) { row_maxima(x, y.as<float>()); }

void amax(const Tensor& x, const Tensor& y) {
  const Scratch maxima(x.size(0));
  row_maxima(x, maxima);
  *y.as<float>() = simd().abs_max(maxima, x.size(0));
}

void quantize(const Tensor& x, const Tensor& amax, DType to, const Tensor& y, const Tensor& scale) {
  check_scales("amax", amax, "T", x.size(0));
  const int64_t R = amax.size(0);
  const Scratch scales(R);
  for (int64_t r = 0; r < R; ++r) {
    scales[r] = scale_from_amax(amax.as<float>()[r], largest(to));
    scale.as<float>()[r] = 1 / scales[r];
  }
  scale_rows(x, scales, R == 1, y);
}

void quantize_transpose(const Tensor& x, const Tensor& amax, DType to, const Tensor& y, const Tensor& transposed,
                        const Tensor& scale) {
  quantize(x, amax, to, y, scale);
  const int64_t T = x.size(0), D = x.size(1), kTile = 64;
  parallel_for(D, grain(T), [&](int64_t begin, int64_t end) {
    // In tiles of a cache line a row.
    for (int64_t t0 = 0; t0 < T; t0 += kTile)
      for (int64_t d = begin; d < end; ++d)
        for (int64_t t = t0; t < std::min(t0 + kTile, T); ++t) transposed.row<uint8_t>(d)[t] = y.row<uint8_t>(t)[d];
  });
}

void dequantize(const Tensor& x, const Tensor& scale, DType, const Tensor& y) {
  check_scales("scale", scale, "T", x.size(0));
  scale_rows(x, scale.as<float>(), scale.size(0) == 1, y);
}

}  // namespace nemotron_h::cpu
