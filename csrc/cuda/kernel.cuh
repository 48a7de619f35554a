// What the kernels share: elements as f32 and back, 16-byte accesses, choice by element type, reductions, faults.
//
// As on the CPU, an op reads as f32, computes in f32, and rounds once when it stores. Offsets are 64 bits.
#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cuda/ptx.cuh"
#include "tensor.h"

namespace nemotron_h::cuda {

// What a kernel begins with: it waits for the launch before it, and lets the next one begin, which does the same.
__device__ inline void wait_for_previous_launch() {
  griddepcontrol_wait();
  griddepcontrol_launch_dependents();
}

// n zeros at y, by a kernel (quantize.cu): launches do not overlap with a memset.
void zero(float* y, int64_t n);

// ---- element types

__device__ inline float widen(float v) { return v; }
__device__ inline float widen(bf16 v) { return __uint_as_float(static_cast<uint32_t>(v.bits) << 16); }
__device__ inline float widen(f16 v) {
  return __half2float(__ushort_as_half(v.bits));
}
__device__ inline float widen(e4m3 v) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(v.bits, __NV_E4M3)));
}
__device__ inline float widen(e5m2 v) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(v.bits, __NV_E5M2)));
}

// To the nearest, ties to even; fp8 saturates.
template <class T>
__device__ T narrow(float v);
template <>
__device__ inline float narrow<float>(float v) { return v; }
template <>
__device__ inline bf16 narrow<bf16>(float v) { return {__bfloat16_as_ushort(__float2bfloat16_rn(v))}; }
template <>
__device__ inline f16 narrow<f16>(float v) { return {__half_as_ushort(__float2half_rn(v))}; }
template <>
__device__ inline e4m3 narrow<e4m3>(float v) { return {__nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3)}; }
template <>
__device__ inline e5m2 narrow<e5m2>(float v) { return {__nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E5M2)}; }

// Two at once: one instruction for bf16 and fp8.
template <class T>
__device__ void narrow_pair(float a, float b, T& to_a, T& to_b) { to_a = narrow<T>(a), to_b = narrow<T>(b); }
__device__ inline void narrow_pair(float a, float b, bf16& to_a, bf16& to_b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  to_a = {__bfloat16_as_ushort(pair.x)}, to_b = {__bfloat16_as_ushort(pair.y)};
}
__device__ inline uint32_t bf16_pair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
template <class T>
__device__ void narrow_pair(float a, float b, T& to_a, T& to_b, __nv_fp8_interpretation_t format) {
  const __nv_fp8x2_storage_t pair = __nv_cvt_float2_to_fp8x2({a, b}, __NV_SATFINITE, format);
  to_a = {static_cast<uint8_t>(pair)}, to_b = {static_cast<uint8_t>(pair >> 8)};
}
__device__ inline void narrow_pair(float a, float b, e4m3& to_a, e4m3& to_b) { narrow_pair(a, b, to_a, to_b, __NV_E4M3); }
__device__ inline void narrow_pair(float a, float b, e5m2& to_a, e5m2& to_b) { narrow_pair(a, b, to_a, to_b, __NV_E5M2); }

// f(type) by dtype: with_act(x.dtype, [&]<class T>() { ... }).
template <class F>
void with_act(DType t, F f) {
  if (t == DType::f32) f.template operator()<float>();
  else f.template operator()<bf16>();
}
template <class F>
void with_fp8(DType t, F f) {
  if (t == DType::e4m3) f.template operator()<e4m3>();
  else f.template operator()<e5m2>();
}
template <class F>
void with_real(DType t, F f) {
  if (t == DType::f16) f.template operator()<f16>();
  else if (t == DType::e4m3 || t == DType::e5m2) with_fp8(t, f);
  else with_act(t, f);
}

// max(x, 0)^2; NaN stays.
__device__ inline float squared_relu(float x) {
  const float positive = x < 0 ? 0 : x;
  return positive * positive;
}

// x / (1 + exp(-x)), within (8 + 1.25 max(-x, 0)) u: the exponent is rounded twice, 2^x is off by 4 u and 1 / x by 2 u.
// Where 1 + exp(-x) passes 2^126 its inverse is 0, and what that leaves out is below 2^-119. fmaxf keeps -infinity
// away from that 0; NaN comes by way of the exponent.
__device__ inline float silu(float x) {
  return fmaxf(x, -200) * rcp_approx_ftz(1 + ex2_approx_ftz(x * -1.44269504f));
}

// ---- memory

// A tensor as kernels see it: rows of dense elements, `stride` elements apart.
template <class T>
struct Rows {
  T* data;
  int64_t stride;
  __device__ T* operator[](int64_t i) const { return data + i * stride; }
};
template <class T>
Rows<T> rows(const Tensor& t) {
  return {t.as<T>(), t.row_stride};
}

// Elements that move together: 8 are 16 bytes of bf16 and two times 16 of f32. The widest access is 16 bytes.
inline constexpr int kPack = 8;

// kN elements as stored.
template <class T, int kN>
struct alignas(kN * sizeof(T) < 16 ? kN * sizeof(T) : 16) Pack {
  T v[kN];
};

