// CUDA's built-in variables and functions for host compilers.
//
// What needs other threads of the warp is a collective(): every lane of the mask brings a record and waits, and the
// last to come fills in the results of all.
#pragma once

#include <vector_types.h>

#include <math.h>
#include <cstring>

#define __launch_bounds__(...)  // the CUDA headers define the other keywords for host compilers

// On a function whose accesses are the launch's, not the kernel's.
#define SIMT_UNWATCHED __attribute__((no_sanitize("thread")))

// Constant as a thread sees them: the compiler need not load them again, and there is nothing to watch.
#define SIMT_VARIABLE extern const __thread __attribute__((tls_model("initial-exec")))
SIMT_VARIABLE uint3 threadIdx, blockIdx, blockDim, gridDim;
#undef SIMT_VARIABLE

namespace simt {

// The records of a warp's lanes; null outside the mask.
using Lanes = void* [32];
void collective(unsigned mask, const char* name, void* mine, FunctionRef<void(Lanes&)> all);

enum class Vote { none, any, all, count };
int sync_threads(Vote vote, int predicate, const char* file, int line);
void sync_warp(unsigned mask);
unsigned lane_id();

// Replaces the 4 or 8 bytes at p by change(them), at once for all threads; returns what was there. blind: which does not
// matter, as the caller need not look.
uint64_t atomic(void* p, size_t bytes, FunctionRef<uint64_t(uint64_t)> change, bool blind = false);
void thread_fence();
void yield();

template <class To, class From>
To bits(From v) {
  To to{};
  std::memcpy(&to, &v, sizeof(To) < sizeof(From) ? sizeof(To) : sizeof(From));
  return to;
}

template <class T, class Source>
T shuffle(const char* name, unsigned mask, T value, int width, Source source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  struct Record {
    T in, out;
    int from;
  };
  const int lane = lane_id(), first = lane & ~(width - 1), from = source(lane - first);
  Record mine{value, value, from < 0 || from >= width ? lane : first + from};  // outside the segment: one's own
  collective(mask, name, &mine, [name](Lanes& lanes) SIMT_UNWATCHED {
    for (void* p : lanes) {
      if (!p) continue;
      auto& r = *static_cast<Record*>(p);
      if (!lanes[r.from])
        fail(std::string(name) + " reads lane " + std::to_string(r.from) + ", which is not in the mask");
      r.out = static_cast<Record*>(lanes[r.from])->in;
    }
  });
  return mine.out;
}

template <class T, class Fold>
T reduce(const char* name, unsigned mask, T value, Fold fold) {
  collective(mask, name, &value, [&](Lanes& lanes) SIMT_UNWATCHED {
    T* first = nullptr;
    for (void* p : lanes) {
      if (!p) continue;
      if (first) *first = fold(*first, *static_cast<T*>(p));
      else first = static_cast<T*>(p);
    }
    for (void* p : lanes)
      if (p) *static_cast<T*>(p) = *first;
  });
  return value;
}

template <class T, class Change>
T atomic_change(T* p, Change change, bool blind = false) {
  const auto on_bits = [&](uint64_t old) { return bits<uint64_t>(static_cast<T>(change(bits<T>(old)))); };
  return bits<T>(atomic(p, sizeof(T), on_bits, blind));
}
template <class T>
using Same = std::type_identity_t<T>;

}  // namespace simt

#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
inline void __syncthreads(SIMT_HERE) { simt::sync_threads(simt::Vote::none, 0, file, line); }
inline int __syncthreads_or(int p, SIMT_HERE) { return simt::sync_threads(simt::Vote::any, p, file, line); }
inline int __syncthreads_and(int p, SIMT_HERE) { return simt::sync_threads(simt::Vote::all, p, file, line); }
inline int __syncthreads_count(int p, SIMT_HERE) { return simt::sync_threads(simt::Vote::count, p, file, line); }
#undef SIMT_HERE
inline void __syncwarp(unsigned mask = ~0u) { simt::sync_warp(mask); }
inline void __threadfence() { simt::thread_fence(); }
inline void __threadfence_block() { simt::thread_fence(); }
inline void __nanosleep(unsigned) { simt::yield(); }

