// wgmma: the tensor cores of sm_90a, which multiply operands in shared memory for a warpgroup of 128 threads.
//
// Operands in shared memory are 128-byte-swizzled, as TMA writes them, and told by a descriptor. A product is under
// way until the wait that covers it; its accumulators, and operands in registers, may not be touched before.
#pragma once

#include "cuda/ptx.cuh"

namespace nemotron_h::cuda {

// Describes a 128-byte-swizzled operand. K-major: rows of 128 bytes, 1024 bytes between groups of 8
// rows. MN-major: 64 elements of M or N by 8 of k in each 1024 bytes, `leading` bytes to the next 64.
PTX uint64_t matrix_descriptor(const void* p, unsigned leading = 16, unsigned stride = 1024) {
  return uint64_t(1) << 62 | uint64_t(stride >> 4) << 32 | uint64_t(leading >> 4) << 16 |
         (cvta_to_shared(p) & 0x3ffff) >> 4;
}
// The same operand, `bytes` further: 32 for the next k step of a K-major operand.
PTX uint64_t advance(uint64_t descriptor, unsigned bytes) { return descriptor + (bytes >> 4); }

// Before the first product, and after any access to accumulators or operands in registers.
PTX void wgmma_fence() {
#ifdef __CUDACC__
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
  simt::wgmma_fence();
#endif
}

PTX void wgmma_commit_group() {
#ifdef __CUDACC__
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
  simt::wgmma_commit();
#endif
}

template <int kLeft> PTX void wgmma_wait_group() {
#ifdef __CUDACC__
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
#else
  simt::wgmma_wait(kLeft);
#endif
}

// The wait after which `d` is read: keeps the compiler from reading it any earlier.
template <int kLeft, int kCount> PTX void wgmma_wait_group([[maybe_unused]] float (&d)[kCount]) {
  wgmma_wait_group<kLeft>();
#ifdef __CUDACC__
#pragma unroll
  for (int i = 0; i < kCount; i++) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

// wgmma<A, B>(d, a, b, accumulate): d = a b' (+ d where `accumulate`), in f32. d is 64 x n, of which a thread holds
// d[n/2]; a is 64 and b n rows of 32 bytes of k: 16 of bf16, which may be MN-major, or 32 of fp8, which may not.
// wgmma<kMajorB>(d, registers, b, accumulate): a in registers, laid out as for mma_m16n8k16_bf16 (warp w has rows
// 16w to 16w+15).
#ifdef __CUDACC__

// The names of registers: %t0 to %t9, and operands for four, sixteen, sixty-four of them.
#define TEN(t) \
  "%" t "0, %" t "1, %" t "2, %" t "3, %" t "4, %" t "5, %" t "6, %" t "7, %" t "8, %" t "9"
#define SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define SUMS_8(i) SUMS_4(i), SUMS_4(i + 4)
#define SUMS_16(i) SUMS_8(i), SUMS_8(i + 8)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SUMS_40(i) SUMS_32(i), SUMS_8(i + 32)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define SUMS_128(i) SUMS_64(i), SUMS_64(i + 64)
#define NAMES_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define NAMES_16 TEN("") ", %10, %11, %12, %13, %14, %15"
#define NAMES_32 TEN("") ", " TEN("1") ", " TEN("2") ", %30, %31"
#define NAMES_40 TEN("") ", " TEN("1") ", " TEN("2") ", " TEN("3")
#define NAMES_60 TEN("") ", " TEN("1") ", " TEN("2") ", " TEN("3") ", " TEN("4") ", " TEN("5")
#define NAMES_64 NAMES_60 ", %60, %61, %62, %63"
#define NAMES_128                                                                                            \
  NAMES_60 ", " TEN("6") ", " TEN("7") ", " TEN("8") ", " TEN("9") ", " TEN("10") ", " TEN("11")             \
  ", %120, %121, %122, %123, %124, %125, %126, %127"

// i0 to i6 are the numbers of the operands that follow the sums.
#define WGMMA_OF(n, sums, i0, i1, i2, i3, i4, i5, i6)                                                        \
  template <class A, class B, bool kMajorA = true, bool kMajorB = true>                                      \
  PTX void wgmma(float (&d)[sums], uint64_t a, uint64_t b, bool accumulate) {                                \
    constexpr bool a5 = std::is_same_v<A, e5m2>, b5 = std::is_same_v<B, e5m2>;                               \
    if constexpr (std::is_same_v<A, bf16>)                                                                   \
      asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #i2 ", 0;\n"                                           \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" NAMES_##sums "}, "            \
                   "%" #i0 ", %" #i1 ", p, 1, 1, %" #i3 ", %" #i4 "; }"                                       \
                   : SUMS_##sums(0) : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(!kMajorA)),               \
                     "n"(int(!kMajorB)));                                                                    \
    else if constexpr (!a5 && !b5) WGMMA_FP8(n, sums, i0, i1, i2, "e4m3.e4m3");                              \
    else if constexpr (a5 && !b5) WGMMA_FP8(n, sums, i0, i1, i2, "e5m2.e4m3");                               \
    else if constexpr (b5 && !a5) WGMMA_FP8(n, sums, i0, i1, i2, "e4m3.e5m2");                               \
    else WGMMA_FP8(n, sums, i0, i1, i2, "e5m2.e5m2");                                                        \
  }                                                                                                          \
  template <bool kMajorB = true>                                                                             \
  PTX void wgmma(float (&d)[sums], const uint32_t (&a)[4], uint64_t b, bool accumulate) {                    \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #i5 ", 0;\n"                                             \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" NAMES_##sums "}, "              \
                 "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4 ", p, 1, 1, %" #i6 "; }"                   \
                 : SUMS_##sums(0) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), \
                   "n"(int(!kMajorB)));                                                                      \
  }
#define WGMMA_FP8(n, sums, i0, i1, i2, types)                                                                \
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %" #i2 ", 0;\n"                                               \
               "wgmma.mma_async.sync.aligned.m64n" #n "k32.f32." types " {" NAMES_##sums "}, "                \
               "%" #i0 ", %" #i1 ", p, 1, 1; }"                                                              \
               : SUMS_##sums(0) : "l"(a), "l"(b), "r"(int(accumulate)))

