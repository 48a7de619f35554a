/// <reference lib="esnext.disposable" />
// Written by scripts/types.mjs from csrc/ops.def. Do not edit.

export type DType = 'f32' | 'bf16' | 'f16' | 'e4m3' | 'e5m2' | 'i32' | 'u8'
/** What activations are: one choice for a whole call. */
export type Act = 'f32' | 'bf16'
export type Fp8 = 'e4m3' | 'e5m2'
export type State = 'f32' | 'f16'
export type Kv = 'f32' | 'bf16' | 'e4m3'
export type Real = 'f32' | 'bf16' | 'f16' | 'e4m3' | 'e5m2'

/** What read() resolves with: floats of every width as Float32Array. */
export type Values<D extends DType> = D extends 'i32' ? Int32Array : D extends 'u8' ? Uint8Array : Float32Array

/**
 * Typed, shaped memory on a device; row-major. It lives until dispose(), the end of its `using` block, or the
 * end of the scope() it was made in; garbage collection is only the net. Work already queued is not affected: the
 * memory goes only to tensors made later, whose work comes later.
 */
export declare class Tensor<D extends DType = DType> {
  private constructor()
  readonly dtype: D
  readonly shape: number[]
  /** Bytes of its elements. */
  readonly bytes: number
  readonly device: string
  readonly disposed: boolean
  /** Waits for all work queued before, and rejects with what went wrong in it since the last read. */
  read(): Promise<Values<D>>
  /** As read(), the elements' bits as stored. */
  readBytes(): Promise<Uint8Array>
  /** Queues new contents: a Float32Array for the float types, an Int32Array for i32, or the bits as a Uint8Array. */
  write(data: Float32Array | Int32Array | Uint8Array): this
  /** A view with the same elements in another shape; where rows lie apart, the first size stays. */
  reshape(shape: readonly number[]): Tensor<D>
  /** A view of rows start (included) to end (not). */
  rows(start: number, end: number): Tensor<D>
  /** A view of columns start (included) to end (not) of a matrix: its rows lie apart. */
  columns(start: number, end: number): Tensor<D>
  /** Gives up the memory, or of a view its part in it. Twice is fine; use afterwards is an error. */
  dispose(): void
  [Symbol.dispose](): void
}

/** Ops recorded on a device, to run again without JavaScript's part in them. */
export declare class Graph {
  private constructor()
  readonly disposed: boolean
  /** Queues the ops again, on the same memory: what they wrote is written anew, tensors they read may have changed. */
  replay(): void
  /** Gives up the memory that only the recorded ops use. Twice is fine; replay afterwards is an error. */
  dispose(): void
  [Symbol.dispose](): void
}

/** A file in memory without reading it: mmap. The file must not shrink while it is open. */
export declare class MappedFile {
  constructor(path: string)
  /** Queues a copy of the elements that begin at byte `start` to a new tensor. */
  tensor<D extends DType>(start: number, dtype: D, shape: readonly number[], device?: string): Tensor<D>
  /** Copies already asked for still complete. */
  close(): void
}

/** What was built, and what runs: instruction set, threads inside an op, CUDA toolkit version or null. */
export interface BuildInfo {
  simd: 'portable' | 'avx2' | 'avx512'
  threads: number
  cuda: string | null
}

/** The GPUs that the CUDA runtime sees. Versions are CUDA's: '12.4'. */
export interface Gpus {
  /** The newest CUDA that the driver serves; null without a driver. */
  driver: string | null
  /** The CUDA runtime that is built in. */
  runtime: string
  /** Why there are no devices, as 'cudaErrorX: what it means'. */
  error?: string
  /** The path and version of cuBLASLt; null where none is found. */
  cublasLt: string | null
  devices: GpuDevice[]
}
export interface GpuDevice {
  name: string
  /** '9.0' */
  computeCapability: string
  totalBytes: number
  freeBytes: number
  /** Why it cannot be used. */
  error?: string
}

/** Bytes that tensors hold, bytes kept for the next ones, bytes the system can still give. */
export interface MemoryInfo {
  used: number
  cached: number
  free: number
}

