/**
 * What a model takes in memory, by arithmetic alone: before anything is loaded, and where nothing can be.
 *
 * Activations are the tensors that lib/model/ makes, block by block as the pool gives them out. A layer's scope ends with
 * the layer, so a batch takes what lives all through it and the largest layer. test/plan.test.ts holds all this against
 * what models really take.
 */
import {
  type Config,
  type LayerKind,
  layerShapes,
  mambaWidths,
  maxGraphs,
  outerProducts,
  outerShapes,
  pageSize,
  pagesFor,
  parameterCounts,
} from './model/config.js'

/** What a matrix is kept in, as safetensors calls it. */
interface Stored {
  readonly dtype: string
}

/** Prompt tokens in one batch on a GPU, unless options say. */
export const gpuPrefillTokens = 8192

export interface PlanOptions {
  /**
   * What matrices are kept in, or of a checkpoint kept as stored its tensors by name; by default what the config says.
   * fp4 is for planning only: every parameter at 4.5 bits, as NVFP4 has 4 and a scale of 8 for each 16.
   */
  weights?: 'f32' | 'bf16' | 'fp8' | 'fp4' | ReadonlyMap<string, Stored> | undefined
  /** With weights fp8: how many matrix products at each end of the model stay bf16; 4. */
  bf16Gemms?: number | undefined
  /** How activations meet fp8 weights; by 'row'. */
  activationScaling?: 'row' | 'tensor' | 'none' | undefined
  /** Activations and windows of convolutions; bf16. */
  dtype?: 'f32' | 'bf16' | undefined
  /** Keys and values; as dtype. fp4 is for planning only: half a byte each. */
  kvCache?: 'f32' | 'bf16' | 'fp8' | 'fp4' | undefined
  /** States of Mamba-2; f32. */
  ssmState?: 'f32' | 'f16' | undefined
  /** Tokens that one sequence may have; the model's own limit. */
  context?: number | undefined
  /** Sequences at a time; 8. */
  sequences?: number | undefined
  /** Tokens of keys and values of all sequences together; by default all sequences can be full. */
  cacheTokens?: number | ((context: number, sequences: number) => number) | undefined
  /** Prompt tokens in one batch; gpuPrefillTokens. */
  prefillTokens?: number | undefined
  /** Recorded decode steps that are kept; maxGraphs. With 0 a step is not recorded. */
  graphs?: number | undefined
}

/** Bytes. */
export interface Plan {
  weights: number
  kvCache: number
  /** Windows of convolutions. */
  convState: number
  /** States of Mamba-2. */
  ssmState: number
  /** Activations of a batch of prefillTokens, logits included. */
  prefill: number
  /** Activations of a decode batch of all sequences, as often as there are graphs, and their logits once. */
  decode: number
  /** What log-probabilities and penalties take beside, if any sequence wants them. */
  sampling: number
  /** What CUDA kernels take while they run. */
  workspace: number
  total: number
}

/** Options with their defaults. */
interface Chosen {
  weights: 'f32' | 'bf16' | 'fp8' | 'fp4' | ReadonlyMap<string, Stored>
  bf16Gemms: number
  activationScaling: 'row' | 'tensor' | 'none'
  dtype: 'f32' | 'bf16'
  kvCache: 'f32' | 'bf16' | 'fp8' | 'fp4'
  ssmState: 'f32' | 'f16'
  context: number
  sequences: number
  cacheTokens: number
  prefillTokens: number
  graphs: number
}

function withDefaults(config: Config, options: PlanOptions): Chosen {
  const { dtype = 'bf16', context = config.maxPositions, sequences = 8, cacheTokens } = options
  const tokens = typeof cacheTokens === 'function' ? cacheTokens(context, sequences) : cacheTokens
  return {
    weights: options.weights ?? (config.dtype === 'f32' ? 'f32' : 'bf16'),
    bf16Gemms: options.bf16Gemms ?? 4,
    activationScaling: options.activationScaling ?? 'row',
    dtype,
    kvCache: options.kvCache ?? dtype,
    ssmState: options.ssmState ?? 'f32',
    context,
    sequences,
    cacheTokens: tokens ?? context * sequences,
    prefillTokens: Math.min(options.prefillTokens ?? gpuPrefillTokens, context * sequences),
    graphs: options.graphs ?? maxGraphs,
  }
}

