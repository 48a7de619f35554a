/** A matrix of weights in the format it is stored in. Layers multiply by it and do not know which that is. */
import { ops } from '../ops.js'
import type { Act, Fp8, Real, Tensor } from '../tensor.js'

/**
 * How activations meet fp8 weights. row: quantised to E4M3 with a scale for each token, so that a token's result does
 * not depend on the others in its batch. tensor: with one scale for all, the published recipe (Nemotron-H paper,
 * section 2.3). none: as they are; only the weights are fp8.
 */
export type ActivationScaling = 'row' | 'tensor' | 'none'

export interface LinearParts {
  weight: Tensor<Real> // [N,K]
  /** What stored fp8 weights are multiplied by. */
  scale?: Tensor<'f32'> // [1]
  bias?: Tensor<'f32'> // [N]
  activations?: ActivationScaling
}

export class Linear {
  constructor(private readonly parts: LinearParts) {}

  /** x[M,K] -> x weight^T + bias [M,N], as `to`, into `y` where it is given. */
  forward<To extends Act>(x: Tensor<Act>, to: To, y?: Tensor<NoInfer<To>>): Tensor<To> {
    const { weight, scale, bias, activations = 'none' } = this.parts
    if (!scale || activations === 'none') return ops.linear(x, weight, scale, bias, to, y)
    const amax = activations === 'row' ? ops.rowAmax(x) : ops.amax(x)
    const [q, qScale] = ops.quantize(x, amax, 'e4m3')
    return ops.fp8Linear(q, qScale, weight as Tensor<Fp8>, scale, bias, to, y)
  }
}