/** When an op ran: microseconds on the clock of process.hrtime(). */
export interface TraceSpan {
  name: string
  start: number
  duration: number
}

/** One op of csrc/ops.def, as data. */
export interface OpInfo {
  name: keyof Ops
  doc: string
  params: ParamInfo[]
}
export interface ParamInfo {
  name: string
  kind: 'tensor' | 'float' | 'int' | 'bool' | 'dtype'
  /** An element type, or a class of them: act, fp8, real. */
  dtype?: string
  /** The dtype parameter that chooses this result's element type. */
  dtypeFrom?: string
  dims?: { symbol?: string; op?: '+' | '-' | '/'; number?: number }[]
  mut: boolean
  view: boolean
  optional: boolean
  out: boolean
}

export interface Binding extends Ops {
  readonly Tensor: typeof Tensor
  readonly MappedFile: typeof MappedFile
  tensor<D extends DType>(data: Float32Array | Int32Array | Uint8Array, dtype: D, shape: readonly number[], device?: string): Tensor<D>
  empty<D extends DType>(dtype: D, shape: readonly number[], device?: string): Tensor<D>
  enterScope(): void
  leaveScope(keep: readonly Tensor[]): void
  /** The names of the devices that tensors can be on: 'cpu', 'cuda:0'. */
  devices(): string[]
  memory(device?: string): MemoryInfo
  releaseCached(device?: string): void
  /** From here to stopTrace(), notes when each op runs on the device. Replays run op by op. */
  startTrace(device: string): void
  /** What ran since. Waits for what is queued: read something before. */
  stopTrace(device: string): { ran: TraceSpan[]; launched: TraceSpan[] }
  readonly Graph: typeof Graph
  /** Records the ops that `fn` calls instead of running them. It may do nothing else on that device. */
  capture(device: string, fn: () => void): Graph
  setThreads(count: number): void
  /** Forces an instruction set; false where the processor or the build lacks it. */
  useSimd(name: BuildInfo['simd']): boolean
  /**
   * What GPUs run, of the ops that have not begun: the kernels here, or cuBLASLt for products that it was measured to be
   * faster at (as at the start); always the kernels here; of them those for every GPU; or cuBLASLt where it can.
   */
  useKernels(kernels: 'measured' | 'own' | 'portable' | 'cublaslt'): void
  /** Whether kernels that GPUs launch from now on may begin while the one before them ends, as at the start. */
  useOverlap(overlap: 'on' | 'off'): void
  /** Takes the cuBLASLt of that path instead of the system's; throws what is wrong with it. */
  useCublasLt(path: string): void
  buildInfo(): BuildInfo
  /** Makes a context on each GPU to ask for its free memory, and waits for it; null when built without CUDA. */
  gpus(): Gpus | null
  readonly ops: readonly OpInfo[]
}

/**
 * Each op returns at once, its work queued on the device of its tensors. Results may be given, to reuse memory.
 * mut: updated in place. view: may be a view whose rows lie apart; all others must be dense.
 */
