/** The Mamba-2 mixer (Dao and Gu 2024), as Nemotron-H has it: gated RMSNorm by group, no projection bias. */
import { ops } from '../ops.js'
import { type Act, empty, split, type Tensor } from '../tensor.js'
import { type Config, type Formats, type MambaConfig, mambaWidths } from './config.js'
import type { Batch, LayerState, Mixer, PoolSizes, Weights } from './layer.js'
import { type ActivationScaling, type Input, type Linear, quantized, scalesOf } from './linear.js'
import { GatedRmsNorm } from './norm.js'

interface Mamba2State extends LayerState {
  conv: Tensor<Act> // [Slots,W-1,C], the last inputs of the convolution
  ssm: Tensor<'f32' | 'f16'> // [Slots,H,P,N]
}

export class Mamba2 implements Mixer {
  readonly scaling: ActivationScaling
  private readonly config: MambaConfig
  private readonly formats: Formats
  private readonly layer: number
  private readonly inProj: Linear // D -> [z | x B C | dt]
  private readonly convWeight: Tensor<'f32'> // [W,C]
  private readonly convBias: Tensor<'f32'> | undefined // [C]
  private readonly A: Tensor<'f32'> // [H], -exp(A_log)
  private readonly D: Tensor<'f32'> // [H]
  private readonly dtBias: Tensor<'f32'> // [H]
  private readonly norm: GatedRmsNorm // [H*P]
  private readonly outProj: Linear

  constructor({ mamba, normEps }: Config, weights: Weights, formats: Formats, layer: number) {
    this.config = mamba!
    this.formats = formats
    this.layer = layer
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
      conv: empty(this.formats.act, [slots, convKernel - 1, channels], device),
      ssm: empty(this.formats.ssm, [slots, heads, headDim, stateSize], device),
    }
  }

  addTo(residual: Tensor<Act>, x: Input, batch: Batch, state: Mamba2State): void {
    const { inner, channels } = mambaWidths(this.config)
    const projected = this.inProj.forward(x, batch.decode, this.formats.act)
    const [z, xBC, dt] = split(projected, [inner, channels, this.config.heads])
    const y = batch.decode ? this.step(z, xBC, dt, batch, state) : this.scan(z, xBC, dt, batch, state)
    this.outProj.add(residual, y, batch.decode)
  }

  private scan(z: Tensor<Act>, xBC: Tensor<Act>, dt: Tensor<Act>, batch: Batch, state: Mamba2State): Input {
    const { heads: H, headDim: P, groups: G, stateSize: N, chunkSize, timeStepLimit } = this.config
    const { offsets, past, slots } = batch
    const [T, inner] = z.shape as [number, number]

    const conv = ops.causalConv1d(xBC, this.convWeight, this.convBias, offsets, past, slots, state.conv)
    const [u, B, C] = split(conv, [inner, G * N, G * N])
    const sequence = [u.reshape([T, H, P]), dt, this.A, B.reshape([T, G, N]), C.reshape([T, G, N])] as const
    const step = [this.D, this.dtBias, ...timeStepLimit] as const
    // The gate is the norm's, which reads z as well as the scan could; segments are for fewer heads than the family has.
    const y = ops.ssmScan(...sequence, ...step, undefined, chunkSize, 0, offsets, past, slots, state.ssm)
    return this.norm.forward(y.reshape([T, inner]), z)
  }

  private step(z: Tensor<Act>, xBC: Tensor<Act>, dt: Tensor<Act>, { past, slots }: Batch, state: Mamba2State): Input {
    const { weight, groups, eps, scaling } = this.norm
    const convolution = [this.convWeight, this.convBias] as const
    const recurrence = [this.A, this.D, this.dtBias, ...this.config.timeStepLimit] as const
    const places = [past, slots, state.conv, state.ssm, this.layer] as const // the layer is the seed of its roundings
    const all = [xBC, z, dt, ...convolution, ...recurrence, weight, groups, eps, ...places] as const
    if (scaling === 'none') return ops.mamba2Step(...all)
    return quantized(ops.mamba2StepQuantize(...all, scalesOf(scaling, z.shape[0]!), 'e4m3'))
  }
}

/** [rows,columns] -> [columns,rows]. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  return values.map((_, i) => values[(i % rows) * columns + Math.floor(i / rows)]!)
}