const sizes = { f32: 4, bf16: 2, f16: 2, fp8: 1, fp4: 0.5 }

/** What the pool takes for a tensor: the capacities of csrc/pool.cc, up to a 32nd more. */
function block(bytes: number): number {
  if (bytes <= 64) return 64
  const [high, low] = [Math.floor((bytes - 1) / 2 ** 32), (bytes - 1) % 2 ** 32]
  const power = 2 ** (high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(low)) // the largest below `bytes`
  const step = bytes <= 2048 ? power * 2 : power / 32
  return Math.ceil(bytes / step) * step
}

const blocks = (tensors: readonly number[]) => tensors.reduce((sum, bytes) => sum + block(bytes), 0)

/** What a model takes with these options. */
export function planMemory(config: Config, options: PlanOptions = {}): Plan {
  return planner(config, options)()
}

/** Plans of one model: with these options, and with any of them changed that are not about its weights. */
function planner(config: Config, options: PlanOptions): (change?: Sizes) => Plan {
  const weights = weightsOf(config, withDefaults(config, options))
  return (change) => planWith(config, withDefaults(config, { ...options, ...change }), weights)
}

type Sizes = Pick<PlanOptions, 'context' | 'sequences' | 'cacheTokens' | 'prefillTokens'>

function planWith(config: Config, chosen: Chosen, { bytes, layers, fp8 }: Weights): Plan {
  const prefill = batchOf(config, chosen, false)
  const decode = batchOf(config, chosen, true)
  const parts = {
    weights: bytes,
    ...stateBytes(config, chosen),
    prefill: peak(batchTensors(config, prefill, layers)),
    decode: decodeBytes(config, decode, layers, chosen.graphs),
    // sampling.ts copies logits [S,V] in f32 where someone asks for log-probabilities; scheduler.ts counts tokens for
    // penalties in [Slots,V] i32.
    sampling: 2 * block(4 * chosen.sequences * config.vocabSize),
    workspace: workspaceBytes(config, chosen, prefill, decode, fp8),
  }
  return { ...parts, total: Object.values(parts).reduce((a, b) => a + b) }
}

// ---- weights

interface Weights {
  bytes: number
  layers: Layer[]
  /** Whether any matrix is fp8. */
  fp8: boolean
}

function weightsOf(config: Config, chosen: Chosen): Weights {
  const all = parameters(config)
  const formats = matrixFormats(all, chosen)
  return {
    bytes: weightBytes(config, chosen, all, formats),
    layers: distinctLayers(config, formats),
    fp8: [...formats.values()].includes('fp8'),
  }
}

type MatrixFormat = 'f32' | 'bf16' | 'fp8'

/** The format of every matrix by its name; absent for fp4, which is a number only. */
type MatrixFormats = ReadonlyMap<string, MatrixFormat>

interface Parameter {
  name: string
  elements: number
  kind: 'embedding' | 'matrix' | 'vector'
}

function parameters(config: Config): Parameter[] {
  const parameter = (name: string, shape: readonly number[], matrix: Parameter['kind']): Parameter => ({
    name,
    kind: shape.length === 2 ? matrix : 'vector',
    elements: shape.reduce((a, b) => a * b),
  })
  return [
    ...Object.entries(outerShapes(config)).map(([name, shape]) => parameter(name, shape, 'embedding')),
    ...config.layers.flatMap((kind, i) =>
      Object.entries(layerShapes(config, kind)).map(([name, shape]) =>
        parameter(`layers.${i}.${name}`, shape, 'matrix'),
      ),
    ),
  ]
}

const storedFormats: Record<string, MatrixFormat> = { F32: 'f32', F16: 'bf16', BF16: 'bf16', F8_E4M3: 'fp8' }

