// Memory of an op as a dense tensor, for ops that are made of others.
#pragma once

#include "cuda/context.h"
#include "tensor.h"

namespace nemotron_h::cuda {

struct Temporary {
  Scratch memory;
  Tensor tensor;

  Temporary(DType dtype, int64_t rows, int64_t width) : memory(rows * width * size_of(dtype)) {
    tensor.data = std::shared_ptr<void>(std::shared_ptr<void>(), memory.as<void>());
    tensor.dtype = dtype, tensor.rank = 2, tensor.shape = {rows, width}, tensor.row_stride = width;
  }
  explicit Temporary(int64_t floats) : Temporary(DType::f32, floats, 1) { tensor.rank = 1; }
};

}  // namespace nemotron_h::cuda
