// What a machine reaches in a copy and in matrix products, measured: what limits are computed from (bench/limits.mjs).
import { device as deviceOf, empty, ops, tensor } from '../dist/index.js'
import { python } from './python.mjs'
import { timer } from './time.mjs'

/**
 * { copy, act, fp8 } as bench/limits.mjs has them, and who measured: on a GPU PyTorch (bench/ops_torch.py), on the CPU the
 * ops here in f32, to which its products widen fp8. Undefined where neither can: a GPU without PyTorch, the emulator.
 */
export async function ceilingsOf(device) {
  const { name } = deviceOf(device)
  if (name === 'cpu') return cpuCeilings()
  const torch = name.startsWith('cuda') ? await python('ops_torch.py', []) : null
  if (!torch) return undefined
  const { copy, bf16, fp8 } = torch.ceilings
  return { copy, act: bf16, fp8, by: `torch ${torch.version}`, driver: torch.driver }
}

async function cpuCeilings() {
  const measured = async (bytes, call) =>
    timer({ bytes, make: () => call }, { device: 'cpu', cacheBytes: 0, seconds: 0.3 })()
  const [size, rows, width] = [4096, 512, 2048]
  const ones = (...shape) => tensor(new Float32Array(shape[0] * shape[1]).fill(1), 'f32', shape)
  const [x, y] = [ones(size, size), empty('f32', [size, size])] // 64 MiB each
  const [a, weight, product] = [ones(rows, width), ones(width, width), empty('f32', [rows, width])]
  try {
    const bytes = 2 * 4 * size * size
    const copy = bytes / (await measured(bytes, () => ops.cast(x, 'f32', y)))
    const call = () => ops.linear(a, weight, undefined, undefined, false, 'f32', product)
    const act = (2 * rows * width * width) / (await measured(4 * width * width, call))
    return { copy, act, fp8: act, by: 'cast and linear in f32' }
  } finally {
    for (const t of [x, y, a, weight, product]) t.dispose()
  }
}