template <class T>
T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
  return simt::shuffle("__shfl_sync", mask, v, width, [=](int) { return lane & (width - 1); });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32) {
  return simt::shuffle("__shfl_xor_sync", mask, v, width, [=](int lane) { return lane ^ by; });
}
template <class T>
T __shfl_down_sync(unsigned mask, T v, int by, int width = 32) {
  return simt::shuffle("__shfl_down_sync", mask, v, width, [=](int lane) { return lane + by; });
}
template <class T>
T __shfl_up_sync(unsigned mask, T v, int by, int width = 32) {
  return simt::shuffle("__shfl_up_sync", mask, v, width, [=](int lane) { return lane - by; });
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  const unsigned bit = predicate ? 1u << simt::lane_id() : 0;
  return simt::reduce("__ballot_sync", mask, bit, [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
template <class T>
T __reduce_add_sync(unsigned mask, T v) {
  return simt::reduce("__reduce_add_sync", mask, v, [](T a, T b) { return a + b; });
}
template <class T>
T __reduce_max_sync(unsigned mask, T v) {
  return simt::reduce("__reduce_max_sync", mask, v, [](T a, T b) { return a < b ? b : a; });
}
template <class T>
T __reduce_min_sync(unsigned mask, T v) {
  return simt::reduce("__reduce_min_sync", mask, v, [](T a, T b) { return b < a ? b : a; });
}

template <class T>
T atomicExch(T* p, simt::Same<T> v) { return simt::atomic_change(p, [=](T) { return v; }, true); }
template <class T>
T atomicAdd(T* p, simt::Same<T> v) { return simt::atomic_change(p, [=](T old) { return old + v; }); }
inline unsigned atomicInc(unsigned* p, unsigned last) {
  simt::remember_ticket(p);
  return simt::atomic_change(p, [=](unsigned old) { return old >= last ? 0 : old + 1; });
}
template <class T>
T atomicMax(T* p, simt::Same<T> v) { return simt::atomic_change(p, [=](T old) { return old < v ? v : old; }); }
template <class T>
T atomicMin(T* p, simt::Same<T> v) { return simt::atomic_change(p, [=](T old) { return v < old ? v : old; }); }
template <class T>
T atomicOr(T* p, simt::Same<T> v) { return simt::atomic_change(p, [=](T old) { return old | v; }); }
template <class T>
T atomicCAS(T* p, simt::Same<T> expected, simt::Same<T> v) {
  return simt::atomic_change(p, [=](T old) { return old == expected ? v : old; });
}

template <class T>
T __ldg(const T* p) { return *p; }
template <class T>
T min(T a, T b) { return b < a ? b : a; }
template <class T>
T max(T a, T b) { return a < b ? b : a; }
inline float __uint_as_float(unsigned v) { return simt::bits<float>(v); }
inline float __int_as_float(int v) { return simt::bits<float>(v); }
inline unsigned __float_as_uint(float v) { return simt::bits<unsigned>(v); }
inline int __float_as_int(float v) { return simt::bits<int>(v); }
inline int __clz(unsigned v) { return v ? __builtin_clz(v) : 32; }
inline int __ffs(int v) { return __builtin_ffs(v); }
// The byte of b:a that each nibble of `selector` names; its top bit asks for the sign in all 8 bits.
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> 4 * i & 15, byte = bytes >> 8 * (s & 7) & 255;
    result |= (s & 8 ? byte & 128 ? 255u : 0u : byte) << 8 * i;
  }
  return result;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline void sincospif(float x, float* sine, float* cosine) {
  const double angle = M_PI * x;
  *sine = std::sin(angle), *cosine = std::cos(angle);
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
