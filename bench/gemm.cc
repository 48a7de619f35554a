// The CPU GEMM beside OpenBLAS (prefill size) and beside a plain read of the weights (decode sizes), on one
// thread, with every result checked against a double loop in the same run.
//
// Each figure is the median of several rounds, in each of which all contenders run in turn: this keeps their
// ratio stable on a shared machine. OpenBLAS (Debian: libopenblas0-pthread) is loaded if it is there.
// cmake --build build --target gemm && build/gemm
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "cpu/simd/simd.h"

using namespace nemotron_h;

namespace {

using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a,
                       int lda, const float* b, int ldb, float beta, float* c, int ldc);

Sgemm load_openblas() {
  setenv("OPENBLAS_NUM_THREADS", "1", 1);
  void* const library = dlopen("libopenblas.so.0", RTLD_NOW);
  return library ? reinterpret_cast<Sgemm>(dlsym(library, "cblas_sgemm")) : nullptr;
}

double seconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Median seconds of each, run in turn `rounds` times after one round not counted.
std::vector<double> medians(int rounds, const std::vector<std::function<void()>>& contenders) {
  std::vector<std::vector<double>> times(contenders.size());
  for (int round = -1; round < rounds; ++round) {
    for (size_t i = 0; i < contenders.size(); ++i) {
      const double t = seconds(contenders[i]);
      if (round >= 0) times[i].push_back(t);
    }
  }
  std::vector<double> result;
  for (auto& t : times) {
    std::nth_element(t.begin(), t.begin() + t.size() / 2, t.end());
    result.push_back(t[t.size() / 2]);
  }
  return result;
}

std::vector<float> normal(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(n);
  for (float& v : values) v = distribution(random);
  return values;
}

struct alignas(64) CacheLine {
  unsigned char bytes[64];
};

struct Problem {
  int64_t M, N, K;
  DType dtype;
  std::vector<float> x, y;
  std::vector<CacheLine> lines;
  unsigned char* const w;

  Problem(int64_t M, int64_t N, int64_t K, DType dtype)
      : M(M), N(N), K(K), dtype(dtype), x(normal(M * K, 1)), y(M * N), lines(N * K * size_of(dtype) / 64),
        w(lines.data()->bytes) {
    const std::vector<float> values = normal(K << 8, 2);  // again and again: there may be a hundred million
    for (int64_t n = 0; n < N; n += 256) {
      cpu::simd().store(dtype, values.data(), w + n * K * size_of(dtype), std::min<int64_t>(256, N - n) * K);
    }
  }

  void run() {
    cpu::simd().gemm({.M = M, .N = N, .K = K, .x = x.data(), .ldx = K, .w = w, .w_dtype = dtype, .ldw = K,
                      .y = y.data(), .ldy = N});
  }

  // Largest error over a sample of the results, in units of the bound of a float sum in any order.
  double error() const {
    std::vector<float> row(K);
    double worst = 0;
    for (int64_t n = 0; n < N; n += std::max<int64_t>(1, N / 61)) {
      cpu::simd().load(dtype, w + n * K * size_of(dtype), row.data(), K);
      for (int64_t m = 0; m < M; m += std::max<int64_t>(1, M / 17)) {
        double exact = 0, magnitude = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double product = static_cast<double>(x[m * K + k]) * row[k];
          exact += product;
          magnitude += std::abs(product);
        }
        worst = std::max(worst, std::abs(y[m * N + n] - exact) / (K * 0x1p-24 * magnitude));
      }
    }
    return worst;
  }
};

bool check(const Problem& problem) {
  if (problem.error() < 1) return true;
  std::printf("WRONG result\n");
  return false;
}

// Adds up the bytes as integers, eight cache lines at a time: the time it takes to read them at all.
uint64_t volatile sink;
void read_through(const std::vector<CacheLine>& lines) {
  typedef uint64_t Words __attribute__((vector_size(64), may_alias));
  Words sums[8] = {};
  for (size_t line = 0; line + 8 <= lines.size(); line += 8) {
    for (int i = 0; i < 8; ++i) sums[i] += *reinterpret_cast<const Words*>(&lines[line + i]);
  }
  for (int i = 1; i < 8; ++i) sums[0] += sums[i];
  sink = sums[0][0] + sums[0][7];
}

bool prefill(Sgemm sgemm) {
  Problem f32(512, 2048, 2048, DType::f32), bf16(512, 2048, 2048, DType::bf16);
  Problem e4m3(512, 2048, 2048, DType::e4m3);
  std::vector<std::function<void()>> contenders = {
      [&] { f32.run(); }, [&] { bf16.run(); }, [&] { e4m3.run(); }};
  std::vector<float> y(f32.y.size());
  if (sgemm) {
    contenders.push_back([&] {  // 101: row major, 111 and 112: as it is, transposed
      sgemm(101, 111, 112, f32.M, f32.N, f32.K, 1, f32.x.data(), f32.K, reinterpret_cast<float*>(f32.w),
            f32.K, 0, y.data(), f32.N);
    });
  }
  const std::vector<double> t = medians(9, contenders);
  const double flop = 2.0 * f32.M * f32.N * f32.K * 1e-9;
  std::printf("512x2048x2048  f32 %.1f  bf16 %.1f  e4m3 %.1f", flop / t[0], flop / t[1], flop / t[2]);
  if (sgemm) {
    std::printf("  OpenBLAS sgemm %.1f GFLOP/s; of its speed: f32 %.2f, bf16 %.2f, e4m3 %.2f\n", flop / t[3],
                t[3] / t[0], t[3] / t[1], t[3] / t[2]);
  } else {
    std::printf(" GFLOP/s; OpenBLAS is not installed\n");
  }
  return check(f32) && check(bf16) && check(e4m3);
}

bool decode(DType dtype) {
  bool right = true;
  const int64_t K = 4096, N = (int64_t{128} << 20) / K / size_of(dtype);  // 128 MB, past any cache
  for (const int64_t M : {1, 2, 4, 8}) {
    Problem problem(M, N, K, dtype);
    const std::vector<double> t = medians(7, {[&] { problem.run(); }, [&] { read_through(problem.lines); }});
    const double gigabytes = problem.lines.size() * 64e-9;
    std::printf("decode %d x %d x %d %-4s  %5.1f GB/s, plain read %5.1f GB/s, ratio %.2f\n",
                static_cast<int>(M), static_cast<int>(N), static_cast<int>(K), name_of(dtype).data(),
                gigabytes / t[0], gigabytes / t[1], t[1] / t[0]);
    right = check(problem) && right;
  }
  return right;
}

}  // namespace

int main() {
  const Sgemm sgemm = load_openblas();
  bool right = true;
  for (const char* name : {"avx512", "avx2", "portable"}) {
    if (!cpu::use_simd(name)) continue;
    std::printf("%s\n", name);
    right = prefill(sgemm) && right;
    for (const DType dtype : {DType::f32, DType::bf16, DType::e4m3}) right = decode(dtype) && right;
  }
  return right ? 0 : 1;
}