function matrixFormats(all: readonly Parameter[], { weights, bf16Gemms }: Chosen): MatrixFormats {
  const matrices = all.filter(({ kind }) => kind !== 'vector')
  const products = matrices.filter(({ kind }) => kind === 'matrix').map(({ name }) => name)
  const kept = weights === 'fp8' ? outerProducts(products, bf16Gemms) : new Set<string>()
  const formatOf = ({ name, kind }: Parameter): MatrixFormat => {
    if (typeof weights !== 'string') return storedFormats[weights.get(name)!.dtype]!
    if (weights === 'fp8') return kind === 'embedding' || kept.has(name) ? 'bf16' : 'fp8'
    return weights === 'fp4' ? 'bf16' : weights // whose activations stay as they are
  }
  return new Map(matrices.map((matrix) => [matrix.name, formatOf(matrix)]))
}

function weightBytes(
  config: Config,
  { weights, kvCache }: Chosen,
  all: readonly Parameter[],
  formats: MatrixFormats,
): number {
  if (weights === 'fp4') return (parameterCounts(config).total * 4.5) / 8
  const { headDim, kvHeads, rope } = config.attention
  const scale = block(4) // of an fp8 matrix
  const ofAttention = (rope ? block((4 * headDim) / 2) : 0) + (kvCache === 'fp8' ? 2 * block(4 * kvHeads) : 0)
  return all
    .map(({ name, elements }) => {
      const format = formats.get(name) ?? 'f32'
      return block(elements * sizes[format]) + (format === 'fp8' ? scale : 0)
    })
    .reduce((a, b) => a + b, ofAttention * config.layers.filter((kind) => kind === 'attention').length)
}

// ---- what layers remember of sequences

function stateBytes(config: Config, { dtype, kvCache, ssmState, sequences, cacheTokens }: Chosen) {
  const bytes = { kvCache: 0, convState: 0, ssmState: 0 }
  const count = (kind: LayerKind) => config.layers.filter((layer) => layer === kind).length
  const { kvHeads, headDim } = config.attention
  const rows = pagesFor(cacheTokens) * pageSize
  bytes.kvCache = 2 * count('attention') * block(rows * kvHeads * headDim * sizes[kvCache])
  if (config.mamba) {
    const { heads, headDim, stateSize, convKernel } = config.mamba
    const { channels } = mambaWidths(config.mamba)
    bytes.convState = count('mamba2') * block(sequences * (convKernel - 1) * channels * sizes[dtype])
    bytes.ssmState = count('mamba2') * block(sequences * heads * headDim * stateSize * sizes[ssmState])
  }
  return bytes
}

// ---- activations

/** T tokens of S sequences. */
interface BatchSize {
  T: number
  S: number
  decode: boolean
  /** Pages of a sequence at most. */
  pages: number
  act: 2 | 4
  scaling: 'row' | 'tensor' | 'none'
}

function batchOf(config: Config, chosen: Chosen, decode: boolean): BatchSize {
  const { sequences, prefillTokens, context, dtype, activationScaling } = chosen
  const T = decode ? sequences : Math.max(prefillTokens, Math.min(config.mamba?.chunkSize ?? 1, context * sequences))
  return {
    T,
    S: Math.min(T, sequences),
    decode,
    pages: pagesFor(context),
    act: dtype === 'f32' ? 4 : 2,
    scaling: activationScaling,
  }
}

/** A layer as far as its activations go: what kind it is, and which of its matrices are fp8. */
interface Layer {
  kind: LayerKind
  fp8: ReadonlySet<string>
}

function distinctLayers({ layers }: Config, formats: MatrixFormats): Layer[] {
  const fp8 = layers.map(() => new Set<string>())
  for (const [name, format] of formats) {
    const [, layer, matrix] = /^layers\.(\d+)\.mixer\.(\w+)_proj\.weight$/.exec(name) ?? []
    if (format === 'fp8' && layer && matrix) fp8[Number(layer)]!.add(matrix)
  }
  const distinct = new Map(layers.map((kind, i) => [[kind, ...fp8[i]!].join(), { kind, fp8: fp8[i]! }]))
  return [...distinct.values()]
}

