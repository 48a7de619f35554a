// The ops of an 8B layer on this device: time, and bytes or operations a second. npm run bench:ops [-- --tokens 256]
import { parseArgs } from 'node:util'
import { Bench } from 'tinybench'
import { empty, ops, presets, tensor } from '../dist/index.js'

const { values } = parseArgs({
  options: { tokens: { type: 'string', default: '256' }, sequences: { type: 'string', default: '8' } },
})
const [T, S] = [Number(values.tokens), Number(values.sequences)]
const { hiddenSize: D, mlp, mamba, attention: heads } = presets['8b']
const { heads: H, headDim: P, groups: G, stateSize: N, convKernel: W, chunkSize } = mamba
const channels = H * P + 2 * G * N

/** Normal numbers, the same ones again and again: making them is not what is measured. */
const noise = Float32Array.from(
  { length: 4096 },
  () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(6.283185 * Math.random()),
)
function normal(dtype, shape) {
  const n = shape.reduce((a, b) => a * b, 1)
  const data = new Float32Array(n)
  for (let i = 0; i < n; i += noise.length) data.set(noise.subarray(0, Math.min(noise.length, n - i)), i)
  return tensor(data, dtype, shape)
}
const integers = (values) => tensor(Int32Array.from(values), 'i32', [values.length])
const counting = (n) => Array.from({ length: n }, (_, i) => i)

const vectors = {
  A: tensor(new Float32Array(H).fill(-1), 'f32', [H]),
  ones: tensor(new Float32Array(H).fill(1), 'f32', [H]),
}
const state = { ssm: empty('f32', [S, H, P, N]), conv: empty('f32', [S, W - 1, channels]) }
const prompt = { offsets: integers([0, T]), past: integers([0]), slots: integers([0]) }
const decode = { past: integers(counting(S).fill(1)), slots: integers(counting(S)) }
const pages = Math.ceil(T / 64)
const cache = {
  k: normal('f32', [pages, 64, heads.kvHeads, heads.headDim]),
  v: normal('f32', [pages, 64, heads.kvHeads, heads.headDim]),
}
const pageTable = tensor(Int32Array.from(counting(pages)), 'i32', [1, pages])

function linear(rows, N, K, dtype) {
  const [x, weight, y] = [normal('f32', [rows, K]), normal(dtype, [N, K]), empty('f32', [rows, N])]
  return {
    run: () => ops.linear(x, weight, undefined, undefined, 'f32', y),
    flops: 2 * rows * N * K,
    bytes: weight.bytes,
  }
}
function scan(rows) {
  const [x, dt] = [normal('f32', [rows, H, P]), normal('f32', [rows, H])]
  const [B, C] = [normal('f32', [rows, G, N]), normal('f32', [rows, G, N])]
  return { rows: [x, dt, vectors.A, B, C, vectors.ones, vectors.ones, 0, Infinity], y: empty('f32', [rows, H, P]) }
}
const norm = { x: normal('f32', [T, D]), w: normal('f32', [D]), y: empty('f32', [T, D]) }
const conv = {
  x: normal('f32', [T, channels]),
  w: normal('f32', [W, channels]),
  b: normal('f32', [channels]),
  y: empty('f32', [T, channels]),
}
const whole = scan(T)
const step = scan(S)
const query = { q: normal('f32', [T, heads.heads, heads.headDim]), y: empty('f32', [T, heads.heads, heads.headDim]) }

const entries = {
  [`linear, up_proj, ${T} tokens, bf16`]: linear(T, mlp.intermediateSize, D, 'bf16'),
  'linear, up_proj, 1 token, bf16': linear(1, mlp.intermediateSize, D, 'bf16'),
  'linear, up_proj, 1 token, f32': linear(1, mlp.intermediateSize, D, 'f32'),
  'linear, up_proj, 1 token, e4m3': linear(1, mlp.intermediateSize, D, 'e4m3'),
  [`rms_norm, ${T} tokens`]: { run: () => ops.rmsNorm(norm.x, norm.w, 1e-5, norm.y), bytes: 2 * norm.x.bytes },
  [`causal_conv1d, ${T} tokens`]: {
    run: () => ops.causalConv1d(conv.x, conv.w, conv.b, prompt.offsets, prompt.past, prompt.slots, state.conv, conv.y),
    bytes: 2 * conv.x.bytes,
  },
  [`ssm_scan, ${T} tokens`]: {
    run: () => ops.ssmScan(...whole.rows, chunkSize, prompt.offsets, prompt.past, prompt.slots, state.ssm, whole.y),
    tokens: T,
  },
  [`ssm_step, ${S} sequences`]: {
    run: () => ops.ssmStep(...step.rows, decode.past, decode.slots, state.ssm, step.y),
    bytes: 2 * state.ssm.bytes,
  },
  [`attention, ${T} tokens`]: {
    run: () =>
      ops.attention(query.q, cache.k, cache.v, pageTable, prompt.offsets, prompt.past, heads.headDim ** -0.5, query.y),
    flops: 2 * T * T * heads.heads * heads.headDim, // q k^T and the sum of v, each over half of the square
  },
}

const done = empty('u8', [0])
const bench = new Bench({ time: 500, warmupTime: 100 })
for (const [name, { run }] of Object.entries(entries)) {
  bench.add(name, async () => {
    run()
    await done.read() // all that was queued before it
  })
}
await bench.run()
console.table(
  bench.tasks.map((task) => {
    const ms = task.result.latency.p50
    const { bytes, flops, tokens } = entries[task.name]
    return {
      op: task.name,
      ms: Number(ms.toPrecision(3)),
      'GB/s': bytes && Number((bytes / ms / 1e6).toPrecision(3)),
      'GFLOP/s': flops && Number((flops / ms / 1e6).toPrecision(3)),
      'tokens/s': tokens && Math.round((1000 * tokens) / ms),
    }
  }),
)
