// cuBLASLt counts rows along columns, so a row-major matrix is to it the transpose: y' = b a', with our b as its A.
//
// What is decided once for a shape (descriptors, algorithm) is kept for the next product of that shape. Sums that are
// cut along K are put together in f32, and y is rounded once, as docs/numerics.md has it.
#include "cuda/gemm/cublaslt/cublaslt.h"

#include <map>
#include <memory>

#include "cuda/gemm/cublaslt/api.h"
#include "cuda/gemm/cublaslt/library.h"
#include "cuda/gemm/provider.h"
#include "cuda/scratch.cuh"

namespace nemotron_h::cuda::gemm::cublaslt {
namespace {

constexpr uint64_t kWorkspace = 32 << 20;  // bytes at most: what NVIDIA recommends for Hopper
constexpr uint32_t kAligned = 16;          // bytes: of all that is taken
constexpr size_t kPlans = 256;

bool is_fp8(DType type) { return type == DType::e4m3 || type == DType::e5m2; }

cudaDataType type_of(DType type) {
  switch (type) {
    case DType::bf16: return CUDA_R_16BF;
    case DType::e4m3: return CUDA_R_8F_E4M3;
    case DType::e5m2: return CUDA_R_8F_E5M2;
    default: return CUDA_R_32F;
  }
}

DType type_of(const Output& y) { return y.f32 ? DType::f32 : DType::bf16; }
int64_t leading(const Tensor& t) { return t.size(0) > 1 ? t.row_stride : t.size(1); }

bool aligned(const void* data, int64_t leading, DType type) {
  return reinterpret_cast<uintptr_t>(data) % kAligned == 0 && leading * size_of(type) % kAligned == 0;
}

bool can(const Product& p) {
  const Output& y = p.y;
  const DType a = p.a.dtype, b = p.b.dtype;
  if (y.bias || y.relu2 || y.amax || y.M == 0 || y.N == 0 || p.K() == 0) return false;
  for (const int64_t size : {y.M, y.N, p.K()})
    if (size > INT32_MAX) return false;
  if (!aligned(p.a.data.get(), leading(p.a), a) || !aligned(p.b.data.get(), leading(p.b), b) ||
      !aligned(y.data, y.N, type_of(y)))
    return false;
  if (a == DType::bf16 && b == DType::bf16) return !y.scale && !y.x_scale;
  return is_fp8(a) && is_fp8(b) && !(a == DType::e5m2 && b == DType::e5m2) && current().architecture >= 89 &&
         !p.a_transposed && !p.b_transposed && y.x_scale_step == 0 && y.M % 16 == 0 && y.N % 16 == 0 && p.K() % 16 == 0;
}

// All that the choice of an algorithm depends on.
struct Key {
  DType a, b, y;
  bool a_transposed, b_transposed, fast, add;
  int64_t M, N, K, a_leading, b_leading;

  auto operator<=>(const Key&) const = default;
};

Key key_of(const Product& p) {
  return {p.a.dtype, p.b.dtype, type_of(p.y), p.a_transposed, p.b_transposed, p.fast,        p.y.add,
          p.y.M,     p.y.N,     p.K(),        leading(p.a),   leading(p.b)};
}

// An object of cuBLASLt's and how it ends.
template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;

class Plan {
 public:
  Plan(const Library& library, cublasLtHandle_t handle, const Key& key)
      : library_(library),
        fp8_(is_fp8(key.a)),
        beta_(key.add ? 1 : 0),
        product_(product(key)),
        A_(layout(key.b, key.b_transposed ? key.N : key.K, key.b_transposed ? key.K : key.N, key.b_leading)),
        B_(layout(key.a, key.a_transposed ? key.M : key.K, key.a_transposed ? key.K : key.M, key.a_leading)),
        D_(layout(key.y, key.N, key.M, key.N)) {
    cublasLtMatmulPreference_t made;
    library.check("cublasLtMatmulPreferenceCreate", library.cublasLtMatmulPreferenceCreate(&made));
    const Owned<cublasLtMatmulPreference_t> preference(made, library.cublasLtMatmulPreferenceDestroy);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      library.check("cublasLtMatmulPreferenceSetAttribute",
                    library.cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value));
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (const auto matrix : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(matrix, kAligned);

    int found = 0;
    library.check("cublasLtMatmulAlgoGetHeuristic",
                  library.cublasLtMatmulAlgoGetHeuristic(handle, product_.get(), A_.get(), B_.get(), D_.get(), D_.get(),
                                                         made, 1, &best_, &found));
    library.check("cublasLtMatmulAlgoGetHeuristic", found ? best_.state : CUBLAS_STATUS_NOT_SUPPORTED);
  }

