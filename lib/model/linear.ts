/** A matrix of weights in the format it is stored in. Layers multiply by it and do not know which that is. */
import { ops } from '../ops.js'
import { type Act, type Fp8, type Real, Tensor } from '../tensor.js'

/**
 * How activations meet fp8 weights. row: quantised to E4M3 with a scale for each token, so that a token's result does
 * not depend on the others in its batch. tensor: with one scale for all, the published recipe (Nemotron-H paper,
 * section 2.3). none: as they are; only the weights are fp8.
 */
export type ActivationScaling = 'row' | 'tensor' | 'none'

/** Activations [M,K] in fp8, and what they are multiplied by: one number or one for each row. */
export interface Quantized {
  q: Tensor<'e4m3'>
  scale: Tensor<'f32'> // [R]
}

/** What a matrix is given to multiply. */
export type Input = Tensor<Act> | Quantized

/** How many scales M rows have. */
export const scalesOf = (scaling: ActivationScaling, M: number) => (scaling === 'row' ? M : 1)

export interface LinearParts {
  weight: Tensor<Real> // [N,K]
  /** What stored fp8 weights are multiplied by. */
  scale?: Tensor<'f32'> // [1]
  bias?: Tensor<'f32'> // [N]
  activations?: ActivationScaling
}

/**
 * x[M,K] -> x weight^T + bias [M,N]. With `decode`, as is best where M is few: a row has the same bits whatever M is, but
 * not with and without it.
 */
export class Linear {
  /** What it does with activations: who quantises them together with what comes before gives them as it wants them. */
  readonly scaling: ActivationScaling

  constructor(private readonly parts: LinearParts) {
    this.scaling = (parts.scale && parts.activations) ?? 'none'
  }

  /** As `to`, into `y` where it is given. */
  forward<To extends Act>(x: Input, decode: boolean, to: To, y?: Tensor<NoInfer<To>>): Tensor<To> {
    const { weight, scale, bias } = this.parts
    const input = this.#input(x)
    if (input instanceof Tensor) return ops.linear(input, weight, scale, bias, decode, to, y)
    return ops.fp8Linear(input.q, input.scale, weight as Tensor<Fp8>, scale!, bias, decode, true, to, y)
  }

  /** y = y + forward(x). */
  add(y: Tensor<Act>, x: Input, decode: boolean): void {
    const { weight, scale, bias } = this.parts
    const input = this.#input(x)
    if (input instanceof Tensor) ops.linearAdd(y, input, weight, scale, bias, decode)
    else ops.fp8LinearAdd(y, input.q, input.scale, weight as Tensor<Fp8>, scale!, bias, decode, true)
  }

  /** max(forward(x), 0)^2, as `next` wants it. */
  forwardRelu2(x: Input, decode: boolean, to: Act, next: Linear): Input {
    const { weight, scale, bias } = this.parts
    const input = this.#input(x)
    const last = [bias, decode] as const
    const scales = scalesOf(next.scaling, rowsOf(x))
    const [y, amax] =
      input instanceof Tensor
        ? ops.linearRelu2(input, weight, scale, ...last, scales, to)
        : ops.fp8LinearRelu2(input.q, input.scale, weight as Tensor<Fp8>, scale!, ...last, true, scales, to)
    return next.scaling === 'none' ? y : quantized(ops.quantize(y, amax, 'e4m3'))
  }

  #input(x: Input): Input {
    if (this.scaling === 'none' || !(x instanceof Tensor)) return x
    const amax = this.scaling === 'row' ? ops.rowAmax(x) : ops.amax(x)
    return quantized(ops.quantize(x, amax, 'e4m3'))
  }
}

export const quantized = ([q, scale]: [Tensor<'e4m3'>, Tensor<'f32'>]): Quantized => ({ q, scale })

export const rowsOf = (x: Input): number => (x instanceof Tensor ? x : x.q).shape[0]!
