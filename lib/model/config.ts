// What a model is, in numbers: a list of layers, each `x = x + mixer(norm(x))`, between an embedding and a head.
// A Transformer decoder block is two such layers, attention and MLP, so Nemotron-H, Llama and Qwen2 are one shape.
// Letters: V vocabulary, D model width, H heads, P head width, G groups, N state size, W convolution width.

export type LayerKind = 'mamba2' | 'attention' | 'mlp'
export type Family = 'nemotron_h' | 'llama' | 'qwen2'

export interface MambaConfig {
  readonly heads: number // H
  readonly headDim: number // P
  readonly groups: number // G
  readonly stateSize: number // N
  readonly convKernel: number // W
  readonly convBias: boolean
  /** Tokens per chunk of the published scan; changes the order of summation only. */
  readonly chunkSize: number
  /** The step size softplus(dt + bias) is clamped to [min, max]; max may be Infinity. */
  readonly timeStepLimit: readonly [min: number, max: number]
}

/** Llama 3 frequency scaling, as in `rope_type: 'llama3'`. */
export interface RopeScaling {
  readonly factor: number
  readonly lowFreqFactor: number
  readonly highFreqFactor: number
  readonly originalMaxPositions: number
}

export interface AttentionConfig {
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly qkvBias: boolean
  /** Absent: no position embedding, as in Nemotron-H. */
  readonly rope?: { readonly theta: number; readonly scaling?: RopeScaling }
}

export interface MlpConfig {
  readonly intermediateSize: number
  /** relu2: down(relu(up(x))^2). silu_gated: down(silu(gate(x)) * up(x)). */
  readonly activation: 'relu2' | 'silu_gated'
}

export interface Config {
  readonly family: Family
  readonly vocabSize: number // V
  readonly hiddenSize: number // D
  readonly layers: readonly LayerKind[]
  /** Present where `layers` has a 'mamba2'. */
  readonly mamba?: MambaConfig
  readonly attention: AttentionConfig
  readonly mlp: MlpConfig
  readonly normEps: number
  readonly tieWordEmbeddings: boolean
  readonly maxPositions: number
  readonly bosId?: number
  readonly eosIds: readonly number[]
  readonly padId?: number
  /** What the checkpoint says its weights are; each tensor's own dtype decides. */
  readonly dtype: 'f32' | 'f16' | 'bf16'
}

/** The letters of Nemotron-H's `hybrid_override_pattern`. */
export const layerLetters: Readonly<Record<string, LayerKind>> = { M: 'mamba2', '*': 'attention', '-': 'mlp' }

export type Shapes = Readonly<Record<string, readonly number[]>>

/** The weights outside the layers. A tied head is the embedding itself and has none. */
export function outerShapes({ vocabSize: V, hiddenSize: D, tieWordEmbeddings }: Config): Shapes {
  return {
    'embeddings.weight': [V, D],
    'norm_f.weight': [D],
    ...(tieWordEmbeddings ? {} : { 'lm_head.weight': [V, D] }),
  }
}

/** The weights of one layer, under the names they have in a Nemotron-H checkpoint; a matrix is [out,in]. */
export function layerShapes(config: Config, kind: LayerKind): Shapes {
  return { 'norm.weight': [config.hiddenSize], ...mixerShapes[kind](config) }
}

const mixerShapes: Record<LayerKind, (config: Config) => Shapes> = {
  mamba2(config) {
    const { heads: H, groups: G, stateSize: N, convKernel: W, convBias } = config.mamba!
    const D = config.hiddenSize
    const { inner, channels } = mambaWidths(config.mamba!)
    return {
      'mixer.in_proj.weight': [2 * inner + 2 * G * N + H, D], // rows [z | x | B | C | dt]
      'mixer.conv1d.weight': [channels, 1, W],
      ...(convBias ? { 'mixer.conv1d.bias': [channels] } : {}),
      'mixer.dt_bias': [H],
      'mixer.A_log': [H],
      'mixer.D': [H],
      'mixer.norm.weight': [inner],
      'mixer.out_proj.weight': [D, inner],
    }
  },
  attention({ hiddenSize: D, attention: { heads, kvHeads, headDim, qkvBias } }) {
    const q = heads * headDim
    const kv = kvHeads * headDim
    return {
      'mixer.q_proj.weight': [q, D],
      'mixer.k_proj.weight': [kv, D],
      'mixer.v_proj.weight': [kv, D],
      ...(qkvBias ? { 'mixer.q_proj.bias': [q], 'mixer.k_proj.bias': [kv], 'mixer.v_proj.bias': [kv] } : {}),
      'mixer.o_proj.weight': [D, q],
    }
  },
  mlp({ hiddenSize: D, mlp: { intermediateSize, activation } }) {
    return {
      ...(activation === 'silu_gated' ? { 'mixer.gate_proj.weight': [intermediateSize, D] } : {}),
      'mixer.up_proj.weight': [intermediateSize, D],
      'mixer.down_proj.weight': [D, intermediateSize],
    }
  },
}

