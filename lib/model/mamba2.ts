/** The Mamba-2 mixer (Dao and Gu 2024), as Nemotron-H has it: gated RMSNorm by group, no projection bias. */
import { ops } from '../ops.js'
import { type Act, empty, split, type Tensor } from '../tensor.js'
import { type Config, type MambaConfig, mambaWidths } from './config.js'
import type { Batch, LayerState, Mixer, PoolSizes, Weights } from './layer.js'
import type { ActivationScaling, Input, Linear } from './linear.js'
import { GatedRmsNorm } from './norm.js'

interface Mamba2State extends LayerState {
  conv: Tensor<Act> // [Slots,W-1,C], the last inputs of the convolution
  ssm: Tensor<'f32'> // [Slots,H,P,N]
}

export class Mamba2 implements Mixer {
  readonly scaling: ActivationScaling
  private readonly config: MambaConfig
  private readonly inProj: Linear // D -> [z | x B C | dt]
  private readonly convWeight: Tensor<'f32'> // [W,C]
  private readonly convBias: Tensor<'f32'> | undefined // [C]
  private readonly A: Tensor<'f32'> // [H], -exp(A_log)
  private readonly D: Tensor<'f32'> // [H]
  private readonly dtBias: Tensor<'f32'> // [H]
  private readonly norm: GatedRmsNorm // [H*P]
  private readonly outProj: Linear

  constructor(
    { mamba, normEps }: Config,
    weights: Weights,
    private readonly act: Act,
  ) {
    this.config = mamba!
    const { convKernel: W, convBias } = mamba!
    const { channels: C } = mambaWidths(mamba!)
    this.inProj = weights.linear('in_proj')
    this.convWeight = weights.vector('conv1d.weight', (w) => transpose(w, C, W), [W, C])
    this.convBias = convBias ? weights.vector('conv1d.bias') : undefined
    this.A = weights.vector('A_log', (a) => a.map((value) => -Math.exp(value)))
    this.D = weights.vector('D')
    this.dtBias = weights.vector('dt_bias')
    this.outProj = weights.linear('out_proj')
    this.norm = new GatedRmsNorm(weights.vector('norm.weight'), mamba!.groups, normEps, this.outProj.scaling)
    this.scaling = this.inProj.scaling
  }

  makeState({ device, slots }: PoolSizes): Mamba2State {
    const { heads, headDim, stateSize, convKernel } = this.config
    const { channels } = mambaWidths(this.config)
    return {
      conv: empty(this.act, [slots, convKernel - 1, channels], device),
      ssm: empty('f32', [slots, heads, headDim, stateSize], device),
    }
  }

  addTo(residual: Tensor<Act>, x: Input, batch: Batch, state: Mamba2State): void {
    const { heads: H, headDim: P, groups: G, stateSize: N, chunkSize, timeStepLimit } = this.config
    const { inner, channels } = mambaWidths(this.config)
    const { offsets, past, slots, decode } = batch
    const T = residual.shape[0]!

    const [z, xBC, dt] = split(this.inProj.forward(x, decode, this.act), [inner, channels, H])
    const conv = decode
      ? ops.causalConv1dStep(xBC, this.convWeight, this.convBias, past, slots, state.conv)
      : ops.causalConv1d(xBC, this.convWeight, this.convBias, offsets, past, slots, state.conv)
    const [u, B, C] = split(conv, [inner, G * N, G * N])

    const sequence = [u.reshape([T, H, P]), dt, this.A, B.reshape([T, G, N]), C.reshape([T, G, N])] as const
    const step = [this.D, this.dtBias, ...timeStepLimit] as const
    const y = decode
      ? ops.ssmStep(...sequence, ...step, undefined, past, slots, state.ssm, 0)
      : ops.ssmScan(...sequence, ...step, undefined, chunkSize, 0, offsets, past, slots, state.ssm, undefined)

    this.outProj.add(residual, this.norm.forward(y.reshape([T, inner]), z), decode)
  }
}

/** [rows,columns] -> [columns,rows]. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!)
}
