// Matrix products with weights as they are stored. `decode` and `fast` mean nothing here: all
// sums are f32, in one order.
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

// What becomes of a sum: sum * x_scale * scale + bias, each left out where null; then max(, 0)^2, or y + that.
struct Epilogue {
  const float* x_scale = nullptr;  // [M], or [1] with x_scale_step 0
  int64_t x_scale_step = 0;
  const float* scale = nullptr;  // [1]
  const float* bias = nullptr;   // [N]
  bool relu2 = false, add = false;

  void apply(float* sums, const Tensor& y, int64_t row, int64_t col, int64_t n) const {
    if (x_scale) simd().scale(x_scale[row * x_scale_step], sums, sums, n);
    if (scale) simd().scale(*scale, sums, sums, n);
    if (bias) simd().axpy(1, bias + col, sums, n);
    if (relu2) simd().relu2(sums, sums, n);
    if (add) {
      const Scratch before(n);
      simd().axpy(1, load(y, row, col, n, before), sums, n);
    }
  }
};

// A matrix with its rows as columns, as floats in `to`.
Tensor transpose(const Tensor& x, float* to) {
  const int64_t rows = x.size(0), cols = x.size(1);
  parallel_for(rows, grain(cols), [&](int64_t begin, int64_t end) {
    const Scratch floats(cols);
    for (int64_t r = begin; r < end; ++r) {
      const float* row = load_row(x, r, floats);
      for (int64_t c = 0; c < cols; ++c) to[c * rows + r] = row[c];
    }
  });
  Tensor y = x;
  y.data = std::shared_ptr<void>(std::shared_ptr<void>(), to);
  y.dtype = DType::f32, y.shape = {cols, rows}, y.row_stride = rows;
  return y;
}

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
      const bool in_place = y_is_f32 && !epilogue.add;
      const Scratch sums(in_place ? 0 : tile_rows * cols);
      float* out = in_place ? y.row<float>(m) + n : sums;
      const int64_t ldy = in_place ? y.row_stride : cols;

      simd().gemm({.M = tile_rows, .N = cols, .K = K, .x = x_rows + r0 * ldx, .ldx = ldx,
                   .w = weight.row_address(n), .w_dtype = weight.dtype, .ldw = weight.row_stride,
                   .y = out, .ldy = ldy});
      for (int64_t r = 0; r < tile_rows; ++r, out += ldy) {
        epilogue.apply(out, y, m + r, n, cols);
        if (!in_place) store(y, m + r, n, cols, out);
      }
    });
  }
}

Epilogue with_scales(const Tensor& x, const Tensor& x_scale, const Tensor& weight_scale, const Tensor& bias) {
  check_scales("xScale", x_scale, "M", x.size(0));
  return {.x_scale = x_scale.as<float>(),
          .x_scale_step = x_scale.size(0) == 1 ? 0 : 1,
          .scale = weight_scale.as<float>(),
          .bias = optional(bias)};
}

// product() of max(, 0)^2, and the largest of all or of each row.
void product_relu2(const Tensor& x, const Tensor& weight, Epilogue epilogue, int64_t scales, const Tensor& y,
                   const Tensor& largest) {
  check_scales(scales, "M", x.size(0));
  epilogue.relu2 = true;
  product(x, weight, epilogue, y);
  if (scales == 1) amax(y, largest);
  else row_amax(y, largest);
}

}  // namespace

void linear(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, bool, DType,
            const Tensor& y) {
  product(x, weight, {.scale = optional(scale), .bias = optional(bias)}, y);
}

void linear_relu2(const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, bool, int64_t scales,
                  DType, const Tensor& y, const Tensor& amax) {
  product_relu2(x, weight, {.scale = optional(scale), .bias = optional(bias)}, scales, y, amax);
}

void linear_add(const Tensor& y, const Tensor& x, const Tensor& weight, const Tensor& scale, const Tensor& bias, bool) {
  product(x, weight, {.scale = optional(scale), .bias = optional(bias), .add = true}, y);
}

void matmul_nn(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  const Scratch floats(b.numel());
  product(a, transpose(b, floats), {}, y);
}

void matmul_tn(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  const Scratch of_a(a.numel()), of_b(b.numel());
  product(transpose(a, of_a), transpose(b, of_b), {}, y);
}

void matmul_tn_add(const Tensor& y, const Tensor& a, const Tensor& b) {
  const Scratch of_a(a.numel()), of_b(b.numel());
  product(transpose(a, of_a), transpose(b, of_b), {.add = true}, y);
}

void matmul_tt(const Tensor& a, const Tensor& b, DType, const Tensor& y) {
  const Scratch floats(a.numel());
  product(transpose(a, floats), b, {}, y);
}

void fp8_linear(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                const Tensor& bias, bool, bool, DType, const Tensor& y) {
  product(x, weight, with_scales(x, x_scale, weight_scale, bias), y);
}

void fp8_linear_relu2(const Tensor& x, const Tensor& x_scale, const Tensor& weight, const Tensor& weight_scale,
                      const Tensor& bias, bool, bool, int64_t scales, DType, const Tensor& y,
                      const Tensor& amax) {
  product_relu2(x, weight, with_scales(x, x_scale, weight_scale, bias), scales, y, amax);
}

void fp8_linear_add(const Tensor& y, const Tensor& x, const Tensor& x_scale, const Tensor& weight,
                    const Tensor& weight_scale, const Tensor& bias, bool, bool) {
  Epilogue epilogue = with_scales(x, x_scale, weight_scale, bias);
  epilogue.add = true;
  product(x, weight, epilogue, y);
}

}  // namespace nemotron_h::cpu
