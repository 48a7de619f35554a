/** What every layer of the model is given: the packed batch, its weights, its memory of each sequence. */
import type { Act, Real, Tensor } from '../tensor.js'
import type { ActivationScaling, Input, Linear } from './linear.js'

/**
 * Tokens of S sequences, one after the other: sequence s is tokens offsets[s] to offsets[s+1], and past[s] of its
 * tokens went before. What layers remember of it is in place slots[s] of their pools and in the pages pages[s].
 */
export interface Batch {
  ids: Tensor<'i32'> // [T]
  offsets: Tensor<'i32'> // [S+1]
  past: Tensor<'i32'> // [S]
  slots: Tensor<'i32'> // [S]
  pages: Tensor<'i32'> // [S,MaxPages]
  /** Every sequence has exactly one token: Mamba-2 layers then step, and weights are streamed. */
  decode: boolean
}

/** How much the pools hold, and where. */
export interface PoolSizes {
  device: string
  slots: number
  pages: number
  pageSize: number
}

/** What one layer remembers, for all sequences; an MLP remembers nothing. */
export type LayerState = Record<string, Tensor>

export interface Mixer {
  /** How it wants its input. */
  readonly scaling: ActivationScaling
  /** Adds what it makes of x[T,D] to residual[T,D]. Moves `state` past these tokens. */
  addTo(residual: Tensor<Act>, x: Input, batch: Batch, state: LayerState): void
  /** Empty pools for this layer. */
  makeState(sizes: PoolSizes): LayerState
}

/** Where a layer's parameters come from, by their names in a Nemotron-H checkpoint. They own what they give. */
export interface Weights {
  /** The matrix [out,in] `name`.weight in the format it is kept in, with `name`.bias where `bias`. */
  linear(name: string, bias?: boolean): Linear
  /** The rows [V,D] of an embedding. */
  embedding(name: string): Tensor<Real>
  /** A vector in f32: what `f` makes of the stored values, in one dimension or in `shape`. */
  vector(name: string, f?: (values: Float32Array) => Float32Array, shape?: readonly number[]): Tensor<'f32'>
  /** A number that a checkpoint may have. */
  number(name: string): number | undefined
  /** Numbers that the model computes once. */
  constant(values: Float32Array): Tensor<'f32'>
  dispose(): void
}

/** The weights of one layer: names continue after `prefix`. */
export function weightsOf(weights: Weights, prefix: string): Weights {
  return {
    linear: (name, bias) => weights.linear(prefix + name, bias),
    embedding: (name) => weights.embedding(prefix + name),
    vector: (name, f, shape) => weights.vector(prefix + name, f, shape),
    number: (name) => weights.number(prefix + name),
    constant: (values) => weights.constant(values),
    dispose() {},
  }
}
