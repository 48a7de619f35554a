// A library that does what cuBLASLt is documented to do, of what is asked of it here, on the emulated runtime: the real
// one needs a GPU. It refuses what the real one refuses, and is stricter where that one may change its mind.
//
// SIMT_CUBLASLT_STATUS, a number, is what products come to instead: it tells whose they were.
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "cuda/gemm/cublaslt/api.h"
#include "dtype.h"
#include "simt/runtime.h"
#include "simt/simt.h"

using namespace nemotron_h;
using namespace nemotron_h::cuda::gemm::cublaslt;

namespace nemotron_h::cuda::gemm::cublaslt {

struct cublasLtContext {
  int device;
};
struct cublasLtMatmulDescOpaque {
  int32_t transA = CUBLAS_OP_N, transB = CUBLAS_OP_N;
  const float *scaleA = nullptr, *scaleB = nullptr;
  int8_t fast = 0;
};
struct cublasLtMatrixLayoutOpaque {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t leading;
};
struct cublasLtMatmulPreferenceOpaque {
  uint64_t workspace = 0;
  uint32_t schemes = 7, alignment[4] = {256, 256, 256, 256};
};

}  // namespace nemotron_h::cuda::gemm::cublaslt

namespace {

constexpr size_t kWorkspace = 4096;

using Layout = cublasLtMatrixLayoutOpaque;
using Product = cublasLtMatmulDescOpaque;

bool is_fp8(const Layout& l) { return l.type == CUDA_R_8F_E4M3 || l.type == CUDA_R_8F_E5M2; }
size_t size_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : type == CUDA_R_16BF ? 2 : 1; }
size_t span(const Layout& l) { return ((l.columns - 1) * l.leading + l.rows) * size_of(l.type); }

float get(cudaDataType type, const void* data, size_t i) {
  switch (type) {
    case CUDA_R_16BF: return to_float(static_cast<const bf16*>(data)[i]);
    case CUDA_R_8F_E4M3: return to_float(static_cast<const e4m3*>(data)[i]);
    case CUDA_R_8F_E5M2: return to_float(static_cast<const e5m2*>(data)[i]);
    default: return static_cast<const float*>(data)[i];
  }
}

void put(cudaDataType type, void* data, size_t i, float value) {
  if (type == CUDA_R_16BF) static_cast<bf16*>(data)[i] = from_float<bf16>(value);
  else static_cast<float*>(data)[i] = value;
}

// The tables and the list of requirements under "cublasLtMatmul()" in NVIDIA's documentation.
bool supported(const Product& p, const Layout& A, const Layout& B, const Layout& C, const Layout& D) {
  const bool tn = p.transA == CUBLAS_OP_T && p.transB == CUBLAS_OP_N;
  if (C.type != D.type || C.rows != D.rows || C.columns != D.columns || C.leading != D.leading) return false;
  if (D.type != CUDA_R_32F && D.type != CUDA_R_16BF) return false;
  if (A.type == CUDA_R_16BF && B.type == CUDA_R_16BF) return !p.scaleA && !p.scaleB;
  if (!is_fp8(A) || !is_fp8(B) || (A.type == CUDA_R_8F_E5M2 && B.type == CUDA_R_8F_E5M2) || !tn) return false;
  for (const Layout* l : {&A, &B, &D})
    if (l->rows % 16 || l->columns % 16 || l->leading * size_of(l->type) % 16) return false;
  return true;
}

bool sizes_match(const Product& p, const Layout& A, const Layout& B, const Layout& D) {
  const bool a = p.transA == CUBLAS_OP_T, b = p.transB == CUBLAS_OP_T;
  return (a ? A.columns : A.rows) == D.rows && (b ? B.rows : B.columns) == D.columns &&
         (a ? A.rows : A.columns) == (b ? B.columns : B.rows);
}

// The algorithm that was found: for which problem, at which alignment.
struct Algorithm {
  uint64_t problem;
  uint32_t alignment[4];
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));

uint64_t fingerprint(const Product& p, const Layout& A, const Layout& B, const Layout& D) {
  uint64_t hash = 1;
  for (const uint64_t part : {uint64_t(A.type), A.rows, A.columns, uint64_t(A.leading), uint64_t(B.type), B.rows,
                              B.columns, uint64_t(B.leading), uint64_t(D.type), uint64_t(D.leading), uint64_t(p.fast),
                              uint64_t(p.transA), uint64_t(p.transB)})
    hash = (hash ^ part) * 0x100000001b3;
  return hash;
}

// Whether the thread has said that what it calls is no part of what it captures: the real one may allocate.
bool may_allocate() {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  cudaThreadExchangeStreamCaptureMode(&mode);
  cudaStreamCaptureMode relaxed = mode;
  cudaThreadExchangeStreamCaptureMode(&relaxed);
  return mode == cudaStreamCaptureModeRelaxed;
}

