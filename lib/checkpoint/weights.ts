/**
 * The weights of a checkpoint on a device, in the format asked for: each tensor is mapped from its file, copied or
 * quantised by the device's queue, and let go before the next, so that memory peaks at the weights plus one tensor.
 */
import type { MappedFile } from '../../binding.js'
import { binding } from '../binding.js'
import { outerProducts } from '../model/config.js'
import type { Weights } from '../model/layer.js'
import { type ActivationScaling, Linear } from '../model/linear.js'
import { ops } from '../ops.js'
import { type Real, type Tensor, tensor } from '../tensor.js'
import type { Checkpoint } from './folder.js'
import type { MatchedTensor, Role, StoredTensor } from './names.js'
import type { StoredDtype } from './safetensors.js'

export type WeightFormat = 'f32' | 'bf16' | 'fp8'

export interface LoadProgress {
  /** Bytes of the checkpoint read so far, and in all; of random weights, bytes made. */
  loaded: number
  total: number
}

export interface WeightOptions {
  device: string
  /** What matrices are kept in; as they are stored where absent. Vectors are always f32. */
  format?: WeightFormat | undefined
  /** With fp8: how many matrix products at each end of the model stay bf16. The paper keeps 4. */
  bf16Gemms: number
  activations: ActivationScaling
  onProgress?: ((progress: LoadProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

export interface Matrix {
  weight: Tensor<Real>
  scale?: Tensor<'f32'>
}

const dtypes = { F32: 'f32', F16: 'f16', BF16: 'bf16', F8_E4M3: 'e4m3' } as const satisfies Partial<
  Record<StoredDtype, Real>
>
const dtypeOf = ({ dtype }: StoredTensor): Real => dtypes[dtype as keyof typeof dtypes]

export async function loadWeights(checkpoint: Checkpoint, options: WeightOptions): Promise<LoadedWeights> {
  const { device, onProgress, signal } = options
  const roles = Array.from(checkpoint.tensors, ([name, { role }]) => ({ name, role }))
  const formatOf = formatOfMatrices(roles, options)
  const entries = [...checkpoint.tensors].sort(([, a], [, b]) => a.file.localeCompare(b.file) || a.start - b.start)
  const total = entries.reduce((sum, [, entry]) => sum + entry.end - entry.start, 0)
  const files = new Files(device)
  const weights = new LoadedWeights(device, options.activations)
  try {
    let loaded = 0
    for (const [name, entry] of entries) {
      signal?.throwIfAborted()
      if (entry.role === 'vector') {
        const values = await files.values(entry)
        if (name.endsWith('_scale')) checkScale(entry, name, values[0]!)
        weights.vectors.set(name, values)
      } else {
        weights.matrices.set(name, await loadMatrix(files, name, entry, formatOf(name)))
      }
      loaded += entry.end - entry.start
      onProgress?.({ loaded, total })
    }
    return weights
  } catch (error) {
    weights.dispose()
    throw error
  } finally {
    files.close()
  }
}

async function loadMatrix(files: Files, name: string, entry: MatchedTensor, format?: WeightFormat): Promise<Matrix> {
  const stored = files.tensor(entry)
  const matrix: Matrix = { weight: stored }
  try {
    if (entry.dtype === 'F8_E4M3') {
      matrix.scale = await storedScale(files, name, entry)
      if (format === 'f32' || format === 'bf16') {
        matrix.weight = ops.dequantize(stored as Tensor<'e4m3'>, matrix.scale, format)
        matrix.scale.dispose()
        delete matrix.scale
      }
    } else if (format === 'fp8') {
      using wide = stored.dtype === 'f16' ? ops.cast(stored, 'f32') : undefined
      using amax = ops.amax(wide ?? (stored as Tensor<'f32' | 'bf16'>))
      ;[matrix.weight, matrix.scale] = ops.quantize(wide ?? (stored as Tensor<'f32' | 'bf16'>), amax, 'e4m3')
    } else if (format !== undefined && stored.dtype !== format) {
      matrix.weight = ops.cast(stored, format)
    }
    if (matrix.weight !== stored) stored.dispose()
    await settled(matrix.weight)
    return matrix
  } catch (error) {
    for (const t of [stored, matrix.weight, matrix.scale]) t?.dispose()
    throw error
  }
}

/** The multiplier of a stored fp8 matrix; 1 where the checkpoint has none. */
async function storedScale(files: Files, name: string, { scale }: MatchedTensor): Promise<Tensor<'f32'>> {
  const [value] = scale ? await files.values(scale) : [1]
  if (scale) checkScale(scale, `${name}_scale`, value!)
  return tensor(Float32Array.of(value!), 'f32', [1], files.device)
}

function checkScale({ file }: StoredTensor, name: string, value: number): void {
  if (value > 0 && Number.isFinite(value)) return
  throw new RangeError(`${file}: ${name} is ${value}, expected a positive number`)
}

/** Waits until a tensor is made, and no longer: a read of none of it. */
export async function settled(t: Tensor): Promise<void> {
  using nothing = t.rows(0, 0)
  await nothing.read()
}

/**
 * What each matrix is kept in; undefined: as stored. With fp8 embeddings stay bf16, and so do the first and last
 * `bf16Gemms` products.
 */
export function formatOfMatrices(
  tensors: readonly { name: string; role: Role }[],
  { format, bf16Gemms }: WeightOptions,
): (name: string) => WeightFormat | undefined {
  if (format !== 'fp8') return () => format
  const matrices = tensors.filter(({ role }) => role === 'matrix').map(({ name }) => name)
  const kept = outerProducts(matrices, bf16Gemms)
  const quantised = new Set(matrices.filter((name) => !kept.has(name)))
  return (name) => (quantised.has(name) ? 'fp8' : 'bf16')
}

/** The mapped files of a checkpoint. */
class Files {
  readonly #open = new Map<string, MappedFile>()

  constructor(readonly device: string) {}

  /** On the device. */
  tensor(entry: StoredTensor): Tensor<Real> {
    return this.#file(entry).tensor(entry.start, dtypeOf(entry), entry.shape, this.device)
  }

  /** In row-major order. */
  async values(entry: StoredTensor): Promise<Float32Array> {
    const count = entry.shape.reduce((n, size) => n * size, 1)
    using t = this.#file(entry).tensor(entry.start, dtypeOf(entry), [count])
    return await t.read()
  }

  #file({ file: path }: StoredTensor): MappedFile {
    const file = this.#open.get(path) ?? new binding.MappedFile(path)
    this.#open.set(path, file)
    return file
  }

  close(): void {
    for (const file of this.#open.values()) file.close()
  }
}

export class LoadedWeights implements Weights {
  readonly matrices = new Map<string, Matrix>()
  readonly vectors: Map<string, Float32Array> = new Map()
  readonly #constants: Tensor[] = []

  constructor(
    private readonly device: string,
    private readonly activations: ActivationScaling,
  ) {}

  linear(name: string, bias = false): Linear {
    return new Linear({
      ...this.matrices.get(`${name}.weight`)!,
      ...(bias ? { bias: this.vector(`${name}.bias`) } : {}),
      activations: this.activations,
    })
  }

  embedding(name: string): Tensor<Real> {
    return this.matrices.get(name)!.weight
  }

  vector(name: string, f?: (values: Float32Array) => Float32Array, shape?: readonly number[]): Tensor<'f32'> {
    const values = this.vectors.get(name)!
    return this.constant(f ? f(values) : values, shape)
  }

  number(name: string): number | undefined {
    return this.vectors.get(name)?.[0]
  }

  constant(values: Float32Array, shape: readonly number[] = [values.length]): Tensor<'f32'> {
    const t = tensor(values, 'f32', shape, this.device)
    this.#constants.push(t)
    return t
  }

  dispose(): void {
    for (const t of this.#constants) t.dispose()
    for (const { weight, scale } of this.matrices.values()) {
      weight.dispose()
      scale?.dispose()
    }
  }
}
