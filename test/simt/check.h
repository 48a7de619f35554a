// What the checks of the emulator share: device memory, launches, small integers, comparisons.
//
// A check is `CHECK(name) { ...; return what is wrong, or ""; }`, called by test/simt/emulator.test.ts for every schedule.
#pragma once

#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cuda/ptx.cuh"
#include "simt/simt.h"

namespace check {

using nemotron_h::bf16;
using nemotron_h::e4m3;
using nemotron_h::e5m2;

// An array in device memory.
template <class T>
class Array {
 public:
  explicit Array(size_t size) : size_(size), data_(static_cast<T*>(simt::allocate(size * sizeof(T)))) {}
  Array(const std::vector<T>& values) : Array(values.size()) {
    simt::host_writes(data_, size_ * sizeof(T));
    memcpy(data_, values.data(), size_ * sizeof(T));
  }
  Array(const Array&) = delete;
  ~Array() { simt::release(data_); }
  operator T*() const { return data_; }
  std::vector<T> values() const { return {data_, data_ + size_}; }

 private:
  size_t size_;
  T* data_;
};

struct Shape {
  dim3 grid = 1, block = 1;
  size_t smem = 0;
  unsigned cluster = 1;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), const Shape& s, A... arguments) {
  simt::run({s.grid, s.block, s.smem, s.cluster}, reinterpret_cast<const void*>(kernel),
            [=]() SIMT_UNWATCHED { kernel(P(arguments)...); });
}

// Integers from -limit to limit: sums of their products are exact.
template <class T>
std::vector<T> integers(size_t count, unsigned seed, int limit) {
  std::vector<T> v(count);
  for (T& x : v) {
    seed = seed * 1664525 + 1013904223;
    x = nemotron_h::from_float<T>(float(int(seed >> 8) % (2 * limit + 1) - limit));
  }
  return v;
}

template <class T>
std::vector<float> widened(const std::vector<T>& v) {
  std::vector<float> f(v.size());
  for (size_t i = 0; i < v.size(); i++) f[i] = nemotron_h::to_float(v[i]);
  return f;
}

// a * b' of small integers: [m][k] times [n][k]'.
template <class A, class B>
std::vector<float> product(const std::vector<A>& a, const std::vector<B>& b, int m, int n, int k) {
  const auto fa = widened(a), fb = widened(b);
  std::vector<float> c(size_t(m) * n);
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++)
      for (int l = 0; l < k; l++) c[i * n + j] += fa[i * k + l] * fb[j * k + l];
  return c;
}

template <class T>
std::string compare(const std::vector<T>& got, const std::function<float(size_t)>& want) {
  for (size_t i = 0; i < got.size(); i++)
    if (const float g = float(got[i]), w = want(i); !(g == w))
      return "element " + std::to_string(i) + " is " + std::to_string(g) + ", expected " + std::to_string(w);
  return "";
}

// Row-major [rows][columns]; boxes are 128-byte swizzled.
template <class T>
simt::TensorMap tensor_map(T* base, unsigned rows, unsigned columns, unsigned box_rows, unsigned box_columns) {
  return {base, columns, rows, columns * sizeof(T), box_columns, box_rows, sizeof(T), true};
}

}  // namespace check

#define CHECK(name)                                                        \
  static std::string check_##name();                                       \
  extern "C" void name(std::string& complaint);                            \
  void name(std::string& complaint) { complaint = check_##name(); }        \
  static std::string check_##name()
