// How norms share out rows, or groups of columns within rows: a team of threads takes one.
//
// It passes over memory once: kHeld packs a thread stay in registers between the sum of squares and the product, and
// the weights arrive meanwhile. What a team of kThreads does not hold (above 8192 columns) is read a second time, from
// the cache.
#pragma once

#include "cuda/rows.cuh"

namespace nemotron_h::cuda::norm {

inline constexpr int kThreads = 512, kHeld = 2;

// The threads of a team for `width` columns.
inline unsigned team_for(int64_t width) { return threads_for(ceil_div(width, kPack), kHeld, kThreads); }

// ---- what is normalised: read() gives kPack elements of row t from d on, keep() is told them when all are read

template <class E, int kN>
struct Plain {
  using Element = E;
  static constexpr int kAccess = kN;
  Rows<const E> x;
  __device__ void read(int64_t t, int64_t d, int64_t end, float (&u)[kPack]) const {
    widen(load_pack<kN>(x[t], d, end), u);
  }
  __device__ void keep(int64_t, int64_t, int64_t, const float (&)[kPack]) const {}
};

template <class E, int kN>
struct Added {
  using Element = E;
  static constexpr int kAccess = kN;
  Rows<E> residual;
  Rows<const E> x;
  __device__ void read(int64_t t, int64_t d, int64_t end, float (&u)[kPack]) const {
    const auto a = load_pack<kN>(residual[t], d, end), b = load_pack<kN>(x[t], d, end);
#pragma unroll
    for (int i = 0; i < kPack; ++i) u[i] = widen(a.v[i]) + widen(b.v[i]);
    widen(narrow<E>(u), u);  // what a norm of it would read
  }
  __device__ void keep(int64_t t, int64_t d, int64_t end, const float (&u)[kPack]) const {
    store_pack<kN>(residual[t], d, end, u);
  }
};

template <class E, int kN, class X = E>
struct Gated {
  using Element = E;
  static constexpr int kAccess = kN;
  Rows<const X> x;
  Rows<const E> z;
  __device__ void read(int64_t t, int64_t d, int64_t end, float (&u)[kPack]) const {
    const auto a = load_pack<kN>(x[t], d, end);
    const auto gate = load_pack<kN>(z[t], d, end);
#pragma unroll
    for (int i = 0; i < kPack; ++i) u[i] = widen(a.v[i]) * silu(widen(gate.v[i]));
  }
  __device__ void keep(int64_t, int64_t, int64_t, const float (&)[kPack]) const {}
};

// ---- what a thread has of columns begin to end of row t, being one of a team

template <class Source>
class Part {
 public:
  float held[kHeld][kPack];

  __device__ Part(const Source& source, const float* weight, int64_t t, int64_t begin, int64_t end, unsigned thread,
                  unsigned team)
      : source_(source), weight_(weight), t_(t), end_(end), step_(int64_t{team} * kPack),
        first_(begin + int64_t{thread} * kPack) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) source_.read(t_, column(i), end_, held[i]);
#pragma unroll
    for (int i = 0; i < kHeld; ++i) weights_[i] = weights(column(i));
  }

  // Where held[i] begins; not below `end`: it holds nothing there.
  __device__ int64_t column(int i) const { return first_ + i * step_; }

  // Of what is held: the sum of squares, and u * scale * weight in its place.
  __device__ float squares() const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kHeld; ++i) sum += squares(column(i), held[i]);
    return sum;
  }
  __device__ void normalize(float scale) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) normalize(column(i), held[i], weights_[i], scale);
  }

  // The same of one pack. Products are fused with sums, so that kernels agree on every bit.
  __device__ float squares(int64_t d, const float (&u)[kPack]) const {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      if (d + (Source::kAccess == kPack ? 0 : i) < end_) sum = fmaf(u[i], u[i], sum);
    return sum;
  }
  __device__ void normalize(int64_t d, float (&u)[kPack], float scale) const { normalize(d, u, weights(d), scale); }

  // f(d, u) for the packs that are not held.
  template <class F>
  __device__ void rest(F f) const {
#pragma unroll 1
    for (int64_t d = column(kHeld); d < end_; d += step_) {
      float u[kPack];
      source_.read(t_, d, end_, u);
      f(d, u);
    }
  }

 private:
  __device__ Pack<float, kPack> weights(int64_t d) const { return load_pack<Source::kAccess>(weight_, d, end_); }
  __device__ void normalize(int64_t d, float (&u)[kPack], const Pack<float, kPack>& by, float scale) const {
    source_.keep(t_, d, end_, u);
#pragma unroll
    for (int i = 0; i < kPack; ++i) u[i] = u[i] * scale * by.v[i];
  }

  const Source& source_;
  const float* weight_;
  int64_t t_, end_, step_, first_;
  Pack<float, kPack> weights_[kHeld];
};

// What normalises `width` elements whose squares add up to this.
__device__ inline float inverse_root(float squares, int64_t width, float eps) {
  return rsqrtf(squares / static_cast<float>(width) + eps);
}

// Normalises columns begin to end of row t, of which there are some. All threads of a block of at most kThreads call
// this; store(d, u) takes kPack elements from d on, or fewer where they pass the end.
template <int kThreads, class Source, class Store>
__device__ void normalize_row(const Source& source, const float* weight, int64_t t, int64_t begin, int64_t end,
                              float eps, Store store) {
  Part part(source, weight, t, begin, end, threadIdx.x, blockDim.x);
  float squares = part.squares();
  part.rest([&](int64_t d, const float (&u)[kPack]) { squares += part.squares(d, u); });
  squares = block_reduce<kThreads, struct Squares>(squares, Sum{});

  const float scale = inverse_root(squares, end - begin, eps);
  part.normalize(scale);
#pragma unroll
  for (int i = 0; i < kHeld; ++i) store(part.column(i), part.held[i]);
  part.rest([&](int64_t d, float (&u)[kPack]) {
    part.normalize(d, u, scale);
    store(d, u);
  });
}

// Rounds as a norm is stored; gives the largest magnitude.
template <class E>
__device__ float round_to(float (&v)[kPack]) {
  widen(narrow<E>(v), v);
  float most = 0;
#pragma unroll
  for (int i = 0; i < kPack; ++i) most = fmaxf(most, fabsf(v[i]));
  return most;
}

}  // namespace nemotron_h::cuda::norm