// Both are for global memory. A pack moves in accesses of 16 bytes, or in one where it is less; written in C++ these
// would be taken apart, and moved to where their values are used.
template <int kN, class T>
__device__ Pack<T, kN> load(const T* from) {
  constexpr size_t kBytes = sizeof(Pack<T, kN>);
  Pack<T, kN> pack;
  if constexpr (kBytes % 16 == 0) {
    uint4 words[kBytes / 16];
#pragma unroll
    for (size_t i = 0; i < kBytes / 16; ++i) words[i] = ld_global_v4(reinterpret_cast<const uint4*>(from) + i);
    memcpy(&pack, words, kBytes);
  } else if constexpr (kBytes == 8) {
    const uint2 words = ld_global_v2(reinterpret_cast<const uint2*>(from));
    memcpy(&pack, &words, kBytes);
  } else {
    pack = *reinterpret_cast<const Pack<T, kN>*>(from);
  }
  return pack;
}
template <class T, int kN>
__device__ void store(T* to, const Pack<T, kN>& pack) {
  constexpr size_t kBytes = sizeof pack;
  if constexpr (kBytes % 16 == 0) {
    uint4 words[kBytes / 16];
    memcpy(words, &pack, kBytes);
#pragma unroll
    for (size_t i = 0; i < kBytes / 16; ++i) st_global_v4(reinterpret_cast<uint4*>(to) + i, words[i]);
  } else if constexpr (kBytes == 8) {
    uint2 words;
    memcpy(&words, &pack, kBytes);
    st_global_v2(reinterpret_cast<uint2*>(to), words);
  } else {
    *reinterpret_cast<Pack<T, kN>*>(to) = pack;
  }
}

template <class T, int kN>
__device__ void widen(const Pack<T, kN>& from, float (&to)[kN]) {
#pragma unroll
  for (int i = 0; i < kN; ++i) to[i] = widen(from.v[i]);
}
// In pairs, as the conversions are.
template <class T, int kN>
__device__ Pack<T, kN> narrow(const float (&from)[kN]) {
  Pack<T, kN> to;
#pragma unroll
  for (int i = 0; i + 1 < kN; i += 2) narrow_pair(from[i], from[i + 1], to.v[i], to.v[i + 1]);
  if constexpr (kN % 2) to.v[kN - 1] = narrow<T>(from[kN - 1]);
  return to;
}

template <class T, int kN>
__device__ void load(const T* from, float (&to)[kN]) { widen(load<kN>(from), to); }
template <class T, int kN>
__device__ void store(T* to, const float (&from)[kN]) { store(to, narrow<T>(from)); }

// Whether rows of `width` elements can be read and written kPack at a time: all rows begin where that is aligned.
template <class... Tensors>
bool packs(int64_t width, const Tensors&... tensors) {
  const auto aligned = [](const Tensor& t) {
    if (!t) return true;
    const size_t access = std::min<size_t>(16, kPack * size_of(t.dtype));
    return reinterpret_cast<uintptr_t>(t.data.get()) % access == 0 &&
           (t.rank == 1 || t.size(0) <= 1 || t.row_stride * size_of(t.dtype) % access == 0);
  };
  return width % kPack == 0 && (aligned(tensors) && ...);
}
// f.template operator()<kN>(), kN being kPack, or 1 where that cannot be.
template <class F>
void with_packs(bool packed, F f) {
  if (packed) f.template operator()<kPack>();
  else f.template operator()<1>();
}

// ---- reductions: the order of the sums is fixed, so are their bits

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = ~0u;

struct Sum {
  static constexpr float kNothing = 0;
  __device__ float operator()(float a, float b) const { return a + b; }
};
// As fmaxf: NaN is passed over.
struct Max {
  static constexpr float kNothing = -INFINITY;
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// The same in every lane.
template <class Op>
__device__ float warp_reduce(float v, Op op) {
#pragma unroll
  for (int by = kWarp / 2; by; by /= 2) v = op(v, __shfl_xor_sync(kAllLanes, v, by));
  return v;
}

// The same in every thread of a team of `warps` neighbouring warps, of which `first` is the first; at most kThreads in a
// block, all of whose threads call this. A second call needs another Tag, or a barrier between.
template <int kThreads, class Tag, class Op>
__device__ float team_reduce(float v, Op op, unsigned first, unsigned warps) {
  static_assert(kThreads % kWarp == 0 && kThreads <= 1024);
  auto& of_warp = shared<float[kThreads / kWarp], Tag>();
  v = warp_reduce(v, op);
  if (kThreads == kWarp) return v;
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = v;
  __syncthreads();
  const unsigned lane = threadIdx.x % kWarp;
  return warp_reduce(lane < warps ? of_warp[first + lane] : Op::kNothing, op);
}
// The same in every thread of a block of whole warps.
template <int kThreads, class Tag, class Op>
__device__ float block_reduce(float v, Op op) { return team_reduce<kThreads, Tag>(v, op, 0, blockDim.x / kWarp); }

// Whether this block is the last of `others` + 1 to come here, and so finds what all of them have written.
__device__ inline bool comes_last(unsigned* ticket, unsigned others) {
  __syncthreads();  // all threads have written
  bool last = false;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc(ticket, others) == others;  // which after the last is 0 again, for the next launch
    __threadfence();
  }
  return __syncthreads_or(last);
}

// *most = max(*most, v), neither of which is negative: such floats are ordered as their bits are.
__device__ inline void raise(float* most, float v) { atomicMax(reinterpret_cast<int*>(most), __float_as_int(v)); }

// ---- faults

struct Faults {
  Fault* record;
  const char* op;

  // Whether something before was wrong: then indices may be anything, and nothing that uses them may run.
  __device__ bool pending() const { return *static_cast<const volatile int*>(&record->claimed) != 0; }

  __device__ void report(Rule rule, Name name, int64_t value, int64_t limit, int64_t i, int64_t j = -1) const {
    report({rule, name, op, i, j, value, limit, 0});
  }
  __device__ void report(Rule rule, Name name, int64_t i, double number) const {
    report({rule, name, op, i, -1, 0, 0, number});
  }

 private:
  __device__ void report(const Report& what) const {
    if (atomicCAS(&record->claimed, 0, 1) == 0) record->report = what;
  }
};
inline Faults faults() { return {current().fault, current().op}; }

}  // namespace nemotron_h::cuda