/** Bytes of tensors, by when they live. */
interface BatchTensors {
  /** The batch itself: token ids, offsets, past, slots, pages. */
  inputs: number[]
  /** All through it. */
  residual: number
  /** In each layer. */
  layers: number[][]
  /** After the last layer, but for the logits. */
  after: number[]
  logits: number
}

function batchTensors(config: Config, batch: BatchSize, layers: readonly Layer[]): BatchTensors {
  const { T, S, decode, pages, act } = batch
  const D = config.hiddenSize
  return {
    inputs: [4 * T, 4 * (S + 1), 4 * S, 4 * S, 4 * S * pages],
    residual: T * D * act,
    layers: layers.map((layer) => layerTensors(config, batch, layer)),
    after: decode ? [T * D * act] : [T * D * act, S * D * act],
    logits: 4 * S * config.vocabSize,
  }
}

function layerTensors(config: Config, { T, decode, act, scaling }: BatchSize, { kind, fp8 }: Layer): number[] {
  const scales = 4 * (scaling === 'row' ? T : 1)
  const wants = (matrix: string) => fp8.has(matrix) && scaling !== 'none'
  const acts = (...widths: number[]) => widths.map((width) => T * width * act)
  const quantized = (width: number) => [T * width, scales]
  // What Linear makes of an input that it quantises for itself: amax, and the input in fp8.
  const own = (width: number, ...matrices: string[]) =>
    matrices.filter(wants).flatMap(() => [scales, ...quantized(width)])
  // What a norm makes for products that agree on fp8, or do not (commonScaling).
  const normed = (width: number, ...matrices: string[]) =>
    matrices.every(wants) ? quantized(width) : [...acts(width), ...own(width, ...matrices)]

  const D = config.hiddenSize
  const mixers: Record<LayerKind, () => number[]> = {
    mamba2() {
      const { heads, groups, stateSize } = config.mamba!
      const { inner, channels } = mambaWidths(config.mamba!)
      const projected = acts(2 * inner + 2 * groups * stateSize + heads)
      const scanned = decode ? [] : acts(channels, inner) // one op steps, and the scan's y is what its norm reads
      return [...normed(D, 'in'), ...projected, ...scanned, ...normed(inner, 'out')]
    },
    attention() {
      const { heads, kvHeads, headDim } = config.attention
      const [q, kv] = [heads * headDim, kvHeads * headDim]
      return [...normed(D, 'q', 'k', 'v'), ...acts(q, kv, kv, q), ...own(q, 'o')]
    },
    mlp() {
      const { intermediateSize: F, activation } = config.mlp
      if (activation === 'silu_gated') {
        return [...normed(D, 'gate', 'up'), ...acts(F, F), ...(wants('down') ? quantized(F) : acts(F))]
      }
      const amax = wants('down') ? scales : 4
      return [...normed(D, 'up'), ...acts(F), amax, ...(wants('down') ? quantized(F) : [])]
    },
  }
  return mixers[kind]()
}

function peak({ inputs, residual, layers, after, logits }: BatchTensors): number {
  return blocks([...inputs, residual]) + Math.max(blocks([...after, logits]), ...layers.map(blocks))
}

/** What a graph keeps: a block is used again for tensors of the same bytes only (Arena of csrc/pool.cc). */
function graphBytes({ residual, layers, after }: BatchTensors): number {
  const most = new Map<number, number>() // tensors of these bytes at once
  for (const tensors of [...layers, after]) {
    const counts = new Map<number, number>()
    for (const bytes of [residual, ...tensors]) counts.set(bytes, (counts.get(bytes) ?? 0) + 1)
    for (const [bytes, count] of counts) most.set(bytes, Math.max(count, most.get(bytes) ?? 0))
  }
  return [...most].reduce((sum, [bytes, count]) => sum + count * block(bytes), 0)
}

/** Every graph as for all sequences, which the largest is for. */
function decodeBytes(config: Config, batch: BatchSize, layers: readonly Layer[], graphs: number): number {
  const tensors = batchTensors(config, batch, layers)
  if (graphs === 0) return peak(tensors)
  return graphs * graphBytes(tensors) + blocks([...tensors.inputs, tensors.logits])
}