template <class T>
cublasStatus_t assign(T& to, const void* value, size_t bytes) {
  if (!value || bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t destroy(T* object) {
  if (!object) return CUBLAS_STATUS_INVALID_VALUE;
  delete object;
  return CUBLAS_STATUS_SUCCESS;
}

void multiply(const Product& p, float alpha, const void* a, const Layout& A, const void* b, const Layout& B, float beta,
              void* d, const Layout& D) {
  for (const auto& [data, layout] : {std::pair<const void*, const Layout*>{a, &A}, {b, &B}, {d, &D}})
    simt::check_device_range(data, span(*layout), "cublasLtMatmul");
  for (const float* scale : {p.scaleA, p.scaleB})
    if (scale) simt::check_device_range(scale, sizeof *scale, "cublasLtMatmul: a scale");
  const bool ta = p.transA == CUBLAS_OP_T, tb = p.transB == CUBLAS_OP_T;
  const uint64_t K = ta ? A.rows : A.columns;
  const float scales = (p.scaleA ? *p.scaleA : 1) * (p.scaleB ? *p.scaleB : 1);
  for (uint64_t j = 0; j < D.columns; ++j) {
    char* const column = static_cast<char*>(d) + j * D.leading * size_of(D.type);
    std::vector<float> sums(D.rows);
    for (uint64_t i = 0; i < D.rows; ++i) {
      double sum = 0;
      for (uint64_t k = 0; k < K; ++k)
        sum += double{get(A.type, a, ta ? i * A.leading + k : k * A.leading + i)} *
               get(B.type, b, tb ? k * B.leading + j : j * B.leading + k);
      sums[i] = alpha * scales * static_cast<float>(sum) + (beta ? beta * get(D.type, column, i) : 0);
    }
    simt::host_writes(column, D.rows * size_of(D.type));
    for (uint64_t i = 0; i < D.rows; ++i) put(D.type, column, i, sums[i]);
  }
}

}  // namespace

extern "C" {

#define FUNCTION(result, name, parameters) result name parameters;
NEMOTRON_H_CUBLASLT_FUNCTIONS(FUNCTION)

size_t cublasLtGetVersion() { return 130000; }

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "CUBLAS_STATUS of no name";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (!may_allocate()) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = new cublasLtContext{simt::current_device()};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute, cudaDataType scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_INVALID_VALUE;
  *product = new Product;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) { return destroy(product); }

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return assign(product->transA, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB: return assign(product->transB, value, bytes);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return assign(product->scaleA, value, bytes);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return assign(product->scaleB, value, bytes);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return assign(product->fast, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
  if (leading < static_cast<int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new Layout{type, rows, columns, leading};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) { return destroy(preference); }

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) return assign(preference->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return assign(preference->schemes, value, bytes);
  const int matrix = attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
  if (matrix < 0 || matrix > 3) return CUBLAS_STATUS_INVALID_VALUE;
  return assign(preference->alignment[matrix], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t A, cublasLtMatrixLayout_t B,
                                              cublasLtMatrixLayout_t C, cublasLtMatrixLayout_t D,
                                              cublasLtMatmulPreference_t preference, int asked,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  *found = 0;
  if (handle->device != simt::current_device() || asked < 1 || !sizes_match(*product, *A, *B, *D))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!supported(*product, *A, *B, *C, *D) || preference->workspace < kWorkspace) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (preference->schemes != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) return CUBLAS_STATUS_NOT_SUPPORTED;
  Algorithm algorithm{fingerprint(*product, *A, *B, *D), {}};
  std::memcpy(algorithm.alignment, preference->alignment, sizeof algorithm.alignment);
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof algorithm);
  results[0].workspaceSize = kWorkspace;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t A, const void* b, cublasLtMatrixLayout_t B, const void* beta,
                              const void* c, cublasLtMatrixLayout_t C, void* d, cublasLtMatrixLayout_t D,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t bytes, cudaStream_t stream) {
  if (const char* const status = std::getenv("SIMT_CUBLASLT_STATUS"))
    return static_cast<cublasStatus_t>(std::atoi(status));
  if (!may_allocate()) return CUBLAS_STATUS_ALLOC_FAILED;
  Algorithm algorithm;
  std::memcpy(&algorithm, algo, sizeof algorithm);
  if (handle->device != simt::current_device() || c != d || !supported(*product, *A, *B, *C, *D) ||
      algorithm.problem != fingerprint(*product, *A, *B, *D) || bytes < kWorkspace)
    return CUBLAS_STATUS_INVALID_VALUE;
  const void* const matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(matrices[i]) % algorithm.alignment[i]) return CUBLAS_STATUS_INVALID_VALUE;
  // All descriptors may change or end before the product begins.
  simt::enqueue(stream, [p = *product, alpha = *static_cast<const float*>(alpha), a, A = *A, b, B = *B,
                         beta = *static_cast<const float*>(beta), d, D = *D, workspace, bytes] {
    simt::host_writes(workspace, bytes);
    std::memset(workspace, 0xff, bytes);
    multiply(p, alpha, a, A, b, B, beta, d, D);
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
