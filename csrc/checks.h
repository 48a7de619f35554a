// What a signature cannot say of its arguments: relations between sizes and ranges of scalars, checked by the op on
// every device alike. What is wrong throws std::out_of_range; the queue puts the op's name before it.
#pragma once

#include <charconv>
#include <cmath>
#include <stdexcept>
#include <string>

#include "tensor.h"

namespace nemotron_h {

inline void expect(bool ok, const std::string& found, const std::string& expected) {
  if (!ok) throw std::out_of_range(found + ", expected " + expected);
}

// The shortest digits that no other float has: what is shown is what was found.
inline std::string shortest(float value) {
  char digits[32];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

// One scale, or one for each of `rows`.
inline void check_scales(const char* name, const Tensor& scales, const char* symbol, int64_t rows) {
  const int64_t R = scales.size(0);
  expect(R == 1 || R == rows, std::string(name) + " is [" + std::to_string(R) + "]",
         std::string("[1] or [") + symbol + "=" + std::to_string(rows) + "]");
}

// How many scales are asked for: one, or one for each of `rows`.
inline void check_scales(int64_t scales, const char* symbol, int64_t rows) {
  expect(scales == 1 || scales == rows, "scales is " + std::to_string(scales),
         std::string("1 or ") + symbol + "=" + std::to_string(rows));
}

inline void check_deviation(float std) {
  expect(std >= 0 && std::isfinite(std), "std is " + shortest(std), "a finite number, at least 0");
}

// gated_rms_norm: groups of a row of D.
inline void check_groups(int64_t groups, int64_t D) {
  expect(groups >= 1 && D % groups == 0, "groups is " + std::to_string(groups),
         "a divisor of D=" + std::to_string(D));
}

// The range of the step of a Mamba-2 layer; and besides, its x [T,H,P] and B [T,G,N].
inline void check_step_sizes(float dt_min, float dt_max) {
  expect(dt_min <= dt_max, "dtMin is " + shortest(dt_min), "at most dtMax=" + shortest(dt_max));
}
inline void check_ssm(const Tensor& x, const Tensor& B, float dt_min, float dt_max) {
  const int64_t H = x.size(1), G = B.size(1);
  expect(G == 0 ? H == 0 : H % G == 0, "G is " + std::to_string(G), "a divisor of H=" + std::to_string(H));
  check_step_sizes(dt_min, dt_max);
}
inline void check_chunk(int64_t chunk, int64_t segment) {
  expect(chunk >= 1, "chunk is " + std::to_string(chunk), "at least 1");
  expect(segment >= 0 && segment % chunk == 0, "segment is " + std::to_string(segment),
         "0 or a multiple of chunk=" + std::to_string(chunk));
}

// x [T,H,P] is rotated in pairs.
inline void check_rotation(const char* name, const Tensor& x) {
  expect(x.size(2) % 2 == 0, std::string(name) + " has heads of " + std::to_string(x.size(2)) + " elements",
         "an even number");
}

// The caches of keys and values beside activations of type `act`: as these are, or e4m3 with a scale for each head.
inline void check_caches(DType act, const Tensor& k_cache, const Tensor& v_cache, const Tensor& k_scale,
                         const Tensor& v_scale) {
  const auto name = [](DType t) { return std::string(name_of(t)); };
  const DType kv = k_cache.dtype;
  expect(kv == act || kv == DType::e4m3, "kCache is " + name(kv), name(act) + " or e4m3");
  expect(v_cache.dtype == kv, "vCache is " + name(v_cache.dtype), name(kv) + ", as kCache is");
  const auto check = [&](const char* scale, const Tensor& given) {
    if (kv == DType::e4m3) expect(bool(given), std::string(scale) + " is left out", "a scale for each head of e4m3");
    else expect(!given, std::string(scale) + " is given", "none, as caches are " + name(kv));
  };
  check("kScale", k_scale), check("vScale", v_scale);
}

// The heads of q [T,H,P] and of a cache [Pages,PageSize,G,P].
inline void check_heads(const Tensor& q, const Tensor& k_cache) {
  const int64_t H = q.size(1), G = k_cache.size(2);
  expect(G != 0 && H % G == 0, "q has " + std::to_string(H) + " heads",
         "a multiple of " + std::to_string(G) + ", the heads of kCache");
}

// logits [S,V] of which `count` are asked for.
inline void check_count(int64_t count, int64_t V) {
  expect(count <= V, "count is " + std::to_string(count), "at most V=" + std::to_string(V));
}
inline void check_vocabulary(int64_t S, int64_t V) {
  expect(S == 0 || V > 0, "logits is [" + std::to_string(S) + ",0]", "at least one token a row");
}

// x [S,C], z [S,I] and state [Slots,H,P,N] of a Mamba-2 layer whose heads are in `groups`.
inline void check_mamba2_step(const Tensor& x, const Tensor& z, const Tensor& state, int64_t groups, float dt_min,
                              float dt_max) {
  const int64_t C = x.size(1), I = z.size(1), H = state.size(1), P = state.size(2), N = state.size(3);
  const auto text = [](int64_t n) { return std::to_string(n); };
  expect(groups >= 1 && groups <= H && H % groups == 0, "groups is " + text(groups), "a divisor of H=" + text(H));
  expect(I == H * P, "z has rows of " + text(I), "H P = " + text(H * P));
  expect(C == I + 2 * groups * N, "x has rows of " + text(C), "H P + 2 groups N = " + text(I + 2 * groups * N));
  check_step_sizes(dt_min, dt_max);
}

}  // namespace nemotron_h