/**
 * Of the matrices' names, in the order of the model, those of the first and last `count` products. Query, key and value
 * are one product in the published model.
 */
export function outerProducts(matrices: readonly string[], count: number): Set<string> {
  const product = (name: string) => name.replace(/[qkv]_proj/, 'qkv_proj')
  const products = [...new Set(matrices.map(product))]
  const outer = new Set([...products.slice(0, count), ...products.slice(Math.max(0, products.length - count))])
  return new Set(matrices.filter((name) => outer.has(product(name))))
}

/** inner = H*P, the width of x, z and y; channels = H*P + 2*G*N, the width of [x | B | C] under the convolution. */
export function mambaWidths({ heads, headDim, groups, stateSize }: MambaConfig): { inner: number; channels: number } {
  const inner = heads * headDim
  return { inner, channels: inner + 2 * groups * stateSize }
}

export interface ParameterCounts {
  embedding: number
  mamba: number
  attention: number
  mlp: number
  /** The norm before each layer and the final one; Mamba's gated norm counts as Mamba. */
  norms: number
  /** 0 when tied to the embedding. */
  head: number
  total: number
}

export function parameterCounts(config: Config): ParameterCounts {
  const outer = outerShapes(config)
  const mixers = (kind: LayerKind) => {
    const count = config.layers.filter((layer) => layer === kind).length
    return count === 0 ? 0 : count * Object.values(mixerShapes[kind](config)).map(elements).reduce(sum)
  }
  const counts = {
    embedding: elements(outer['embeddings.weight']!),
    mamba: mixers('mamba2'),
    attention: mixers('attention'),
    mlp: mixers('mlp'),
    norms: (config.layers.length + 1) * config.hiddenSize,
    head: config.tieWordEmbeddings ? 0 : elements(outer['lm_head.weight']!),
  }
  return { ...counts, total: Object.values(counts).reduce(sum) }
}

/** What is kept in which element type. */
export interface Formats {
  /** Activations, and windows of convolutions. */
  act: 'f32' | 'bf16'
  /** Keys and values: as activations, or e4m3. */
  kv: 'f32' | 'bf16' | 'e4m3'
  /** States of Mamba-2. */
  ssm: 'f32' | 'f16'
}

/** By the options of load(). */
export const formatsOf = (act: Formats['act'], kvCache?: 'fp8', ssm: Formats['ssm'] = 'f32'): Formats => ({
  act,
  kv: kvCache ? 'e4m3' : act,
  ssm,
})

/** Tokens in a page of keys and values. */
export const pageSize = 64

/** Pages that this many tokens of one sequence take. */
export const pagesFor = (tokens: number) => Math.ceil(tokens / pageSize)

/**
 * Recorded decode steps that are kept (lib/decode.ts), of other batch sizes, or with other log-probabilities or penalties.
 * Each holds the activations of its batch.
 */
export const maxGraphs = 16

export interface StateBytes {
  /** Keys and values of all attention layers, for one token. */
  kvPerToken: number
  /** Convolution windows [channels,W-1] of all Mamba-2 layers, for one sequence. */
  convPerSequence: number
  /** SSM states [H,P,N] of all Mamba-2 layers, for one sequence. */
  ssmPerSequence: number
}

/** What sequences cost in memory beside the weights. */
export function stateBytes(config: Config, { act, kv, ssm }: Formats): StateBytes {
  const sizes = { f32: 4, bf16: 2, f16: 2, e4m3: 1 }
  const bytes = { kvPerToken: 0, convPerSequence: 0, ssmPerSequence: 0 }
  for (const kind of config.layers) {
    if (kind === 'attention') {
      bytes.kvPerToken += 2 * config.attention.kvHeads * config.attention.headDim * sizes[kv]
    } else if (kind === 'mamba2') {
      const { heads, headDim, stateSize, convKernel } = config.mamba!
      bytes.convPerSequence += mambaWidths(config.mamba!).channels * (convKernel - 1) * sizes[act]
      bytes.ssmPerSequence += heads * headDim * stateSize * sizes[ssm]
    }
  }
  return bytes
}

const sum = (a: number, b: number) => a + b
const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)
