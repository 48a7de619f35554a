/** The feed-forward mixers: Nemotron-H's squared ReLU (So et al. 2021) and the gated SiLU of Llama and Qwen2. */
import { ops } from '../ops.js'
import type { Act, Tensor } from '../tensor.js'
import type { Config } from './config.js'
import type { LayerState, Mixer, Weights } from './layer.js'
import type { Linear } from './linear.js'

export class Mlp implements Mixer {
  private readonly gate: Linear | undefined
  private readonly up: Linear
  private readonly down: Linear

  constructor(
    { mlp }: Config,
    weights: Weights,
    private readonly act: Act,
  ) {
    this.gate = mlp.activation === 'silu_gated' ? weights.linear('gate_proj') : undefined
    this.up = weights.linear('up_proj')
    this.down = weights.linear('down_proj')
  }

  makeState(): LayerState {
    return {}
  }

  forward(x: Tensor<Act>): Tensor<Act> {
    const up = this.up.forward(x, this.act)
    const hidden = this.gate ? ops.siluMul(this.gate.forward(x, this.act), up) : ops.relu2(up)
    return this.down.forward(hidden, this.act)
  }
}
