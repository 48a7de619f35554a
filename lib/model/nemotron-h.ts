/**
 * The model: an embedding, layers `x = x + mixer(norm(x))`, a final norm, a head (Nemotron-H, arXiv 2504.03624).
 *
 * Llama and Qwen2 are the same page: a decoder block is an attention layer and an MLP layer. Each norm is computed
 * together with the residual add before it, so the first stands alone and a layer ends with the norm of the next.
 */
import { ops } from '../ops.js'
import { scope } from '../scope.js'
import type { Act, Real, Tensor } from '../tensor.js'
import { Attention } from './attention.js'
import type { Config, LayerKind } from './config.js'
import { type Batch, type LayerState, type Mixer, type PoolSizes, type Weights, weightsOf } from './layer.js'
import { Linear } from './linear.js'
import { Mamba2 } from './mamba2.js'
import { Mlp } from './mlp.js'

const mixers: Record<LayerKind, new (config: Config, weights: Weights, act: Act) => Mixer> = {
  mamba2: Mamba2,
  attention: Attention,
  mlp: Mlp,
}

interface Layer {
  norm: Tensor<'f32'> // [D]
  mixer: Mixer
}

export class NemotronH {
  /** Where its weights are. */
  readonly device: string
  private readonly embeddings: Tensor<Real> // [V,D]
  private readonly layers: Layer[]
  private readonly finalNorm: Tensor<'f32'> // [D]
  private readonly head: Linear // D -> V

  constructor(
    readonly config: Config,
    weights: Weights,
    readonly act: Act,
  ) {
    this.embeddings = weights.embedding('embeddings.weight')
    this.device = this.embeddings.device
    this.layers = config.layers.map((kind, i) => {
      const layer = weightsOf(weights, `layers.${i}.`)
      return { norm: layer.vector('norm.weight'), mixer: new mixers[kind](config, weightsOf(layer, 'mixer.'), act) }
    })
    this.finalNorm = weights.vector('norm_f.weight')
    this.head = config.tieWordEmbeddings ? new Linear({ weight: this.embeddings }) : weights.linear('lm_head')
  }

  /** Empty pools for the sequences' state, layer by layer. */
  makeState(sizes: PoolSizes): LayerState[] {
    return this.layers.map(({ mixer }) => mixer.makeState(sizes))
  }

  /** The batch's T tokens -> hidden states [T,D] after the final norm. Moves `state` past them. Call it in a scope. */
  forward(batch: Batch, state: LayerState[]): Tensor<Act> {
    const { normEps } = this.config
    const residual = ops.embedding(batch.ids, this.embeddings, this.act)
    let x = ops.rmsNorm(residual, this.layers[0]!.norm, normEps)
    this.layers.forEach(({ mixer }, i) => {
      const nextNorm = this.layers[i + 1]?.norm ?? this.finalNorm
      const input = x
      x = scope(() => ops.addRmsNorm(residual, mixer.forward(input, batch, state[i]!), nextNorm, normEps))
      input.dispose()
    })
    residual.dispose()
    return x
  }

  /** hidden[T,D] -> logits[T,V], into `y` where it is given. */
  logits(hidden: Tensor<Act>, y?: Tensor<'f32'>): Tensor<'f32'> {
    return this.head.forward(hidden, 'f32', y)
  }
}
