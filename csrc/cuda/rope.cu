// Rotary position embedding (Su et al. 2021), in place, pairing element i of a head with i + P/2.
//
// A block takes a token: cosines and sines are computed once, in f64 as on the CPU, and serve all heads.
#include "checks.h"
#include "cuda/batch.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 2;  // packs of pairs that a thread loads before it rotates the first

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 8)
    rope_kernel(Rows<T> x, const float* inv_freq, const int32_t* offsets, const int32_t* past, int sequences, int H,
                int P, Faults faults) {
  if (faults.pending()) return;
  const int64_t t = blockIdx.x;
  const int pairs = P / 2, s = find_sequence(offsets, sequences, t);
  const double position = static_cast<double>(past[s] + (t - offsets[s]));
  float* cosine = static_cast<float*>(dynamic_smem());
  float* sine = cosine + pairs;
  for (int j = threadIdx.x; j < pairs; j += kThreads) {
    double sin, cos;
    sincos(position * inv_freq[j], &sin, &cos);
    cosine[j] = static_cast<float>(cos), sine[j] = static_cast<float>(sin);
  }
  __syncthreads();

  const int all = H * pairs, step = kThreads * kN;
  const auto first_of = [&](int i) { return x[t] + i / pairs * P + i % pairs; };
  for (int begin = threadIdx.x * kN; begin < all; begin += kAhead * step) {
    Pack<T, kN> firsts[kAhead], seconds[kAhead];
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const int i = begin + n * step;
      const T* from = first_of(i < all ? i : begin);  // past the row: this thread's own, which no other writes
      firsts[n] = load<kN>(from), seconds[n] = load<kN>(from + pairs);
    }
#pragma unroll
    for (int n = 0; n < kAhead; ++n) {
      const int i = begin + n * step;
      if (i >= all) break;
      const auto c = *reinterpret_cast<const Pack<float, kN>*>(cosine + i % pairs);
      const auto s = *reinterpret_cast<const Pack<float, kN>*>(sine + i % pairs);
      float a[kN], b[kN];
      widen(firsts[n], a), widen(seconds[n], b);
#pragma unroll
      for (int j = 0; j < kN; ++j) {
        const float first = a[j], second = b[j];
        a[j] = fmaf(first, c.v[j], -(second * s.v[j]));
        b[j] = fmaf(second, c.v[j], first * s.v[j]);
      }
      store(first_of(i), a), store(first_of(i) + pairs, b);
    }
  }
}

}  // namespace

void rope(const Tensor& x, const Tensor& inv_freq, const Tensor& offsets, const Tensor& past) {
  check_rotation(x);
  const int64_t T = x.size(0), H = x.size(1), P = x.size(2);
  check_sequences(offsets, past, T);
  with_act(x.dtype, [&]<class E>() {
    with_packs(packs(P / 2, x), [&]<int kN>() {
      launch(rope_kernel<E, kN>,
             {.grid = static_cast<unsigned>(T), .block = kThreads, .smem = P * sizeof(float)}, rows<E>(x),
             inv_freq.as<float>(), offsets.as<int32_t>(), past.as<int32_t>(), static_cast<int>(past.size(0)),
             static_cast<int>(H), static_cast<int>(P), faults());
    });
  });
}

}  // namespace nemotron_h::cuda
