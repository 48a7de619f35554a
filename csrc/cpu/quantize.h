// Ops that quantise what they compute: it is rounded in memory of its own, and then quantised by its own magnitudes.
#pragma once

#include <memory>

#include "ops.h"
#include "tensor.h"

namespace nemotron_h::cpu {

// Uninitialised, dense, and freed with the last copy of the tensor.
inline Tensor temporary(DType dtype, int rank, std::array<int64_t, kMaxRank> shape) {
  Tensor t;
  t.dtype = dtype, t.rank = rank, t.shape = shape, t.row_stride = t.row_size();
  t.data = std::make_shared_for_overwrite<std::byte[]>(t.bytes());
  return t;
}

// quantize(x) with one scale, or with one for each row.
inline void quantize_by_own(const Tensor& x, int64_t scales, DType to, const Tensor& y, const Tensor& scale) {
  const Tensor largest = temporary(DType::f32, 1, {scales});
  if (scales == 1) amax(x, largest);
  else row_amax(x, largest);
  quantize(x, largest, to, y, scale);
}

}  // namespace nemotron_h::cpu
