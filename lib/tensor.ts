/** Tensors from data, and views of them. The class itself is native; binding.d.ts documents it. */
import { inspect } from 'node:util'
import type { DType, Tensor as TensorOf } from '../binding.js'
import { binding } from './binding.js'

export type { Act, DType, Fp8, Kv, Real, Values } from '../binding.js'

export const Tensor = binding.Tensor
export type Tensor<D extends DType = DType> = TensorOf<D>

Object.defineProperty(Tensor.prototype, inspect.custom, {
  value(this: Tensor) {
    return this.disposed ? 'Tensor (disposed)' : `Tensor ${this.dtype} [${this.shape}] on ${this.device}`
  },
})
Object.defineProperty(Tensor.prototype, Symbol.dispose, { value: Tensor.prototype.dispose })

/**
 * A tensor of `shape` with a copy of `data`: a Float32Array for the float types (rounded to nearest even; fp8
 * saturates), an Int32Array for i32, or for any type the elements' own bits as a Uint8Array or Buffer. On `device`, or
 * the CPU where it is left out.
 * @throws TypeError for data that does not fit the dtype, RangeError where its length does not fit the shape
 */
export const tensor = binding.tensor

/**
 * An uninitialised tensor on `device`, or the CPU where it is left out.
 * @throws RangeError for a shape that is none, Error when memory is short (asked and free bytes named)
 */
export const empty = binding.empty

/** Views of consecutive columns of x[T,D], `widths` wide; together they are all of D. */
export function split<D extends DType, W extends readonly number[]>(
  x: Tensor<D>,
  widths: readonly [...W],
): { [K in keyof W]: Tensor<D> } {
  const total = widths.reduce((sum, width) => sum + width, 0)
  if (total !== x.shape[1]) throw new RangeError(`split: widths add up to ${total}, expected ${x.shape[1]}`)
  let start = 0
  return widths.map((width) => {
    start += width
    return x.columns(start - width, start)
  }) as { [K in keyof W]: Tensor<D> }
}