// ---- workspace

// More SMs than any GPU has: 192 of a whole GB202, 148 of a B200, 132 of an H100.
const processors = 192

// What a GPU keeps for its ops (kWorkspace of csrc/cuda/context.h); one that takes more has all of it besides.
const kept = 32 * 2 ** 20

/** What ops take for themselves, on any GPU: they run one after the other (csrc/cuda/scratch.cuh). */
function workspaceBytes(
  config: Config,
  { cacheTokens }: Chosen,
  prefill: BatchSize,
  decode: BatchSize,
  fp8: boolean,
): number {
  const { T, S, act, scaling } = prefill
  const streaming = 4 * 128 * 256 * processors // gemm/streaming/kernel.cuh: 128 rows by tiles of 256, 2 parts a worker
  const cublasLt = 32 * 2 ** 20 // gemm/cublaslt/cublaslt.cu
  const pages = 4 * pagesFor(cacheTokens) // attention/pages.cu, when keys are appended
  const largest = [streaming, cublasLt, pages, attentionParts(config, decode)]
  // norm_quantize.cu: the norm [T,D], or product [T,F], where it is not quantised as it is made, and a number for each row.
  const quantises = fp8 && scaling !== 'none'
  const { intermediateSize, activation } = config.mlp
  const width = activation === 'silu_gated' ? Math.max(config.hiddenSize, intermediateSize) : config.hiddenSize
  if (quantises) largest.push(T * width * act + 4 * T)
  if (config.mamba) {
    const { heads, headDim, stateSize, groups, chunkSize } = config.mamba
    const { inner } = mambaWidths(config.mamba)
    let part = Math.min(chunkSize, 128)
    while (chunkSize % part !== 0) part--
    const chunks = Math.floor(T / part) + 2 * S
    // ssm/scan.cu: 16 bytes for each step, and the state before each chunk. Hopper's own scan takes none of it.
    largest.push(16 * heads * T + chunks * heads * headDim * stateSize * act)
    if (quantises) largest.push(T * inner * act + 4 * T)
    // ssm/mamba2_step.cu: the sum [S,I] in f32, its norm [S,I], and a maximum for each group.
    largest.push(decode.S * (inner * (4 + act) + 4 * groups))
  }
  const needed = Math.max(...largest)
  return needed > kept ? kept + needed : kept
}

/** attention/decode.cuh: what its workers have summed of their shares, in parts of 512 keys. */
function attentionParts({ attention }: Config, { S, pages, act }: BatchSize): number {
  const { heads, kvHeads, headDim } = attention
  if (act === 4 || headDim > 128) return 0 // other kernels
  const rowsOfToken = heads / kvHeads
  const [rows, workersOfProcessor] = rowsOfToken <= 16 ? [16, 2] : [64, 1]
  const tiles = Math.floor((S * rowsOfToken) / rows) + S
  const parts = Math.ceil((pages * pageSize) / 512)
  const most = tiles * kvHeads * parts
  const workers = Math.min(most, workersOfProcessor * processors)
  const kept = Math.min(parts, 1 + Math.ceil(most / workers))
  return 4 * workers * kept * rows * ((headDim <= 64 ? 64 : 128) + 2)
}

// ---- what fits

/** What a model that fits leaves room for. */
export interface Fit {
  plan: Plan
  /** Bytes. */
  left: number
  /** The most tokens of keys and values with these options, at most as many as all sequences can have. */
  cacheTokens: number
  /** The most sequences at this context, if all are full. */
  sequences: number
  /** The longest context of this many sequences, if all are full. */
  context: number
}

const most = 2 ** 31 - 1 // what sizes are counted in by the kernels
const mostSequences = 65536

/** The largest integer up to `high` that `fits`, which larger ones do only if smaller ones do; 0 where none does. */
function largest(high: number, fits: (n: number) => boolean): number {
  let low = 0
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return low
}

