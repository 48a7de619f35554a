/** Grouped-query attention over a paged cache. Nemotron-H has no position embedding; Llama and Qwen2 rotate. */
import { ops } from '../ops.js'
import { type Act, empty, type Kv, type Tensor } from '../tensor.js'
import type { AttentionConfig, Config, Formats } from './config.js'
import type { Batch, LayerState, Mixer, PoolSizes, Weights } from './layer.js'
import type { ActivationScaling, Input, Linear } from './linear.js'
import { commonScaling } from './norm.js'

interface KvState extends LayerState {
  k: Tensor<Kv> // [Pages,PageSize,G,P]
  v: Tensor<Kv> // [Pages,PageSize,G,P]
}

export class Attention implements Mixer {
  readonly scaling: ActivationScaling
  private readonly config: AttentionConfig
  private readonly act: Act
  private readonly kv: Kv
  private readonly q: Linear
  private readonly k: Linear
  private readonly v: Linear
  private readonly o: Linear
  private readonly invFreq: Tensor<'f32'> | undefined // [P/2]
  private readonly kScale: Tensor<'f32'> | undefined // [G]: of a cache of e4m3
  private readonly vScale: Tensor<'f32'> | undefined // [G]

  constructor({ attention }: Config, weights: Weights, { act, kv }: Formats) {
    this.config = attention
    this.act = act
    this.kv = kv
    this.q = weights.linear('q_proj', attention.qkvBias)
    this.k = weights.linear('k_proj', attention.qkvBias)
    this.v = weights.linear('v_proj', attention.qkvBias)
    this.o = weights.linear('o_proj')
    this.scaling = commonScaling(this.q, this.k, this.v)
    const frequencies = ropeFrequencies(attention)
    this.invFreq = frequencies && weights.constant(frequencies)
    if (kv === 'e4m3') {
      const scale = (name: string) =>
        weights.constant(new Float32Array(attention.kvHeads).fill(weights.number(name) ?? 1))
      this.kScale = scale('k_proj.k_scale')
      this.vScale = scale('v_proj.v_scale')
    }
  }

  makeState({ device, pages, pageSize }: PoolSizes): KvState {
    const shape = [pages, pageSize, this.config.kvHeads, this.config.headDim]
    return { k: empty(this.kv, shape, device), v: empty(this.kv, shape, device) }
  }

  addTo(residual: Tensor<Act>, x: Input, { offsets, past, pages, decode }: Batch, state: KvState): void {
    const { heads: H, kvHeads: G, headDim: P } = this.config
    const T = residual.shape[0]!
    const q = this.q.forward(x, decode, this.act).reshape([T, H, P])
    const k = this.k.forward(x, decode, this.act).reshape([T, G, P])
    const v = this.v.forward(x, decode, this.act).reshape([T, G, P])
    const { kScale, vScale } = this
    if (this.invFreq) ops.rope(q, this.invFreq, offsets, past)
    ops.kvAppend(k, v, this.invFreq, kScale, vScale, pages, offsets, past, state.k, state.v)
    const y = ops.attention(q, state.k, state.v, kScale, vScale, pages, offsets, past, 1 / Math.sqrt(P), decode)
    this.o.add(residual, y.reshape([T, H * P]), decode)
  }
}

/**
 * Radians a position, for each pair: theta^(-2i/P). Llama 3 scaling divides the slow ones by `factor`, leaves the fast
 * ones, and blends between (transformers, rope type `llama3`).
 */
function ropeFrequencies({ headDim: P, rope }: AttentionConfig): Float32Array | undefined {
  if (!rope) return undefined
  const { theta, scaling } = rope
  return Float32Array.from({ length: P / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / P)
    if (!scaling) return frequency
    const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling
    const turns = (originalMaxPositions * frequency) / (2 * Math.PI) // within the original context
    if (turns < lowFreqFactor) return frequency / factor
    if (turns > highFreqFactor) return frequency
    const blend = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)
    return ((1 - blend) * frequency) / factor + blend * frequency
  })
}
