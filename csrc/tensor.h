// A tensor: typed, shaped memory on one device. Kernels see nothing else.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "dtype.h"

namespace nemotron_h {

class Device;

inline constexpr int kMaxRank = 5;

// Row-major. Everything within a row (an index of the first dimension) is dense; the rows may be further
// apart than they are long, which makes a slice of a packed projection's columns a view and not a copy.
// `data` points at the first element and keeps the memory alive, however many tensors look at it.
struct Tensor {
  std::shared_ptr<void> data;
  Device* device = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<int64_t, kMaxRank> shape{};
  int64_t row_stride = 0;  // in elements

  int64_t size(int i) const { return shape[i]; }
  int64_t row_size() const {
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t numel() const { return rank == 0 ? 0 : shape[0] * row_size(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype); }
  // From the first element to past the last one; more than bytes() when rows are apart.
  size_t span_bytes() const {
    if (numel() == 0) return 0;
    return static_cast<size_t>((shape[0] - 1) * row_stride + row_size()) * size_of(dtype);
  }
  bool dense() const { return shape[0] <= 1 || row_stride == row_size(); }

  // The same tensor without a share of its memory, for queued work: see Device::allocate.
  Tensor borrowed() const {
    Tensor t = *this;
    t.data = std::shared_ptr<void>(std::shared_ptr<void>(), data.get());
    return t;
  }

  explicit operator bool() const { return data != nullptr; }  // an optional argument left out is false
  template <class T>
  T* as() const { return static_cast<T*>(data.get()); }
  template <class T>
  T* row(int64_t i) const { return as<T>() + i * row_stride; }
  void* row_address(int64_t i) const {
    return static_cast<std::byte*>(data.get()) + static_cast<size_t>(i * row_stride) * size_of(dtype);
  }
};

// Do two tensors share an element? Exact for two views of columns of the same rows, else by their extents.
inline bool overlap(const Tensor& a, const Tensor& b) {
  const auto first_a = reinterpret_cast<uintptr_t>(a.data.get()), first_b = reinterpret_cast<uintptr_t>(b.data.get());
  if (a.numel() == 0 || b.numel() == 0) return false;
  if (first_a + a.span_bytes() <= first_b || first_b + b.span_bytes() <= first_a) return false;
  const size_t stride = a.row_stride * size_of(a.dtype);
  if (a.dense() || b.dense() || stride != b.row_stride * size_of(b.dtype)) return true;
  // Same row pitch: compare where within a row each begins and ends.
  const size_t width_a = a.row_size() * size_of(a.dtype), width_b = b.row_size() * size_of(b.dtype);
  const size_t apart = first_b >= first_a ? (first_b - first_a) % stride : stride - 1 - (first_a - first_b - 1) % stride;
  return apart < width_a || apart + width_b > stride;
}

}  // namespace nemotron_h
