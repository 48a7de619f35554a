// Every instruction set this processor has, against the scalar definitions: conversions and exp over all
// kinds of input, sums against double within the bound of their length, and the GEMM's bits against those it
// gives for blocks of the same product. Prints `N passed, N failed`.
//
// cmake --build build --target simd_test && build/simd_test
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cpu/simd/simd.h"

using namespace nemotron_h;
using cpu::simd;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

int passed = 0, failed = 0;

void check(bool right, const std::string& what) {
  ++(right ? passed : failed);
  if (!right) std::printf("FAILED %s: %s\n", simd().name, what.c_str());
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> normal(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

template <class T>
void load_gives_every_pattern(DType dtype, const std::vector<T>& patterns) {
  const int64_t n = patterns.size();
  std::vector<float> expected, loaded(n);
  for (T p : patterns) expected.push_back(to_float(p));
  simd().load(dtype, patterns.data(), loaded.data(), n);
  check(same_bits(loaded, expected), std::string("load ") + std::string(name_of(dtype)));

  bool tails = true;  // from an odd address, of every length up to a few vectors
  for (int64_t length = 0; length < 40; ++length) {
    std::vector<float> row(length + 1, 7);
    simd().load(dtype, patterns.data() + 1, row.data(), length);
    tails = tails && row[length] == 7;
    tails = tails && std::memcmp(row.data(), expected.data() + 1, length * sizeof(float)) == 0;
  }
  check(tails, std::string("load tails ") + std::string(name_of(dtype)));
}

// Stores whatever push() was given, a block at a time, and compares with the scalar conversion.
template <class T>
class StoreCheck {
 public:
  explicit StoreCheck(DType dtype) : dtype_(dtype) {}

  void push(uint32_t bits) {
    values_.push_back(std::bit_cast<float>(bits));
    if (values_.size() == 4099) flush();
  }

  bool flush() {
    std::vector<T> stored(values_.size() + 1, from_float<T>(7));
    simd().store(dtype_, values_.data(), stored.data(), values_.size());
    for (size_t i = 0; i <= values_.size(); ++i) {
      const T expected = from_float<T>(i < values_.size() ? values_[i] : 7);
      right_ = right_ && std::memcmp(&stored[i], &expected, sizeof(T)) == 0;
    }
    values_.clear();
    return right_;
  }

 private:
  DType dtype_;
  std::vector<float> values_;
  bool right_ = true;
};

template <class T>
void store_rounds_as_scalar(DType dtype, const std::vector<T>& patterns) {
  StoreCheck<T> all(dtype);
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 1021) all.push(bits);
  // Around every value of the format and every midpoint between two, where rounding changes its mind.
  for (size_t i = 0; i + 1 < patterns.size(); ++i) {
    const float value = to_float(patterns[i]), next = to_float(patterns[i + 1]);
    const float midpoint = static_cast<float>((static_cast<double>(value) + next) / 2);
    for (uint32_t center : {std::bit_cast<uint32_t>(value), std::bit_cast<uint32_t>(midpoint)}) {
      for (uint32_t bits = center - 2; bits != center + 3; ++bits) all.push(bits);
    }
  }
  for (uint32_t exponent = 0; exponent < 512; ++exponent) {  // both signs: zeros, subnormals, infinities, NaN
    for (uint32_t low : {0u, 1u, 0x3fffffu, 0x400000u, 0x400001u, 0x7fffffu}) all.push(exponent << 23 | low);
  }
  check(all.flush(), std::string("store ") + std::string(name_of(dtype)));

  StoreCheck<T> tails(dtype);
  bool right = true;
  for (uint32_t length = 0; length < 40; ++length) {
    for (uint32_t i = 0; i < length; ++i) tails.push(std::bit_cast<uint32_t>(0.37f * i - 3));
    right = tails.flush() && right;
  }
  check(right, std::string("store tails ") + std::string(name_of(dtype)));
}

template <class T, class Pattern>
void conversions(DType dtype) {
  std::vector<T> patterns;
  for (uint32_t i = 0; i <= std::numeric_limits<Pattern>::max(); ++i) {
    patterns.push_back({static_cast<Pattern>(i)});
  }
  load_gives_every_pattern(dtype, patterns);
  store_rounds_as_scalar(dtype, patterns);
}

// Any order of n additions of rounded products is within this of exact (Higham, Accuracy and Stability, 3.1).
double bound(int64_t n, double magnitude) { return (n + 1) * 0x1p-24 * magnitude; }

void reductions() {
  bool dot = true, sum = true, squares = true, max = true, abs_max = true, rows = true, maps = true;
  for (int64_t n = 0; n < 300; n += n < 70 ? 1 : 37) {
    const std::vector<float> a = normal(n, 1), b = normal(n, 2), c = normal(n, 3);
    double ab = 0, ab_size = 0, total = 0, size = 0, aa = 0, c_next = 0, c_size = 0;
    float largest = -kInfinity, largest_abs = 0;
    for (int64_t i = 0; i < n; ++i) {
      ab += double{a[i]} * b[i], ab_size += std::abs(double{a[i]} * b[i]);
      total += a[i], size += std::abs(a[i]), aa += double{a[i]} * a[i];
      const double next = 0.75 * c[i] - 1.5 * b[i];
      c_next += next * a[i], c_size += (std::abs(0.75 * c[i]) + std::abs(1.5 * b[i])) * std::abs(a[i]);
      largest = std::max(largest, a[i]), largest_abs = std::max(largest_abs, std::abs(a[i]));
    }
    dot = dot && std::abs(simd().dot(a.data(), b.data(), n) - ab) <= bound(n, ab_size);
    sum = sum && std::abs(simd().sum(a.data(), n) - total) <= bound(n, size);
    squares = squares && std::abs(simd().sum_squares(a.data(), n) - aa) <= bound(n, aa);
    max = max && simd().max(a.data(), n) == largest;
    abs_max = abs_max && simd().abs_max(a.data(), n) == largest_abs;

    // 0.75 c and 1.5 b are rounded, and their sum: up to 3 more roundings than a dot product.
    std::vector<float> state = c;
    state.push_back(7);
    const float y = simd().ssm_row(0.75f, -1.5f, b.data(), a.data(), state.data(), n);
    rows = rows && std::abs(y - c_next) <= bound(n + 3, c_size) && state[n] == 7;
    std::vector<float> scaled(n + 1, 7), added = c;
    added.push_back(7);
    simd().scale(-1.5f, a.data(), scaled.data(), n);
    simd().axpy(-1.5f, a.data(), added.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      rows = rows && std::abs(state[i] - (0.75 * c[i] - 1.5 * b[i])) <=
                         bound(3, std::abs(0.75 * c[i]) + std::abs(1.5 * b[i]));
      maps = maps && scaled[i] == -1.5f * a[i] &&
             std::abs(added[i] - (c[i] - 1.5 * a[i])) <= bound(2, std::abs(c[i]) + std::abs(1.5 * a[i]));
    }
    maps = maps && scaled[n] == 7 && added[n] == 7;
  }
  check(dot, "dot"), check(sum, "sum"), check(squares, "sum_squares"), check(max, "max");
  check(abs_max, "abs_max"), check(rows, "ssm_row"), check(maps, "scale and axpy");

  bool passed_over = true;
  for (int64_t n = 1; n < 150; ++n) {
    std::vector<float> x(n, -3);
    x[n / 2] = kNaN, x[n - 1] = kNaN;
    passed_over = passed_over && simd().max(x.data(), n) == (n > 1 ? -3 : -kInfinity);
    passed_over = passed_over && simd().abs_max(x.data(), n) == (n > 1 ? 3 : 0);
    x[n - 1] = -kInfinity;
    passed_over = passed_over && simd().abs_max(x.data(), n) == kInfinity;
  }
  check(passed_over, "max and abs_max pass over NaN");
}

// Error of `got` in units of the last place of the exact value, as a float would have it.
double ulps(float got, double exact) {
  const double spacing = std::ldexp(1.0, std::max(exact == 0 ? -149 : std::ilogb(exact) - 23, -149));
  return std::abs(got - exact) / spacing;
}

void exponentials() {
  std::vector<float> x, y;
  double worst = 0;
  const auto flush = [&] {
    y.resize(x.size());
    simd().exp(x.data(), y.data(), x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = std::exp(double{x[i]});
      // What is beyond the largest float by half its last place or more is infinity.
      if (exact < 0x1.ffffffp127) worst = std::max(worst, ulps(y[i], exact));
      else if (y[i] != kInfinity) worst = kInfinity;
    }
    x.clear();
  };
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 1013) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (!std::isnan(value)) x.push_back(value);
    if (x.size() == 4096) flush();
  }
  for (float value = -104; value < 89; value = std::nextafter(value, kInfinity) + 1e-5f) {
    x.push_back(value);
    if (x.size() == 4096) flush();
  }
  flush();
  check(worst <= 2, "exp is " + std::to_string(worst) + " ulp off, expected at most 2");

  const std::vector<float> special = {kInfinity, -kInfinity, 0,     -0.f,   1e30f,
                                      -1e30f,    kNaN,       -kNaN, 88.72f, 88.73f};
  std::vector<float> e(10), s(10);
  simd().exp(special.data(), e.data(), 10);
  check(e[0] == kInfinity && e[1] == 0 && e[2] == 1 && e[3] == 1 && e[4] == kInfinity && e[5] == 0 &&
            std::isnan(e[6]) && std::isnan(e[7]) && e[8] < kInfinity && e[9] == kInfinity,
        "exp of special values");
  simd().silu(special.data(), s.data(), 10);
  check(s[0] == kInfinity && s[1] == 0 && s[2] == 0 && s[3] == 0 && s[4] == 1e30f && s[5] == 0 &&
            std::isnan(s[6]) && std::isnan(s[7]),
        "silu of special values");

  std::vector<float> r(10);
  simd().relu2(special.data(), r.data(), 10);
  check(r[0] == kInfinity && r[1] == 0 && r[2] == 0 && r[3] == 0 && r[4] == kInfinity && r[5] == 0 && std::isnan(r[6]) &&
            std::isnan(r[7]) && r[8] == 88.72f * 88.72f && r[9] == 88.73f * 88.73f,
        "relu2 of special values");

  // 1 + exp(-x), the quotient and exp itself: 2 + 0.5 + 0.5 ulp, and what that is relative to a power of two.
  double silu = 0;
  for (float value = -87; value < 100; value += 0.0137f) {
    float result;
    simd().silu(&value, &result, 1);
    if (value != 0) silu = std::max(silu, ulps(result, value / (1 + std::exp(-double{value}))));
  }
  check(silu <= 6, "silu is " + std::to_string(silu) + " ulp off, expected at most 6");
}

