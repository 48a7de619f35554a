// Bugs in what cuBLASLt is told of a product, which the emulator's cuBLASLt refuses or computes as told.
import type { Mutant } from '../mutant.ts'

const file = 'csrc/cuda/gemm/cublaslt/cublaslt.cu'
const picking = ['rows that pick columns']
const fp8 = ['no bias, one scale, every row aligned, e5m2 by e4m3']
const planted = (list: Omit<Mutant, 'file' | 'kernels'>[]): Mutant[] =>
  list.map((mutant) => ({ file, kernels: 'cublaslt', ...mutant }))

export const mutants: Mutant[] = planted([
  {
    title: 'b is transposed where it is not',
    find: 'int32_t{key.b_transposed ? CUBLAS_OP_N : CUBLAS_OP_T}',
    replace: 'int32_t{CUBLAS_OP_T}',
    op: 'matmulTn',
    cases: picking,
  },
  {
    title: 'a is transposed where it is not',
    find: 'int32_t{key.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N}',
    replace: 'int32_t{CUBLAS_OP_N}',
    op: 'matmulTn',
    cases: picking,
  },
  {
    title: 'our a is its A',
    find: '&alpha, p.b.data.get(), A_.get(), p.a.data.get(),',
    replace: '&alpha, p.a.data.get(), A_.get(), p.b.data.get(),',
    op: 'matmulNn',
    cases: picking,
  },
  {
    title: 'what y held is not added to',
    find: 'beta_(key.add ? 1 : 0)',
    replace: 'beta_(0)',
    op: 'matmulTnAdd',
    cases: picking,
  },
  {
    title: 'what y held is added where it is not asked for',
    find: 'beta_(key.add ? 1 : 0)',
    replace: 'beta_(1)',
    op: 'matmulNn',
    cases: picking,
  },
  {
    title: 'the scale of the weight is left out',
    find: 'set(product_.get(), CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, p.y.scale);',
    replace: '',
    op: 'fp8Linear',
    cases: fp8,
  },
  {
    title: 'the scale of x is left out',
    find: 'set(product_.get(), CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, p.y.x_scale);',
    replace: '',
    op: 'fp8Linear',
    cases: fp8,
  },
  {
    title: 'e5m2 is called e4m3',
    find: 'return CUDA_R_8F_E5M2;',
    replace: 'return CUDA_R_8F_E4M3;',
    op: 'fp8Linear',
    cases: fp8,
  },
  {
    title: 'no workspace is allowed',
    find: '    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspace);\n',
    replace: '',
    op: 'matmulNn',
    cases: picking,
    caught: /cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED/,
  },
  {
    title: 'partial sums may be rounded',
    find: '    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});\n',
    replace: '',
    op: 'matmulNn',
    cases: picking,
    caught: /cublasLtMatmulAlgoGetHeuristic: CUBLAS_STATUS_NOT_SUPPORTED/,
  },
  {
    title: 'an attribute of the wrong size',
    find: 'int8_t{key.fast}',
    replace: 'int32_t{key.fast}',
    op: 'fp8Linear',
    cases: fp8,
    caught: /cublasLtMatmulDescSetAttribute: CUBLAS_STATUS_INVALID_VALUE/,
  },
  {
    title: 'the handle is made as if nothing were captured',
    find: 'cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;',
    replace: 'cudaStreamCaptureMode mode_ = cudaStreamCaptureModeThreadLocal;',
    op: 'matmulNn',
    cases: picking,
    caught: /cublasLtCreate: CUBLAS_STATUS_ALLOC_FAILED/,
  },
])