WGMMA_OF(16, 8, 8, 9, 10, 11, 12, 13, 14)
WGMMA_OF(32, 16, 16, 17, 18, 19, 20, 21, 22)
WGMMA_OF(64, 32, 32, 33, 34, 35, 36, 37, 38)
WGMMA_OF(80, 40, 40, 41, 42, 43, 44, 45, 46)
WGMMA_OF(128, 64, 64, 65, 66, 67, 68, 69, 70)
WGMMA_OF(256, 128, 128, 129, 130, 131, 132, 133, 134)

#undef WGMMA_FP8
#undef WGMMA_OF
#undef NAMES_128
#undef NAMES_64
#undef NAMES_60
#undef NAMES_40
#undef NAMES_32
#undef NAMES_16
#undef NAMES_8
#undef SUMS_128
#undef SUMS_64
#undef SUMS_40
#undef SUMS_32
#undef SUMS_16
#undef SUMS_8
#undef SUMS_4
#undef TEN

#else

template <class A, class B, bool kMajorA = true, bool kMajorB = true, int kSums>
void wgmma(float (&d)[kSums], uint64_t a, uint64_t b, bool accumulate) {
  simt::wgmma({simt::element<A>, simt::element<B>, 2 * kSums, a, b, accumulate, !kMajorA, !kMajorB}, d);
}
template <bool kMajorB = true, int kSums>
void wgmma(float (&d)[kSums], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  simt::wgmma({simt::Element::bf16, simt::Element::bf16, 2 * kSums, 0, b, accumulate, false, !kMajorB}, d, a);
}

#endif

}  // namespace nemotron_h::cuda
