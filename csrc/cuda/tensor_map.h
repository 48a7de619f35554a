// Tensor maps: how TMA finds the boxes of a matrix in global memory.
#pragma once

#include "cuda/launch.cuh"
#include "tensor.h"

namespace nemotron_h::cuda {

// Whether TMA can read a matrix: it is not empty, and its rows begin at multiples of 16 bytes.
bool has_tensor_map(const Tensor& matrix);

// The boxes of `box_rows` rows, at most 256, by 128 bytes of a matrix [rows,columns] that has a map. In shared memory
// they are 128-byte-swizzled, and zero beyond the edges of the matrix. Throws what CUDA says.
TensorMap tensor_map(const Tensor& matrix, int box_rows);

}  // namespace nemotron_h::cuda
