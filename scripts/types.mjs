// Writes binding.d.ts from what the built addon says of itself. `--check` fails if it would change.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const addon = createRequire(import.meta.url)('node-gyp-build')(root)

const classes = { act: 'Act', fp8: 'Fp8', real: 'Real', state: 'State', kv: 'Kv' }
const typeOf = (name) => classes[name] ?? `'${name}'`

const tensorType = (p) => `Tensor<${p.dtypeFrom ? 'To' : p.dtype === 'act' ? 'A' : typeOf(p.dtype)}>`

// Only the first activation may infer A, and only the dtype parameter To: two tensors that differ would
// else widen it to a union, and pass.
function parameter(p, firstAct, mayBeOmitted) {
  const scalar = { float: 'number', int: 'number', bool: 'boolean', dtype: 'To' }[p.kind]
  const type = scalar ?? (p === firstAct ? tensorType(p) : tensorType(p).replace(/<(A|To)>/, '<NoInfer<$1>>'))
  if (p.out || (p.optional && mayBeOmitted)) return `${p.name}?: ${type}`
  return `${p.name}: ${type}${p.optional ? ' | undefined' : ''}`
}

const dimText = (d) => `${d.symbol ?? ''}${d.op ?? ''}${d.number ?? ''}`
const shapeText = (p) =>
  `${p.mut ? 'mut ' : ''}${p.view ? 'view ' : ''}${p.name}${p.optional ? '?' : ''}[${p.dims.map(dimText).join(',')}]`

// Lines of at most 110 characters, as comment text.
function wrap(text) {
  const lines = ['']
  for (const word of text.split(' ')) {
    if (`${lines.at(-1)} ${word}`.length > 110) lines.push(word)
    else lines.push(`${lines.pop()} ${word}`.trim())
  }
  return lines.map((line) => `   * ${line}`).join('\n')
}

function declaration({ name, doc, params }) {
  const firstAct = params.find((p) => p.kind === 'tensor' && p.dtype === 'act' && !p.dtypeFrom)
  const chosen = params.find((p) => p.kind === 'dtype')
  const generics = [firstAct && 'A extends Act', chosen && `To extends ${typeOf(chosen.dtype)}`].filter(Boolean)
  const lastRequired = params.findLastIndex((p) => !p.optional && !p.out)
  const list = params.map((p, i) => parameter(p, firstAct, i > lastRequired))
  const outs = params.filter((p) => p.out).map(tensorType)
  const result = outs.length === 0 ? 'void' : outs.length === 1 ? outs[0] : `[${outs.join(', ')}]`
  const tensors = params.filter((p) => p.dims)
  const shapes = [false, true].map((out) =>
    tensors
      .filter((p) => p.out === out)
      .map(shapeText)
      .join(' '),
  )
  return `  /**
${wrap(doc)}
   *
${wrap(shapes[1] ? shapes.join(' -> ') : shapes[0])}
   */
  ${name}${generics.length ? `<${generics.join(', ')}>` : ''}(${list.join(', ')}): ${result}\n`
}

const text = `/// <reference lib="esnext.disposable" />
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
 * Typed, shaped memory on a device; row-major. It lives until dispose(), the end of its \`using\` block, or the
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
  /** Queues a copy of the elements that begin at byte \`start\` to a new tensor. */
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
  /** Records the ops that \`fn\` calls instead of running them. It may do nothing else on that device. */
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
${addon.ops.map(declaration).join('\n')}}
`

const file = `${root}binding.d.ts`
if (process.argv.includes('--check')) {
  if (!existsSync(file) || readFileSync(file, 'utf8') !== text) {
    console.error('binding.d.ts is stale: npm run types')
    process.exit(1)
  }
} else {
  writeFileSync(file, text)
}
