// What the ops of the CPU backend share: rows as floats, the packed batch, and checks of its indices.
//
// An op reads its rows as f32, computes in f32, and rounds once when it stores.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "checks.h"
#include "cpu/parallel.h"
#include "cpu/simd/simd.h"
#include "tensor.h"

namespace nemotron_h::cpu {

// Work for one piece of a parallel_for, in elements touched: less is not worth another thread.
inline constexpr int64_t kGrain = 1 << 14;
// How many rows of `elements` each make a piece.
inline int64_t grain(int64_t elements) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, elements)); }

// Floats that live as long as the piece of work that asks for them, from the thread's own store.
class Scratch {
 public:
  explicit Scratch(int64_t n);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  operator float*() const { return data_; }
  float* data() const { return data_; }

 private:
  float* data_;
};

// Frees what the thread's store keeps for the next op.
void release_scratch();

// `n` elements from element `first` of row `i` on: in place when they are f32, else converted into `scratch`.
inline const float* load(const Tensor& t, int64_t i, int64_t first, int64_t n, float* scratch) {
  if (t.dtype == DType::f32) return t.row<float>(i) + first;
  simd().load(t.dtype, static_cast<const std::byte*>(t.row_address(i)) + first * size_of(t.dtype), scratch, n);
  return scratch;
}
inline const float* load_row(const Tensor& t, int64_t i, float* scratch) { return load(t, i, 0, t.row_size(), scratch); }

inline void store(const Tensor& t, int64_t i, int64_t first, int64_t n, const float* values) {
  simd().store(t.dtype, values, static_cast<std::byte*>(t.row_address(i)) + first * size_of(t.dtype), n);
}
inline void store_row(const Tensor& t, int64_t i, const float* values) { store(t, i, 0, t.row_size(), values); }

// Where an op may write row `i` as floats: in place when it is f32, else `scratch`, for store_row to round.
inline float* floats_for(const Tensor& t, int64_t i, float* scratch) {
  return t.dtype == DType::f32 ? t.row<float>(i) : scratch;
}
inline void finish_row(const Tensor& t, int64_t i, const float* values) {
  if (t.dtype != DType::f32) store_row(t, i, values);
}

// Throws "ids[3] is 999, expected 0 to 95" unless 0 <= values[i] < limit for all.
void check_indices(const char* name, const Tensor& values, int64_t limit);
// Each slot lies in the pool, and none is named twice.
void check_slots(const Tensor& slots, int64_t pool);

// The sequences of a packed batch, checked: offsets rise from 0 to T, past >= 0, slots lie in the pool and
// no two sequences share one.
struct Sequence {
  int64_t begin, end, past, slot;
  int64_t length() const { return end - begin; }
};
std::vector<Sequence> sequences(const Tensor& offsets, const Tensor& past, int64_t tokens);
std::vector<Sequence> sequences(const Tensor& offsets, const Tensor& past, int64_t tokens, const Tensor& slots, int64_t pool);
// One token for each sequence: decode.
std::vector<Sequence> decode_sequences(const Tensor& past, const Tensor& slots, int64_t pool);

}  // namespace nemotron_h::cpu