struct Matrices {
  int64_t M, N, K, ldx, ldw;
  DType dtype;
  std::vector<float> x, values;  // values: w as floats, after rounding to its dtype
  std::vector<unsigned char> w;

  Matrices(int64_t M, int64_t N, int64_t K, DType dtype)
      : M(M), N(N), K(K), ldx(K + 3), ldw(K + 5), dtype(dtype), x(normal(M * ldx, 1)),
        values(normal(N * ldw, 2)), w(N * ldw * size_of(dtype)) {
    simd().store(dtype, values.data(), w.data(), N * ldw);
    simd().load(dtype, w.data(), values.data(), N * ldw);
  }

  // y[m0.., n0..] of M' x N' elements alone, in a frame that shows whether anything beside them was written.
  std::vector<float> block(int64_t m0, int64_t n0, int64_t rows, int64_t cols) {
    const int64_t ldy = cols + 2;
    std::vector<float> framed(rows * ldy, 12345), result;
    simd().gemm({.M = rows, .N = cols, .K = K, .x = x.data() + m0 * ldx, .ldx = ldx,
                 .w = w.data() + n0 * ldw * size_of(dtype), .w_dtype = dtype, .ldw = ldw,
                 .y = framed.data(), .ldy = ldy});
    for (int64_t m = 0; m < rows; ++m) {
      const float* const row = framed.data() + m * ldy;
      result.insert(result.end(), row, row + cols);
      if (row[cols] != 12345 || row[cols + 1] != 12345) check(false, "gemm wrote past a row");
    }
    return result;
  }

