/**
 * The model: an embedding, layers `x = x + mixer(norm(x))`, a final norm, a head (Nemotron-H, arXiv 2504.03624).
 *
 * Llama and Qwen2 are the same page: a decoder block is an attention layer and an MLP layer. A mixer's last product adds
 * to x itself, and a norm gives its mixer fp8 where that multiplies it.
 */
import { ops } from '../ops.js'
import { scope } from '../scope.js'
import type { Act, Kv, Real, Tensor } from '../tensor.js'
import { Attention } from './attention.js'
import type { Config, LayerKind } from './config.js'
import { type Batch, type LayerState, type Mixer, type PoolSizes, type Weights, weightsOf } from './layer.js'
import { Linear } from './linear.js'
import { Mamba2 } from './mamba2.js'
import { Mlp } from './mlp.js'
import { RmsNorm } from './norm.js'

const mixers: Record<LayerKind, new (config: Config, weights: Weights, act: Act, kv: Kv) => Mixer> = {
  mamba2: Mamba2,
  attention: Attention,
  mlp: Mlp,
}

interface Layer {
  norm: RmsNorm
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
    /** What keys and values are kept in: as activations, or e4m3. */
    kv: Kv = act,
  ) {
    this.embeddings = weights.embedding('embeddings.weight')
    this.device = this.embeddings.device
    this.layers = config.layers.map((kind, i) => {
      const layer = weightsOf(weights, `layers.${i}.`)
      const mixer = new mixers[kind](config, weightsOf(layer, 'mixer.'), act, kv)
      return { norm: new RmsNorm(layer.vector('norm.weight'), config.normEps, mixer.scaling), mixer }
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
    const x = ops.embedding(batch.ids, this.embeddings, this.act)
    this.layers.forEach(({ norm, mixer }, i) => {
      scope(() => mixer.addTo(x, norm.forward(x), batch, state[i]!))
    })
    return ops.rmsNorm(x, this.finalNorm, this.config.normEps)
  }

  /** hidden[T,D] -> logits[T,V], into `y` where it is given; `decode` as Linear has it. */
  logits(hidden: Tensor<Act>, decode: boolean, y?: Tensor<'f32'>): Tensor<'f32'> {
    return this.head.forward(hidden, decode, 'f32', y)
  }
}
