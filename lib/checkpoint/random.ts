/**
 * Weights of a model that nobody has trained, drawn on its device as training begins with them, in the formats of
 * loadWeights(): so that speed can be measured without a checkpoint.
 *
 * Each tensor has a stream of its own, of the seed and the tensor's number: but for rounding, it is the same in every
 * format and on every device.
 */
import type { Config } from '../model/config.js'
import { ops } from '../ops.js'
import { scope } from '../scope.js'
import { empty } from '../tensor.js'
import { tensorSpecs } from './names.js'
import {
  formatOfMatrices,
  LoadedWeights,
  type Matrix,
  settled,
  type WeightFormat,
  type WeightOptions,
} from './weights.js'

export interface RandomOptions extends WeightOptions {
  /** 0 to 2^32 - 1. */
  seed: number
  /** Standard deviation of matrices, but for what is added to the residual. */
  std: number
}

const bytesOf = { f32: 4, bf16: 2, f16: 2, fp8: 1 }

/**
 * Memory peaks at the weights plus one matrix in bf16. `onProgress` counts the bytes of weights as they are kept.
 * @throws Error where memory is short; the signal's reason
 */
export async function randomWeights(config: Config, options: RandomOptions): Promise<LoadedWeights> {
  const { device, seed, std, onProgress, signal } = options
  const specs = tensorSpecs(config)
  const formatOf = formatOfMatrices(specs, options)
  const tensors = specs.map(({ name, shape, role }, i) => {
    const elements = shape.reduce((a, b) => a * b, 1)
    const format = role === 'vector' ? 'f32' : (formatOf(name) ?? config.dtype)
    return { name, shape, role, elements, format, bytes: elements * bytesOf[format], stream: i * 2 ** 32 + seed }
  })
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0)
  const weights = new LoadedWeights(device, options.activations)
  try {
    let loaded = 0
    for (const { name, shape, role, elements, format, bytes, stream } of tensors) {
      signal?.throwIfAborted()
      if (role === 'vector') {
        weights.vectors.set(name, (await uniform(elements, stream)).map(elementOf(name, config)))
      } else {
        // The sum of n layers' outputs has the deviation of one (Megatron-LM's scaled initialisation).
        const adds = /\.(out|o|down)_proj\.weight$/.test(name)
        const deviation = adds ? std / Math.sqrt(config.layers.length) : std
        const matrix = drawMatrix(shape, format, deviation, stream, device)
        weights.matrices.set(name, matrix)
        await settled(matrix.weight)
      }
      loaded += bytes
      onProgress?.({ loaded, total })
    }
    return weights
  } catch (error) {
    weights.dispose()
    throw error
  }
}

function drawMatrix(
  shape: readonly number[],
  format: WeightFormat | 'f16',
  std: number,
  stream: number,
  device: string,
): Matrix {
  return scope((): Matrix => {
    if (format !== 'fp8') {
      const weight = empty(format, shape, device)
      ops.fillNormal(weight, std, stream)
      return { weight }
    }
    const wide = empty('bf16', shape, device)
    ops.fillNormal(wide, std, stream)
    const [weight, scale] = ops.quantize(wide, ops.amax(wide), 'e4m3')
    return { weight, scale }
  })
}

/** Numbers uniform in (0, 1]: of two normal deviates, exp(-r^2/2), which Box and Muller make them of. */
async function uniform(count: number, stream: number): Promise<Float32Array> {
  using deviates = empty('f32', [count, 2])
  ops.fillNormal(deviates, 1, stream)
  const values = await deviates.read()
  return Float32Array.from({ length: count }, (_, i) => Math.exp(-(values[2 * i]! ** 2 + values[2 * i + 1]! ** 2) / 2))
}

/** An element of the vector `name` from a number uniform in (0, 1]. */
function elementOf(name: string, { mamba }: Config): (share: number) => number {
  if (/norm(_f)?\.weight$|\.D$/.test(name)) return () => 1
  // As the Mamba-2 reference has it: A uniform in [-16, -1], and steps log-uniform in [0.001, 0.1], as softplus gives them.
  if (name.endsWith('.A_log')) return (share) => Math.log(1 + 15 * share)
  if (name.endsWith('.dt_bias')) return (share) => Math.log(Math.expm1(0.001 * 100 ** share))
  // As PyTorch's Conv1d has it: uniform within +-1 / sqrt(inputs of an output).
  if (name.includes('.conv1d.')) return (share) => (2 * share - 1) / Math.sqrt(mamba!.convKernel)
  return () => 0 // biases of query, key and value
}