export interface Ops {
  /**
   * y[t] = weight[ids[t]].
   *
   * ids[T] weight[V,D] -> y[T,D]
   */
  embedding<To extends Act>(ids: Tensor<'i32'>, weight: Tensor<Real>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y[s] = x[offsets[s+1] - 1]: the last token of every sequence, none of which may be empty.
   *
   * x[T,D] offsets[S+1] -> y[S,D]
   */
  lastRows<A extends Act>(x: Tensor<A>, offsets: Tensor<'i32'>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * y = x in another element type, rounded to nearest even; fp8 saturates.
   *
   * view x[T,D] -> y[T,D]
   */
  cast<To extends Real>(x: Tensor<Real>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = std * standard normal deviates, each a function of the seed and its place in y alone (Philox 4x32-10, Box
   * and Muller 1958), the same on every device up to rounding; fp8 saturates.
   *
   * mut y[T,D]
   */
  fillNormal(y: Tensor<Real>, std: number, seed: number): void

  /**
   * ids[s] = last[slots[s]]: the token that each sequence goes on with.
   *
   * last[Slots] slots[S] -> ids[S]
   */
  takeIds(last: Tensor<'i32'>, slots: Tensor<'i32'>, ids?: Tensor<'i32'>): Tensor<'i32'>

  /**
   * last[slots[s]] = ids[s], the tokens just drawn; past and step, where they are given, grow by one.
   *
   * ids[S] slots[S] mut last[Slots] mut past?[S] mut step?[S]
   */
  nextStep(ids: Tensor<'i32'>, slots: Tensor<'i32'>, last: Tensor<'i32'>, past?: Tensor<'i32'>, step?: Tensor<'i32'>): void

  /**
   * y = x * rsqrt(mean(x^2) + eps) * weight, over the last axis.
   *
   * view x[T,D] weight[D] -> y[T,D]
   */
  rmsNorm<A extends Act>(x: Tensor<A>, weight: Tensor<'f32'>, eps: number, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * residual = residual + x, rounded as stored; y = rms_norm(residual).
   *
   * mut residual[T,D] x[T,D] weight[D] -> y[T,D]
   */
  addRmsNorm<A extends Act>(residual: Tensor<A>, x: Tensor<NoInfer<A>>, weight: Tensor<'f32'>, eps: number, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * u = x * silu(z); y = u * rsqrt(mean(u^2) + eps) * weight, the mean over each of `groups` equal parts of a row.
   *
   * view x[T,D] view z[T,D] weight[D] -> y[T,D]
   */
  gatedRmsNorm<A extends Act>(x: Tensor<A>, z: Tensor<NoInfer<A>>, weight: Tensor<'f32'>, groups: number, eps: number, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * y = max(x, 0)^2.
   *
   * x[T,D] -> y[T,D]
   */
  relu2<A extends Act>(x: Tensor<A>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * y = silu(gate) * up.
   *
   * view gate[T,D] view up[T,D] -> y[T,D]
   */
  siluMul<A extends Act>(gate: Tensor<A>, up: Tensor<NoInfer<A>>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * y = scale * x weight^T + bias, accumulated in f32. With `decode` as is best for few rows, else as for many: a
   * row has the same bits in any M, but not in both.
   *
   * view x[M,K] weight[N,K] scale?[1] bias?[N] -> y[M,N]
   */
  linear<A extends Act, To extends Act>(x: Tensor<A>, weight: Tensor<Real>, scale: Tensor<'f32'> | undefined, bias: Tensor<'f32'> | undefined, decode: boolean, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = relu2(linear(x)); amax = max |y| of all, or with scales = M of each row, for quantize.
   *
   * view x[M,K] weight[N,K] scale?[1] bias?[N] -> y[M,N] amax[scales]
   */
  linearRelu2<A extends Act, To extends Act>(x: Tensor<A>, weight: Tensor<Real>, scale: Tensor<'f32'> | undefined, bias: Tensor<'f32'> | undefined, decode: boolean, scales: number, to: To, y?: Tensor<NoInfer<To>>, amax?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * y = y + linear(x), rounded once: a residual, or a gradient that is accumulated.
   *
   * mut y[M,N] view x[M,K] weight[N,K] scale?[1] bias?[N]
   */
  linearAdd<A extends Act>(y: Tensor<A>, x: Tensor<NoInfer<A>>, weight: Tensor<Real>, scale: Tensor<'f32'> | undefined, bias: Tensor<'f32'> | undefined, decode: boolean): void

  /**
   * y = a b, accumulated in f32: the gradient of linear's x.
   *
   * view a[M,K] view b[K,N] -> y[M,N]
   */
  matmulNn<A extends Act, To extends Act>(a: Tensor<A>, b: Tensor<NoInfer<A>>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = a^T b, accumulated in f32: the gradient of linear's weight.
   *
   * view a[K,M] view b[K,N] -> y[M,N]
   */
  matmulTn<A extends Act, To extends Act>(a: Tensor<A>, b: Tensor<NoInfer<A>>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = y + a^T b: that gradient, accumulated.
   *
   * mut y[M,N] view a[K,M] view b[K,N]
   */
  matmulTnAdd<A extends Act>(y: Tensor<'f32'>, a: Tensor<A>, b: Tensor<NoInfer<A>>): void

  /**
   * y = a^T b^T, accumulated in f32: the gradient of linear's weight, transposed.
   *
   * view a[K,M] view b[N,K] -> y[M,N]
   */
  matmulTt<A extends Act, To extends Act>(a: Tensor<A>, b: Tensor<NoInfer<A>>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = x_scale * weight_scale * x weight^T + bias; R is 1 or M, a scale for each row. Accumulated in f32; where
   * `fast`, as the tensor core does it best, which on Hopper keeps 14 bits: for forward passes, not for gradients.
   *
   * x[M,K] xScale[R] weight[N,K] weightScale[1] bias?[N] -> y[M,N]
   */
  fp8Linear<To extends Act>(x: Tensor<Fp8>, xScale: Tensor<'f32'>, weight: Tensor<Fp8>, weightScale: Tensor<'f32'>, bias: Tensor<'f32'> | undefined, decode: boolean, fast: boolean, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * y = relu2(fp8_linear(x)); amax as of linear_relu2.
   *
   * x[M,K] xScale[R] weight[N,K] weightScale[1] bias?[N] -> y[M,N] amax[scales]
   */
  fp8LinearRelu2<To extends Act>(x: Tensor<Fp8>, xScale: Tensor<'f32'>, weight: Tensor<Fp8>, weightScale: Tensor<'f32'>, bias: Tensor<'f32'> | undefined, decode: boolean, fast: boolean, scales: number, to: To, y?: Tensor<NoInfer<To>>, amax?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * y = y + fp8_linear(x), rounded once.
   *
   * mut y[M,N] x[M,K] xScale[R] weight[N,K] weightScale[1] bias?[N]
   */
  fp8LinearAdd<A extends Act>(y: Tensor<A>, x: Tensor<Fp8>, xScale: Tensor<'f32'>, weight: Tensor<Fp8>, weightScale: Tensor<'f32'>, bias: Tensor<'f32'> | undefined, decode: boolean, fast: boolean): void

  /**
   * y = max |x|, NaN elements passed over.
   *
   * view x[T,D] -> y[1]
   */
  amax<A extends Act>(x: Tensor<A>, y?: Tensor<'f32'>): Tensor<'f32'>

  /**
   * y[t] = max |x[t]|, NaN elements passed over.
   *
   * view x[T,D] -> y[T]
   */
  rowAmax<A extends Act>(x: Tensor<A>, y?: Tensor<'f32'>): Tensor<'f32'>

  /**
   * s = max(to) / amax, 1 where amax is 0 or not finite, at most the largest float; y = x * s, saturated; scale =
   * 1 / s. R is 1 or T, a scale for each row.
   *
   * view x[T,D] amax[R] -> y[T,D] scale[R]
   */
  quantize<A extends Act, To extends Fp8>(x: Tensor<A>, amax: Tensor<'f32'>, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * quantize, and y once more with its rows as columns: a GEMM's operand for either of its dimensions.
   *
   * view x[T,D] amax[1] -> y[T,D] transposed[D,T] scale[1]
   */
  quantizeTranspose<A extends Act, To extends Fp8>(x: Tensor<A>, amax: Tensor<'f32'>, to: To, y?: Tensor<NoInfer<To>>, transposed?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<To>, Tensor<'f32'>]

  /**
   * y = x * scale; R is 1 or T, a scale for each row.
   *
   * x[T,D] scale[R] -> y[T,D]
   */
  dequantize<To extends Act>(x: Tensor<Fp8>, scale: Tensor<'f32'>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To>

  /**
   * quantize(rms_norm(x)), bit for bit, by its own amax or, with scales = T, by that of each row.
   *
   * view x[T,D] weight[D] -> y[T,D] scale[scales]
   */
  rmsNormQuantize<A extends Act, To extends Fp8>(x: Tensor<A>, weight: Tensor<'f32'>, eps: number, scales: number, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * residual = residual + x, rounded as stored; rms_norm_quantize of it.
   *
   * mut residual[T,D] x[T,D] weight[D] -> y[T,D] scale[scales]
   */
  addRmsNormQuantize<A extends Act, To extends Fp8>(residual: Tensor<A>, x: Tensor<NoInfer<A>>, weight: Tensor<'f32'>, eps: number, scales: number, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * quantize(gated_rms_norm(x, z)); scales as of rms_norm_quantize.
   *
   * view x[T,D] view z[T,D] weight[D] -> y[T,D] scale[scales]
   */
  gatedRmsNormQuantize<A extends Act, To extends Fp8>(x: Tensor<A>, z: Tensor<NoInfer<A>>, weight: Tensor<'f32'>, groups: number, eps: number, scales: number, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * quantize(silu_mul(gate, up)), bit for bit; scales as of rms_norm_quantize.
   *
   * view gate[T,D] view up[T,D] -> y[T,D] scale[scales]
   */
  siluMulQuantize<A extends Act, To extends Fp8>(gate: Tensor<A>, up: Tensor<NoInfer<A>>, scales: number, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * rms_norm_quantize with one scale, and y once more with its rows as columns.
   *
   * view x[T,D] weight[D] -> y[T,D] transposed[D,T] scale[1]
   */
  rmsNormQuantizeTranspose<A extends Act, To extends Fp8>(x: Tensor<A>, weight: Tensor<'f32'>, eps: number, to: To, y?: Tensor<NoInfer<To>>, transposed?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<To>, Tensor<'f32'>]

  /**
   * y[t] = silu(bias + sum over w of weight[w] * x[t - (W-1) + w]); rows before a sequence's first come from
   * state, which then holds its last W-1 rows of x, oldest first.
   *
   * view x[T,D] weight[W,D] bias?[D] offsets[S+1] past[S] slots[S] mut state[Slots,W-1,D] -> y[T,D]
   */
  causalConv1d<A extends Act>(x: Tensor<A>, weight: Tensor<'f32'>, bias: Tensor<'f32'> | undefined, offsets: Tensor<'i32'>, past: Tensor<'i32'>, slots: Tensor<'i32'>, state: Tensor<NoInfer<A>>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * causal_conv1d of one token for every sequence.
   *
   * view x[S,D] weight[W,D] bias?[D] past[S] slots[S] mut state[Slots,W-1,D] -> y[S,D]
   */
  causalConv1dStep<A extends Act>(x: Tensor<A>, weight: Tensor<'f32'>, bias: Tensor<'f32'> | undefined, past: Tensor<'i32'>, slots: Tensor<'i32'>, state: Tensor<NoInfer<A>>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * Mamba-2 over whole sequences, in chunks: d = clamp(softplus(dt + dt_bias), dt_min, dt_max); state = exp(d A)
   * state + d x B^T; y = (state C + D x) * silu(z). Head h uses group h / (H/G). A row (t, slot) of `saves`: what
   * the state is before token t, where a chunk or the sequence ends, also goes to that slot. With `segment`, a
   * multiple of `chunk`, parts of that many positions may be scanned at once, for few heads; 0: none.
   *
   * view x[T,H,P] view dt[T,H] A[H] view B[T,G,N] view C[T,G,N] D[H] dtBias[H] view z?[T,H,P] offsets[S+1] past[S]
   * slots[S] mut state[Slots,H,P,N] saves?[E,2] -> y[T,H,P]
   */
  ssmScan<A extends Act>(x: Tensor<A>, dt: Tensor<NoInfer<A>>, A: Tensor<'f32'>, B: Tensor<NoInfer<A>>, C: Tensor<NoInfer<A>>, D: Tensor<'f32'>, dtBias: Tensor<'f32'>, dtMin: number, dtMax: number, z: Tensor<NoInfer<A>> | undefined, chunk: number, segment: number, offsets: Tensor<'i32'>, past: Tensor<'i32'>, slots: Tensor<'i32'>, state: Tensor<State>, saves?: Tensor<'i32'>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * ssm_scan of one token for every sequence, as the plain recurrence. A state of f16 is rounded up or down at
   * random, by how near it is (Philox 4x32-7), from the seed, the position and the place in the state alone.
   *
   * view x[S,H,P] view dt[S,H] A[H] view B[S,G,N] view C[S,G,N] D[H] dtBias[H] view z?[S,H,P] past[S] slots[S] mut
   * state[Slots,H,P,N] -> y[S,H,P]
   */
  ssmStep<A extends Act>(x: Tensor<A>, dt: Tensor<NoInfer<A>>, A: Tensor<'f32'>, B: Tensor<NoInfer<A>>, C: Tensor<NoInfer<A>>, D: Tensor<'f32'>, dtBias: Tensor<'f32'>, dtMin: number, dtMax: number, z: Tensor<NoInfer<A>> | undefined, past: Tensor<'i32'>, slots: Tensor<'i32'>, state: Tensor<State>, seed: number, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * All of a Mamba-2 layer between its projections, of one token for every sequence: causal_conv1d_step of x,
   * whose columns then are x [S,H,P], B and C [S,groups,N]; ssm_step of these; gated_rms_norm. Only y and states
   * are rounded.
   *
   * view x[S,C] view z[S,I] view dt[S,H] convWeight[W,C] convBias?[C] A[H] D[H] dtBias[H] normWeight[I] past[S]
   * slots[S] mut convState[Slots,W-1,C] mut state[Slots,H,P,N] -> y[S,I]
   */
  mamba2Step<A extends Act>(x: Tensor<A>, z: Tensor<NoInfer<A>>, dt: Tensor<NoInfer<A>>, convWeight: Tensor<'f32'>, convBias: Tensor<'f32'> | undefined, A: Tensor<'f32'>, D: Tensor<'f32'>, dtBias: Tensor<'f32'>, dtMin: number, dtMax: number, normWeight: Tensor<'f32'>, groups: number, eps: number, past: Tensor<'i32'>, slots: Tensor<'i32'>, convState: Tensor<NoInfer<A>>, state: Tensor<State>, seed: number, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * quantize(mamba2_step(x)), bit for bit; scales as of rms_norm_quantize.
   *
   * view x[S,C] view z[S,I] view dt[S,H] convWeight[W,C] convBias?[C] A[H] D[H] dtBias[H] normWeight[I] past[S]
   * slots[S] mut convState[Slots,W-1,C] mut state[Slots,H,P,N] -> y[S,I] scale[scales]
   */
  mamba2StepQuantize<A extends Act, To extends Fp8>(x: Tensor<A>, z: Tensor<NoInfer<A>>, dt: Tensor<NoInfer<A>>, convWeight: Tensor<'f32'>, convBias: Tensor<'f32'> | undefined, A: Tensor<'f32'>, D: Tensor<'f32'>, dtBias: Tensor<'f32'>, dtMin: number, dtMax: number, normWeight: Tensor<'f32'>, groups: number, eps: number, past: Tensor<'i32'>, slots: Tensor<'i32'>, convState: Tensor<NoInfer<A>>, state: Tensor<State>, seed: number, scales: number, to: To, y?: Tensor<NoInfer<To>>, scale?: Tensor<'f32'>): [Tensor<To>, Tensor<'f32'>]

  /**
   * Rotates the pairs (i, i + P/2) of every head by position * inv_freq[i], in place.
   *
   * mut view x[T,H,P] invFreq[P/2] offsets[S+1] past[S]
   */
  rope<A extends Act>(x: Tensor<A>, invFreq: Tensor<'f32'>, offsets: Tensor<'i32'>, past: Tensor<'i32'>): void

  /**
   * Writes the keys and values of the token at position p of sequence s to place p % PageSize of page pages[s, p /
   * PageSize]; keys as rope(k) leaves them where there is inv_freq. Caches are of the activations' type, or e4m3
   * with a scale for each head, which stored values are to be multiplied by.
   *
   * view k[T,G,P] view v[T,G,P] invFreq?[P/2] kScale?[G] vScale?[G] pages[S,MaxPages] offsets[S+1] past[S] mut
   * kCache[Pages,PageSize,G,P] mut vCache[Pages,PageSize,G,P]
   */
  kvAppend<A extends Act>(k: Tensor<A>, v: Tensor<NoInfer<A>>, invFreq: Tensor<'f32'> | undefined, kScale: Tensor<'f32'> | undefined, vScale: Tensor<'f32'> | undefined, pages: Tensor<'i32'>, offsets: Tensor<'i32'>, past: Tensor<'i32'>, kCache: Tensor<Kv>, vCache: Tensor<Kv>): void

  /**
   * y = softmax(scale q k^T) v over positions up to the token's own, which kv_append has put in the cache; scales
   * as there. lse = log sum exp(scale q k^T). Query head h uses key head h / (H/G). With `decode`, as is best for
   * up to 8 new tokens a sequence, a token has the same bits whatever the batch, but not with and without it.
   *
   * view q[T,H,P] kCache[Pages,PageSize,G,P] vCache[Pages,PageSize,G,P] kScale?[G] vScale?[G] pages[S,MaxPages]
   * offsets[S+1] past[S] mut lse?[T,H] -> y[T,H,P]
   */
  attention<A extends Act>(q: Tensor<A>, kCache: Tensor<Kv>, vCache: Tensor<Kv>, kScale: Tensor<'f32'> | undefined, vScale: Tensor<'f32'> | undefined, pages: Tensor<'i32'>, offsets: Tensor<'i32'>, past: Tensor<'i32'>, scale: number, decode: boolean, lse?: Tensor<'f32'>, y?: Tensor<NoInfer<A>>): Tensor<A>

  /**
   * history[slot, id] is 2 * times generated + 1 if in the prompt; cleared first where past is 0.
   *
   * ids[T] offsets[S+1] past[S] slots[S] mut history[Slots,V]
   */
  countTokens(ids: Tensor<'i32'>, offsets: Tensor<'i32'>, past: Tensor<'i32'>, slots: Tensor<'i32'>, generated: boolean, history: Tensor<'i32'>): void

  /**
   * Seen tokens: positive logits / repetition, others * repetition (Keskar et al. 2019); generated ones then lose
   * frequency * count + presence.
   *
   * mut logits[S,V] history[Slots,V] slots[S] repetition[S] frequency[S] presence[S]
   */
  penalize(logits: Tensor<'f32'>, history: Tensor<'i32'>, slots: Tensor<'i32'>, repetition: Tensor<'f32'>, frequency: Tensor<'f32'>, presence: Tensor<'f32'>): void

  /**
   * logits[s, ids[e]] += bias[e] for e from offsets[s] to offsets[s+1].
   *
   * mut logits[S,V] offsets[S+1] ids[E] bias[E]
   */
  biasLogits(logits: Tensor<'f32'>, offsets: Tensor<'i32'>, ids: Tensor<'i32'>, bias: Tensor<'f32'>): void

  /**
   * Draws from softmax(logits / temperature) among the top_k most likely (0: all), of these the fewest that hold
   * top_p of the probability, of these the ones at least min_p times the likeliest. Temperature 0: the first of
   * the largest. The draw depends on the row, its seed (low word, high word) and its step only (Philox 4x32-10).
   *
   * logits[S,V] temperature[S] topK[S] topP[S] minP[S] seed[S,2] step[S] -> ids[S]
   */
  sample(logits: Tensor<'f32'>, temperature: Tensor<'f32'>, topK: Tensor<'i32'>, topP: Tensor<'f32'>, minP: Tensor<'f32'>, seed: Tensor<'i32'>, step: Tensor<'i32'>, ids?: Tensor<'i32'>): Tensor<'i32'>

  /**
   * y[s] = log_softmax(logits[s])[ids[s]].
   *
   * logits[S,V] ids[S] -> y[S]
   */
  logProbs(logits: Tensor<'f32'>, ids: Tensor<'i32'>, y?: Tensor<'f32'>): Tensor<'f32'>

  /**
   * The `count` largest of log_softmax(logits[s]), falling; equal ones by id.
   *
   * logits[S,V] -> ids[S,count] values[S,count]
   */
  topLogProbs(logits: Tensor<'f32'>, count: number, ids?: Tensor<'i32'>, values?: Tensor<'f32'>): [Tensor<'i32'>, Tensor<'f32'>]
}