  void run(cublasLtHandle_t handle, const Product& p) {
    if (fp8_) {
      set(product_.get(), CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.y.scale);
      set(product_.get(), CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.y.x_scale);
    }
    const float alpha = 1;
    const Scratch workspace(best_.workspaceSize);
    library_.check("cublasLtMatmul",
                   library_.cublasLtMatmul(handle, product_.get(), &alpha, p.b.data.get(), A_.get(), p.a.data.get(),
                                           B_.get(), &beta_, p.y.data, D_.get(), p.y.data, D_.get(), &best_.algo,
                                           workspace.as<void>(), best_.workspaceSize, current().stream));
    current().overlap.launched();
  }

 private:
  template <class T>
  void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, T value) const {
    library_.check("cublasLtMatmulDescSetAttribute",
                   library_.cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value));
  }

  Owned<cublasLtMatmulDesc_t> product(const Key& key) const {
    cublasLtMatmulDesc_t made;
    library_.check("cublasLtMatmulDescCreate",
                   library_.cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    Owned<cublasLtMatmulDesc_t> owned(made, library_.cublasLtMatmulDescDestroy);
    set(made, CUBLASLT_MATMUL_DESC_TRANSA, int32_t{key.b_transposed ? CUBLAS_OP_N : CUBLAS_OP_T});
    set(made, CUBLASLT_MATMUL_DESC_TRANSB, int32_t{key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
    if (fp8_) set(made, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{key.fast});
    return owned;
  }

  Owned<cublasLtMatrixLayout_t> layout(DType type, int64_t rows, int64_t columns, int64_t leading) const {
    cublasLtMatrixLayout_t made;
    library_.check("cublasLtMatrixLayoutCreate",
                   library_.cublasLtMatrixLayoutCreate(&made, type_of(type), rows, columns, leading));
    return {made, library_.cublasLtMatrixLayoutDestroy};
  }

  const Library& library_;
  bool fp8_;
  float beta_;
  Owned<cublasLtMatmulDesc_t> product_;
  Owned<cublasLtMatrixLayout_t> A_, B_, D_;  // D_ is C's, too
  cublasLtMatmulHeuristicResult_t best_{};
};

// The first product allocates and loads kernels, which is no part of the graph that the thread may be capturing.
class BesideCapture {
 public:
  BesideCapture() { cuda::check(cudaThreadExchangeStreamCaptureMode(&mode_)); }
  ~BesideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  BesideCapture(const BesideCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// A device's, as each has one thread that launches.
class Device {
 public:
  explicit Device(const Library& library) : library_(library), handle_(nullptr, library.cublasLtDestroy) {
    cublasLtHandle_t made;
    library.check("cublasLtCreate", library.cublasLtCreate(&made));
    handle_.reset(made);
  }

  const Library& library() const { return library_; }

  void run(const Product& p) {
    const Key key = key_of(p);
    auto plan = plans_.find(key);
    if (plan == plans_.end()) {
      if (plans_.size() == kPlans) plans_.clear();
      plan = plans_.try_emplace(key, library_, handle_.get(), key).first;
    }
    plan->second.run(handle_.get(), p);
  }

 private:
  const Library& library_;
  Owned<cublasLtHandle_t> handle_;
  std::map<Key, Plan> plans_;
};

}  // namespace

bool takes(const Product& p) {
  if (!can(p)) return false;
  const ProductShape shape{.architecture = current().architecture, .a = p.a.dtype, .b = p.b.dtype, .y = type_of(p.y),
                           .orders = orders(p.a_transposed, p.b_transposed), .decode = p.decode, .fast = p.fast,
                           .M = p.y.M, .N = p.y.N, .K = p.K()};
  return provider(shape) == Provider::cublaslt && library();
}

void run(const Product& p) {
  const BesideCapture mode;
  thread_local std::unique_ptr<Device> device;
  if (!device || &device->library() != library()) device = std::make_unique<Device>(*library());
  device->run(p);
}

}  // namespace nemotron_h::cuda::gemm::cublaslt