/** The most tokens of keys and values in `budget` bytes, at most as many as all sequences can have; 0 where none fits. */
export function cacheTokensIn(config: Config, options: PlanOptions, budget: number): number {
  const { context, sequences } = withDefaults(config, options)
  const plan = planner(config, options)
  return largest(Math.min(most, context * sequences), (cacheTokens) => plan({ cacheTokens }).total <= budget)
}

/**
 * The plan of a model that has `budget` bytes.
 * @throws Error where it does not fit, with what is missing and what would fit
 */
export function checkFit(config: Config, options: PlanOptions, budget: number, op: string): Plan {
  const plan = planMemory(config, options)
  if (plan.total <= budget) return plan
  const missing = `${gib(plan.total - budget)} are missing`
  const ways = waysToFit(config, options, budget)
  const advice = ways.length > 0 ? `it fits with ${ways.join(', or ')}` : 'no smaller format or context makes it fit'
  throw new Error(`${op}: memory is ${gib(budget)}, expected at least ${gib(plan.total)}: ${missing}; ${advice}`)
}

/**
 * What `budget` bytes have room for.
 * @throws Error as checkFit
 */
export function fit(config: Config, options: PlanOptions, budget: number): Fit {
  const plan = checkFit(config, options, budget, 'plan')
  const { context, sequences } = withDefaults(config, options)
  const full = planner(config, { ...options, cacheTokens: undefined })
  return {
    plan,
    left: budget - plan.total,
    cacheTokens: cacheTokensIn(config, options, budget),
    sequences: largest(mostSequences, (n) => full({ context, sequences: n }).total <= budget),
    context: largest(longest(config), (n) => full({ sequences, context: n }).total <= budget),
  }
}

/** The positions that a rotary embedding was trained for, or as many as can be counted. */
const longest = ({ attention, maxPositions }: Config) => (attention.rope ? maxPositions : most)

/** Single changes to the options that make it fit; where there is none, all smaller formats together. */
function waysToFit(config: Config, options: PlanOptions, budget: number): string[] {
  const { weights, kvCache, ssmState, context, sequences, cacheTokens, prefillTokens } = withDefaults(config, options)
  const formats: [name: string, change: PlanOptions][] = []
  if (weights !== 'fp8' && weights !== 'fp4') formats.push(['weights fp8', { weights: 'fp8' }])
  if (sizes[kvCache] > 1) formats.push(['kvCache fp8', { kvCache: 'fp8' }])
  if (ssmState === 'f32' && config.mamba) formats.push(['ssmState f16', { ssmState: 'f16' }])
  const works = (change: PlanOptions) => planMemory(config, { ...options, ...change }).total <= budget

  /** The largest n from `low` on and below `high` that works, in words. */
  const upTo = (low: number, high: number, text: (n: string) => string, change: (n: number) => Sizes, more = {}) => {
    const plan = planner(config, { ...options, ...more })
    const n = largest(high - 1, (n) => plan(change(n)).total <= budget)
    return n >= low ? [text(n.toLocaleString('en-US'))] : []
  }
  const shorter = (n: number) => ({ context: n })
  const ways = [
    ...formats.filter(([, change]) => works(change)).map(([name]) => name),
    ...upTo(1, context, (n) => `a context of at most ${n} tokens`, shorter),
    ...upTo(
      1,
      sequences,
      (n) => `at most ${n} sequences`,
      (n) => ({ sequences: n }),
    ),
    ...upTo(
      context,
      cacheTokens,
      (n) => `cacheTokens of at most ${n}`,
      (n) => ({ cacheTokens: n }),
    ),
    ...upTo(
      config.mamba?.chunkSize ?? 1,
      prefillTokens,
      (n) => `prefillTokens of at most ${n}`,
      (n) => ({ prefillTokens: n }),
    ),
  ]
  if (ways.length > 0 || formats.length < 2) return ways
  const all: PlanOptions = Object.assign({}, ...formats.map(([, change]) => change))
  const names = formats.map(([name]) => name).join(' and ')
  if (works(all)) return [names]
  return upTo(1, context, (n) => `${names} and a context of at most ${n} tokens`, shorter, all)
}

/** 2^30 bytes, as the memory of a GPU is sold and told. */
export const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(2)} GiB`
