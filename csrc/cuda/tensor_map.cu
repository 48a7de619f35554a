#include "cuda/tensor_map.h"

namespace nemotron_h::cuda {

namespace {

// Bytes from row to row, of which one row needs none.
uint64_t pitch(const Tensor& matrix) {
  const int64_t size = size_of(matrix.dtype);
  return matrix.size(0) > 1 ? matrix.row_stride * size : ceil_div(matrix.size(1) * size, 16) * 16;
}

}  // namespace

bool has_tensor_map(const Tensor& matrix) {
  return matrix.numel() > 0 && reinterpret_cast<uintptr_t>(matrix.data.get()) % 16 == 0 && pitch(matrix) % 16 == 0;
}

#ifdef __CUDACC__

namespace {

// The driver's function, which nothing here is linked with.
decltype(&cuTensorMapEncodeTiled) encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
#else
  check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found));
#endif
  if (!function) throw std::runtime_error("the driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

TensorMap tensor_map(const Tensor& matrix, int box_rows) {
  static const auto encode = encoder();
  const cuuint64_t size = size_of(matrix.dtype);
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(matrix.size(1)), static_cast<cuuint64_t>(matrix.size(0))};
  const cuuint64_t pitches[] = {pitch(matrix)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(128 / size), static_cast<cuuint32_t>(box_rows)}, steps[] = {1, 1};
  TensorMap map;
  const CUresult result = encode(
      &map, size == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, matrix.data.get(), sizes,
      pitches, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled: CUresult " + std::to_string(static_cast<int>(result)));
  return map;
}

#else

TensorMap tensor_map(const Tensor& matrix, int box_rows) {
  const uint32_t size = size_of(matrix.dtype);
  return {.base = matrix.data.get(), .columns = static_cast<uint64_t>(matrix.size(1)),
          .rows = static_cast<uint64_t>(matrix.size(0)), .pitch_bytes = pitch(matrix),
          .box_columns = 128 / size, .box_rows = static_cast<uint32_t>(box_rows), .element_bytes = size,
          .swizzle_128b = true};
}

#endif

}  // namespace nemotron_h::cuda
