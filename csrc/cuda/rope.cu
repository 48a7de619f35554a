// Rotary position embedding (Su et al. 2021), in place. A block takes a token.
#include "checks.h"
#include "cuda/batch.cuh"
#include "cuda/rotation.cuh"
#include "ops.h"

namespace nemotron_h::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 2;  // packs of pairs that a thread loads before it rotates the first

template <class T, int kN>
__global__ void __launch_bounds__(kThreads, 8)
    rope_kernel(Rows<T> x, const float* inv_freq, const int32_t* offsets, const int32_t* past, int sequences, int H,
                int P, Faults faults) {
  wait_for_previous_launch();
  if (faults.pending()) return;
  const int64_t t = blockIdx.x;
  const int pairs = P / 2, s = find_sequence(offsets, sequences, t);
  float* cosine = static_cast<float*>(dynamic_smem());
  float* sine = cosine + pairs;
  compute_turns<kThreads>(inv_freq, pairs, past[s] + (t - offsets[s]), cosine, sine);
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
      float a[kN], b[kN];
      widen(firsts[n], a), widen(seconds[n], b);
      rotate(cosine + i % pairs, sine + i % pairs, a, b);
      store(first_of(i), a), store(first_of(i) + pairs, b);
    }
  }
}

}  // namespace

void rope(const Tensor& x, const Tensor& inv_freq, const Tensor& offsets, const Tensor& past) {
  check_rotation("x", x);
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
