// Copies of an operand as a kernel wants it, in memory for the rest of a product.
#pragma once

#include "checks.h"
#include "cuda/kernel.cuh"
#include "cuda/scratch.cuh"

namespace nemotron_h::cuda::gemm {

// 32 x 32 elements by 32 x 8 threads: rows are read together, and columns written together, by way of shared memory.
template <class T>
__global__ void __launch_bounds__(256) transpose_kernel(cuda::Rows<const T> x, int64_t rows, int64_t columns, T* y) {
  wait_for_previous_launch();
  constexpr int kSize = 32, kStep = 8;
  auto& tile = shared<T[kSize][kSize + 1], struct Transposed>();  // the gap keeps columns in different banks
  const int64_t across = ceil_div(columns, kSize);
  const int64_t row0 = blockIdx.x / across * kSize, column0 = blockIdx.x % across * kSize;
  const int lane = threadIdx.x % kSize, first = threadIdx.x / kSize;
#pragma unroll
  for (int i = first; i < kSize; i += kStep)
    if (row0 + i < rows && column0 + lane < columns) tile[i][lane] = x[row0 + i][column0 + lane];
  __syncthreads();
#pragma unroll
  for (int i = first; i < kSize; i += kStep)
    if (column0 + i < columns && row0 + lane < rows) y[(column0 + i) * rows + row0 + lane] = tile[lane][i];
}

class Copy {
 public:
  operator const Tensor&() const { return y_; }

 protected:
  Copy(const Tensor& x, int64_t rows, int64_t columns) : memory_(x.bytes()), y_(x) {
    y_.data = std::shared_ptr<void>(std::shared_ptr<void>(), memory_.as<void>());
    y_.shape = {rows, columns}, y_.row_stride = columns;
  }
  Scratch memory_;
  Tensor y_;
};

// With rows as columns.
class Transposed : public Copy {
 public:
  explicit Transposed(const Tensor& x) : Copy(x, x.size(1), x.size(0)) {
    const int64_t rows = x.size(0), columns = x.size(1), tiles = ceil_div(rows, 32) * ceil_div(columns, 32);
    expect(tiles <= INT32_MAX, "a matrix to transpose has " + std::to_string(tiles) + " tiles", "at most 2^31 - 1");
    with_act(x.dtype, [&]<class T>() {
      launch(transpose_kernel<T>, {.grid = static_cast<unsigned>(tiles), .block = 256}, cuda::rows<const T>(x), rows,
             columns, y_.as<T>());
    });
  }
};

// With rows that follow each other.
class Dense : public Copy {
 public:
  explicit Dense(const Tensor& x) : Copy(x, x.size(0), x.size(1)) {
    const size_t size = size_of(x.dtype), width = x.size(1) * size;
    check(cudaMemcpy2DAsync(y_.data.get(), width, x.data.get(), x.row_stride * size, width, x.size(0),
                            cudaMemcpyDeviceToDevice, current().stream));
  }
};

}  // namespace nemotron_h::cuda::gemm
