// Chooses among the instruction sets at run time.
#include "simd.h"

#ifdef __x86_64__
#include <pmmintrin.h>
#endif

#include <atomic>
#include <cstring>
#include <vector>

namespace nemotron_h::cpu {
namespace {

struct Candidate {
  const Simd* simd;
  bool supported;
};

const Simd* find(const char* name) {  // the first that is supported and, unless null, has that name
  const Candidate candidates[] = {
#ifdef __x86_64__
      {&kAvx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                     __builtin_cpu_supports("fma")},
      // Every processor with AVX2 has F16C, which not all compilers can ask for.
      {&kAvx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
      {&kPortable, true},
  };
  for (const auto& [simd, supported] : candidates) {
    if (supported && (!name || std::strcmp(simd->name, name) == 0)) return simd;
  }
  return nullptr;
}

std::atomic<const Simd*>& chosen() {
  static std::atomic<const Simd*> simd = find(nullptr);
  return simd;
}

}  // namespace

const Simd& simd() { return *chosen().load(std::memory_order_relaxed); }

bool use_simd(const char* name) {
  const Simd* simd = find(name);
  if (simd) chosen().store(simd, std::memory_order_relaxed);
  return simd;
}

float* gemm_scratch(size_t floats) {
  struct alignas(64) CacheLine {
    float values[16];
  };
  thread_local std::vector<CacheLine> lines;
  if (lines.size() * 16 < floats) lines.resize((floats + 15) / 16);
  return lines.data()->values;
}

#ifdef __x86_64__
FlushSubnormals::FlushSubnormals() : before_(_mm_getcsr()) {
  _mm_setcsr(before_ | _MM_FLUSH_ZERO_ON | _MM_DENORMALS_ZERO_ON);
}
FlushSubnormals::~FlushSubnormals() { _mm_setcsr(before_); }
#else
FlushSubnormals::FlushSubnormals() = default;
FlushSubnormals::~FlushSubnormals() = default;
#endif

}  // namespace nemotron_h::cpu
