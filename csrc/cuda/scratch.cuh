// Uninitialised device memory for the rest of an op, as bytes and as a dense tensor.
//
// It is of the device's workspace: nothing is queued for it between two launches, which so may overlap, and ops one after
// the other have the same. What does not fit there is allocated and freed in the order of the stream.
#pragma once

#include "cuda/launch.cuh"
#include "tensor.h"

namespace nemotron_h::cuda {

class Scratch {
 public:
  explicit Scratch(size_t bytes) : bytes_((bytes / kAlignment + 1) * kAlignment) {
    Context& context = current();
    if (bytes_ > kWorkspace - context.workspace_used) {
      check(cudaMallocFromPoolAsync(&data_, bytes_, context.pool, context.stream));
      return;
    }
    std::byte* const part = context.workspace + context.workspace_used;
    context.workspace_used += bytes_;
    take_workspace(part, bytes, bytes_);
    data_ = part;
  }
  // In the reverse order of making.
  ~Scratch() {
    Context& context = current();
    auto* const part = static_cast<std::byte*>(data_);
    if (part < context.workspace || part >= context.workspace + kWorkspace) {
      cudaFreeAsync(data_, context.stream);
    } else {
      leave_workspace(part, bytes_);
      context.workspace_used = part - context.workspace;
    }
  }
  Scratch(const Scratch&) = delete;
  template <class T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  static constexpr size_t kAlignment = 256;
  size_t bytes_;  // with a gap behind it
  void* data_ = nullptr;
};

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
