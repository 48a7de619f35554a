// Matrix products with weights as they are stored.
//
// y is cut into tiles, which the threads take: a tile reads its columns' weights once, and tiles of the same
// columns follow each other. x is converted to f32 beforehand, once, a bounded number of rows at a time.
#include "cpu/cpu.h"
#include "ops.h"

namespace nemotron_h::cpu {
namespace {

constexpr int64_t kRowsAtOnce = 256;  // of x as f32: 22 MB of a K of 21504
constexpr int64_t kTileRows = 128;
constexpr int64_t kTileCols = 96;  // or a multiple: whole register tiles of 3, 4 or 6 columns

// What becomes of a sum: y = sum * x_scale * scale + bias, each left out where null.
struct Epilogue {
  const float* x_scale = nullptr;  // [M], or [1] with x_scale_step 0
  int64_t x_scale_step = 0;
  const float* scale = nullptr;  // [1]
  const float* bias = nullptr;   // [N]

  void apply(float* y, int64_t row, int64_t col, int64_t n) const {
    if (x_scale) simd().scale(x_scale[row * x_scale_step], y, y, n);
    if (scale) simd().scale(*scale, y, y, n);
    if (bias) simd().axpy(1, bias + col, y, n);
  }
};

const float* optional(const Tensor& t) { return t ? t.as<float>() : nullptr; }

void product(const Tensor& x, const Tensor& weight, const Epilogue& epilogue, const Tensor& y) {
  const int64_t M = x.size(0), N = weight.size(0), K = x.size(1);
  const bool x_is_f32 = x.dtype == DType::f32, y_is_f32 = y.dtype == DType::f32;
  const int64_t height = std::min(kTileRows, M), width = kTileCols * grain(height * kTileCols * K);
  const int64_t across = (N + width - 1) / width;

  for (int64_t m0 = 0; m0 < M; m0 += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, M - m0), down = (rows + height - 1) / height;
    const Scratch converted(x_is_f32 ? 0 : rows * K);
    const float* x_rows = x_is_f32 ? x.row<float>(m0) : converted;
    const int64_t ldx = x_is_f32 ? x.row_stride : K;
    if (!x_is_f32)
      parallel_for(rows, grain(K), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) load_row(x, m0 + r, converted + r * K);
      });

    parallel_for(across * down, 1, [&](int64_t tile, int64_t) {
      const int64_t r0 = tile % down * height, tile_rows = std::min(height, rows - r0), m = m0 + r0;
      const int64_t n = tile / down * width, cols = std::min(width, N - n);
      const Scratch sums(y_is_f32 ? 0 : tile_rows * cols);
      float* out = y_is_f32 ? y.row<float>(m) + n : sums;
      const int64_t ldy = y_is_f32 ? y.row_stride : cols;

      simd().gemm({.M = tile_rows, .N = cols, .K = K, .x = x_rows + r0 * ldx, .ldx = ldx,
                   .w = weight.row_address(n), .w_dtype = weight.dtype, .ldw = weight.row_stride,
                   .y = out, .ldy = ldy});
      for (int64_t r = 0; r < tile_rows; ++r, out += ldy) {
        epilogue.apply(out, m + r, n, cols);
        if (!y_is_f32) store(y, m + r, n, cols, out);
      }
    });
  }
}

}  // namespace

void linear(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, DType,
            const Tensor& y) {
  product(x, weight, {.scale = optional(scale), .bias = optional(bias)}, y);
}

void fp8_linear(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                const Tensor& bias, DType, const Tensor& y) {
  check_scales("xScale", x_scale, "M", x.size(0));
  product(x, weight,
          {.x_scale = x_scale.as<float>(),
           .x_scale_step = x_scale.size(0) == 1 ? 0 : 1,
           .scale = weight_scale.as<float>(),
           .bias = optional(bias)},
          y);
}

}  // namespace nemotron_h::cpu
