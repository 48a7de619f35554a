/** RMSNorm, in the form in which what comes next wants its input. */
import { ops } from '../ops.js'
import type { Act, Tensor } from '../tensor.js'
import { type ActivationScaling, type Input, type Linear, quantized, scalesOf } from './linear.js'

/** What all of these want; as they are where they disagree, and each quantises for itself. */
export function commonScaling(...next: Linear[]): ActivationScaling {
  const [first, ...others] = next.map(({ scaling }) => scaling)
  return others.every((scaling) => scaling === first) ? first! : 'none'
}

export class RmsNorm {
  constructor(
    private readonly weight: Tensor<'f32'>, // [D]
    private readonly eps: number,
    private readonly scaling: ActivationScaling,
  ) {}

  /** x[T,D] -> x * rsqrt(mean(x^2) + eps) * weight [T,D]. */
  forward(x: Tensor<Act>): Input {
    if (this.scaling === 'none') return ops.rmsNorm(x, this.weight, this.eps)
    return quantized(ops.rmsNormQuantize(x, this.weight, this.eps, scalesOf(this.scaling, x.shape[0]!), 'e4m3'))
  }
}

/** Of x * silu(z), over each of `groups` equal parts of a row. */
export class GatedRmsNorm {
  constructor(
    readonly weight: Tensor<'f32'>, // [D]
    readonly groups: number,
    readonly eps: number,
    /** How what comes next wants it. */
    readonly scaling: ActivationScaling,
  ) {}

  /** x[T,D], z[T,D] -> [T,D]. */
  forward(x: Tensor<Act>, z: Tensor<Act>): Input {
    const { weight, groups, eps, scaling } = this
    if (scaling === 'none') return ops.gatedRmsNorm(x, z, weight, groups, eps)
    return quantized(ops.gatedRmsNormQuantize(x, z, weight, groups, eps, scalesOf(scaling, x.shape[0]!), 'e4m3'))
  }
}
