/** The feed-forward mixers: Nemotron-H's squared ReLU (So et al. 2021) and the gated SiLU of Llama and Qwen2. */
import { ops } from '../ops.js'
import type { Act, Tensor } from '../tensor.js'
import type { Config, Formats } from './config.js'
import type { Batch, LayerState, Mixer, Weights } from './layer.js'
import { type ActivationScaling, type Input, type Linear, quantized, scalesOf } from './linear.js'
import { commonScaling } from './norm.js'

export class Mlp implements Mixer {
  readonly scaling: ActivationScaling
  private readonly act: Act
  private readonly gate: Linear | undefined
  private readonly up: Linear
  private readonly down: Linear

  constructor({ mlp }: Config, weights: Weights, { act }: Formats) {
    this.act = act
    this.gate = mlp.activation === 'silu_gated' ? weights.linear('gate_proj') : undefined
    this.up = weights.linear('up_proj')
    this.down = weights.linear('down_proj')
    this.scaling = this.gate ? commonScaling(this.gate, this.up) : this.up.scaling
  }

  makeState(): LayerState {
    return {}
  }

  addTo(residual: Tensor<Act>, x: Input, { decode }: Batch): void {
    const hidden = this.gate ? this.gated(this.gate, x, decode) : this.up.forwardRelu2(x, decode, this.act, this.down)
    this.down.add(residual, hidden, decode)
  }

  private gated(by: Linear, x: Input, decode: boolean): Input {
    const [gate, up] = [by.forward(x, decode, this.act), this.up.forward(x, decode, this.act)]
    const { scaling } = this.down
    if (scaling === 'none') return ops.siluMul(gate, up)
    return quantized(ops.siluMulQuantize(gate, up, scalesOf(scaling, gate.shape[0]!), 'e4m3'))
  }
}
