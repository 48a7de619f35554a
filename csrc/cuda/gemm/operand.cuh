// An operand [rows,K] of a product on tensor cores: from global memory through shared memory to registers.
//
// The idea: a product does not mind the order of k as long as both operands have the same. In shared memory a slab is
// [rows][kSlab] without gaps, and lane 4r+q of a warp reads the q-th quarter of row r: its operands of two mma, of any
// element type. The warp reads consecutive bytes, free of bank conflicts, and fp8 is widened where it stands.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/ptx.cuh"

namespace nemotron_h::cuda::gemm {

// Element types of operands: bf16; e4m3, multiplied as it is; uint8_t, fp8 of either format, which is widened to bf16.
// k of a slab, which is what two mma multiply:
template <class T>
inline constexpr int kSlab = std::is_same_v<T, e4m3> ? 64 : 32;

// Of fp8 to bf16: exponent and mantissa move to their places, and a product makes up for the bias of the exponent,
// which is exact. Infinity and NaN are found by a carry, and mended.
struct Widening {
  int shift;         // by how many bits the exponent is shorter
  uint32_t special;  // in every byte, what carries an exponent of infinity or NaN, and no other, into the sign
  uint32_t scale;    // 2^(127 - bias), twice as bf16
};
inline Widening widening(DType t) {
  if (t == DType::e5m2) return {3, 0x04040404, 0x77807780};
  return {4, 0x01010101, 0x7b807b80};
}

using cuda::widen;
__device__ inline void widen(const uint2& eight, const Widening& w, uint32_t (&to)[4]) {
  // Bytes 0 and 1, or 2 and 3, as the upper ones of two halves.
  const auto spread = [](uint32_t four, int pair) { return __byte_perm(four, 0, pair ? 0x3424 : 0x1404); };
  const uint32_t four[2] = {eight.x, eight.y};
  uint32_t special[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) special[i] = ((four[i] & 0x7f7f7f7f) + w.special) & 0x80808080;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint32_t v = spread(four[i / 2], i % 2);
    to[i] = (v & 0x80008000) | (v & 0x7f007f00) >> w.shift;
  }
  if (special[0] | special[1]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t sign = spread(special[i / 2], i % 2);
      to[i] |= sign - (sign >> 8);  // 0x8000 becomes 0x7f80, the exponent
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    auto& pair = reinterpret_cast<__nv_bfloat162&>(to[i]);
    pair = __hmul2(pair, reinterpret_cast<const __nv_bfloat162&>(w.scale));
  }
}

// Quarter q of a row of a slab.
__device__ inline void load_quarter(const bf16* row, int q, const Widening&, uint32_t (&to)[4]) {
  const uint4 v = reinterpret_cast<const uint4*>(row)[q];
  to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
}
__device__ inline void load_quarter(const e4m3* row, int q, const Widening& w, uint32_t (&to)[4]) {
  load_quarter(reinterpret_cast<const bf16*>(row), q, w, to);
}
__device__ inline void load_quarter(const uint8_t* row, int q, const Widening& w, uint32_t (&to)[4]) {
  widen(reinterpret_cast<const uint2*>(row)[q], w, to);
}

template <class T>
struct Operand {
  const T* data;
  int64_t rows, K, stride;
  bool packed;  // every 16 bytes of a row begin where that is aligned
  Widening widening;

  explicit Operand(const Tensor& t)
      : data(t.as<T>()), rows(t.size(0)), K(t.size(1)), stride(t.row_stride), widening(gemm::widening(t.dtype)) {
    const auto aligned = [](uintptr_t bytes) { return bytes % 16 == 0; };
    packed = aligned(reinterpret_cast<uintptr_t>(data)) && aligned(K * sizeof(T)) &&
             (rows <= 1 || aligned(stride * sizeof(T)));
  }

  // kRows rows from `row` on by kSlabs slabs from `k` on, to `stage` [kSlabs][kRows][kSlab]; zeros beyond the edges.
  // It is there after cp_async_wait_group and a barrier.
  template <int kRows, int kSlabs, int kThreads>
  __device__ void copy(int64_t row, int64_t k, T* stage) const {
    constexpr int kAcross = kSlab<T> / kChunk, kEach = kSlabs * kRows * kAcross / kThreads;
    static_assert(kSlabs * kRows * kAcross % kThreads == 0);
    const auto chunk = [&](int i, auto move) {
      const int c = threadIdx.x + i * kThreads, slab = c / (kAcross * kRows);
      move(row + c / kAcross % kRows, k + slab * kSlab<T> + c % kAcross * kChunk, stage + c * kChunk);
    };
    if (packed) {
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        chunk(i, [&](int64_t m, int64_t first, T* to) { cp_async_16(to, at(m, first), m < rows && first < K); });
    } else {
#pragma unroll 1
      for (int i = 0; i < kEach; ++i)
        chunk(i, [&](int64_t m, int64_t first, T* to) {
          struct alignas(16) { T v[kChunk]; } elements;
#pragma unroll
          for (int e = 0; e < kChunk; ++e) elements.v[e] = m < rows && first + e < K ? at(m, first)[e] : T{};
          *reinterpret_cast<decltype(elements)*>(to) = elements;
        });
    }
  }

 private:
  static constexpr int kChunk = 16 / sizeof(T);

  __device__ const T* at(int64_t m, int64_t k) const { return data + m * stride + k; }
};

}  // namespace nemotron_h::cuda::gemm
