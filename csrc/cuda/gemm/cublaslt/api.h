// As much of cuBLASLt's C interface as is used here, so that neither its headers nor the library are needed to build.
// Names, types and values are NVIDIA's (docs.nvidia.com/cuda/cublas, "Using the cuBLASLt API"; cublasLt.h of 12 and
// 13 agree on them).
#pragma once

#include <cuda_runtime_api.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace nemotron_h::cuda::gemm::cublaslt {

using cublasLtHandle_t = struct cublasLtContext*;
using cublasLtMatmulDesc_t = struct cublasLtMatmulDescOpaque*;
using cublasLtMatrixLayout_t = struct cublasLtMatrixLayoutOpaque*;
using cublasLtMatmulPreference_t = struct cublasLtMatmulPreferenceOpaque*;

enum cublasStatus_t : int {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_NOT_SUPPORTED = 15,
};
enum cublasComputeType_t : int { CUBLAS_COMPUTE_32F = 68 };
enum cublasOperation_t : int { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };

enum cublasLtMatmulDescAttributes_t : int {
  CUBLASLT_MATMUL_DESC_TRANSA = 3,            // int32_t, a cublasOperation_t
  CUBLASLT_MATMUL_DESC_TRANSB = 4,            // likewise
  CUBLASLT_MATMUL_DESC_A_SCALE_POINTER = 17,  // const void*, on the device
  CUBLASLT_MATMUL_DESC_B_SCALE_POINTER = 18,  // likewise
  CUBLASLT_MATMUL_DESC_FAST_ACCUM = 25,       // int8_t, 0 or 1
};
enum cublasLtMatmulPreferenceAttributes_t : int {
  CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,    // uint64_t
  CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,  // uint32_t
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES = 5,  // uint32_t
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8,
};
enum cublasLtReductionScheme_t : uint32_t { CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE = 2 };

struct cublasLtMatmulAlgo_t {
  uint64_t data[8];
};
struct cublasLtMatmulHeuristicResult_t {
  cublasLtMatmulAlgo_t algo;
  size_t workspaceSize;
  cublasStatus_t state;
  float wavesCount;
  int reserved[4];
};

// F(result, name, parameters) for each function.
#define NEMOTRON_H_CUBLASLT_FUNCTIONS(F)                                                                          \
  F(size_t, cublasLtGetVersion, ())                                                                               \
  F(const char*, cublasLtGetStatusName, (cublasStatus_t))                                                         \
  F(cublasStatus_t, cublasLtCreate, (cublasLtHandle_t*))                                                          \
  F(cublasStatus_t, cublasLtDestroy, (cublasLtHandle_t))                                                          \
  F(cublasStatus_t, cublasLtMatmulDescCreate, (cublasLtMatmulDesc_t*, cublasComputeType_t, cudaDataType))         \
  F(cublasStatus_t, cublasLtMatmulDescDestroy, (cublasLtMatmulDesc_t))                                            \
  F(cublasStatus_t, cublasLtMatmulDescSetAttribute,                                                               \
    (cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t, const void* value, size_t bytes))                      \
  F(cublasStatus_t, cublasLtMatrixLayoutCreate,                                                                   \
    (cublasLtMatrixLayout_t*, cudaDataType, uint64_t rows, uint64_t columns, int64_t leading))                    \
  F(cublasStatus_t, cublasLtMatrixLayoutDestroy, (cublasLtMatrixLayout_t))                                        \
  F(cublasStatus_t, cublasLtMatmulPreferenceCreate, (cublasLtMatmulPreference_t*))                                \
  F(cublasStatus_t, cublasLtMatmulPreferenceDestroy, (cublasLtMatmulPreference_t))                                \
  F(cublasStatus_t, cublasLtMatmulPreferenceSetAttribute,                                                         \
    (cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t, const void* value, size_t bytes))          \
  F(cublasStatus_t, cublasLtMatmulAlgoGetHeuristic,                                                               \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,                  \
     cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D, cublasLtMatmulPreference_t, int asked,                   \
     cublasLtMatmulHeuristicResult_t results[], int* found))                                                      \
  F(cublasStatus_t, cublasLtMatmul,                                                                               \
    (cublasLtHandle_t, cublasLtMatmulDesc_t, const void* alpha, const void* A, cublasLtMatrixLayout_t,            \
     const void* B, cublasLtMatrixLayout_t, const void* beta, const void* C, cublasLtMatrixLayout_t, void* D,     \
     cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t*, void* workspace, size_t workspace_bytes, cudaStream_t))

// The library that was loaded (library.h).
struct Library {
  std::string path;
#define FUNCTION(result, name, parameters) result(*name) parameters;
  NEMOTRON_H_CUBLASLT_FUNCTIONS(FUNCTION)
#undef FUNCTION

  // Throws "cublasLtMatmul: CUBLAS_STATUS_NOT_SUPPORTED" and the like.
  void check(const char* function, cublasStatus_t status) const;
};

}  // namespace nemotron_h::cuda::gemm::cublaslt