  bool near_exact(const std::vector<float>& y) const {
    for (int64_t m = 0; m < M; ++m) {
      for (int64_t n = 0; n < N; ++n) {
        double exact = 0, magnitude = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double product = double{x[m * ldx + k]} * values[n * ldw + k];
          exact += product, magnitude += std::abs(product);
        }
        if (!(std::abs(y[m * N + n] - exact) <= bound(K, magnitude))) return false;
      }
    }
    return true;
  }
};

void gemm(DType dtype) {
  const std::string name(name_of(dtype));
  std::mt19937 random(3);
  for (const int64_t K : {0, 1, 7, 16, 129, 511, 512, 513, 1301, 5003}) {
    Matrices matrices(150, 29, K, dtype);  // more rows than a panel, columns for no whole number of tiles
    const std::vector<float> whole = matrices.block(0, 0, 150, 29);
    const std::string what = "gemm " + name + " K=" + std::to_string(K);
    check(matrices.near_exact(whole), what + " is not near the exact product");

    const auto part = [&](int64_t m0, int64_t n0, int64_t rows, int64_t cols) {
      std::vector<float> result;
      for (int64_t m = m0; m < m0 + rows; ++m) {
        result.insert(result.end(), whole.begin() + m * 29 + n0, whole.begin() + m * 29 + n0 + cols);
      }
      return result;
    };
    bool invariant = true;
    const auto compare = [&](int64_t m0, int64_t n0, int64_t rows, int64_t cols) {
      invariant = invariant && same_bits(matrices.block(m0, n0, rows, cols), part(m0, n0, rows, cols));
    };
    for (int64_t rows = 1; rows <= 20; ++rows) compare(0, 0, rows, 29);
    for (int64_t m = 0; m < 150; m += 11) compare(m, m % 29, 1, 1);
    for (int64_t n = 0; n < 29; ++n) compare(3, n, 5, 1);
    for (int i = 0; i < 20; ++i) {
      const int64_t m0 = random() % 150, n0 = random() % 29;
      compare(m0, n0, 1 + random() % (150 - m0), 1 + random() % (29 - n0));
    }
    check(invariant, what + " depends on the block an element is computed in");
  }

  Matrices matrices(9, 7, 33, dtype);  // NaN and infinity reach their row or column, and no other
  matrices.x[2 * matrices.ldx + 32] = kNaN;
  matrices.x[5 * matrices.ldx] = kInfinity;
  const std::vector<float> y = matrices.block(0, 0, 9, 7);
  bool reached = true;
  for (int64_t m = 0; m < 9; ++m) {
    for (int64_t n = 0; n < 7; ++n) {
      const bool zero = matrices.values[n * matrices.ldw] == 0;
      reached = reached && (m == 2   ? std::isnan(y[m * 7 + n])
                            : m == 5 ? (zero ? std::isnan(y[m * 7 + n]) : std::isinf(y[m * 7 + n]))
                                     : std::isfinite(y[m * 7 + n]));
    }
  }
  check(reached, "gemm " + name + " keeps NaN and infinity in their rows");
}

}  // namespace

int main() {
  check(!cpu::use_simd("mmx"), "an unknown name is refused");
  for (const char* name : {"portable", "avx2", "avx512"}) {
    if (!cpu::use_simd(name)) {
      std::printf("%s: not on this processor\n", name);
      continue;
    }
    check(simd().name == std::string(name), "use_simd takes effect");
    conversions<bf16, uint16_t>(DType::bf16);
    conversions<f16, uint16_t>(DType::f16);
    conversions<e4m3, uint8_t>(DType::e4m3);
    conversions<e5m2, uint8_t>(DType::e5m2);
    reductions();
    exponentials();
    for (DType dtype : {DType::f32, DType::bf16, DType::f16, DType::e4m3, DType::e5m2}) gemm(dtype);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
