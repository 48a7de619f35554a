// Attention of one new token for each sequence, or of several, with caches in pages of several sizes: how near it comes
// to the memory's own speed, and which size of page to have (lib/model/pools.ts).
//
// npm run bench:attention [-- --device cuda --models 8b,56b --pages 16,64,128,256 --seconds 0.3 --json FILE]
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { device as deviceOf, empty, ops, presets, tensor } from '../dist/index.js'
import { cacheBytes, timer } from './time.mjs'

/** S sequences with `tokens` new tokens each after `context` others. */
export const points = [
  { S: 1, context: 8192, tokens: 1 },
  { S: 32, context: 8192, tokens: 1 },
  { S: 128, context: 8192, tokens: 1 },
  { S: 16, context: 65536, tokens: 1 },
  { S: 32, context: 8192, tokens: 4 },
  { S: 32, context: 8192, tokens: 8 },
]

const counting = (n) => Array.from({ length: n }, (_, i) => i)
const stored = { f32: 4, bf16: 2, e4m3: 1 }

/** 0 to n - 1 in an order that leaves no two neighbours together, as pages of a pool that is in use. */
function scattered(n) {
  const gcd = (a, b) => (b === 0 ? a : gcd(b, a % b))
  let step = Math.max(1, Math.floor(0.618 * n))
  while (gcd(step, n) > 1) step++
  return counting(n).map((i) => (i * step) % n)
}

/** An entry as bench/shapes.mjs has them, of one point; dispose() is for what make() made. */
export function entry({ heads, kvHeads: G, headDim: P }, { S, context, tokens }, { device, act, kv, pageSize }) {
  const made = []
  const own = (t) => {
    made.push(t)
    return t
  }
  const integers = (values, shape = [values.length]) => own(tensor(Int32Array.from(values), 'i32', shape, device))
  const of = Math.ceil((context + tokens) / pageSize)
  const scale = () => (kv === 'e4m3' ? own(tensor(new Float32Array(G).fill(1), 'f32', [G], device)) : undefined)
  return {
    bytes: S * ((context + tokens) * 2 * G * P * stored[kv] + 2 * tokens * heads * P * stored[act]),
    make() {
      const [kCache, vCache] = [0, 1].map(() => own(empty(kv, [S * of, pageSize, G, P], device)))
      const [kScale, vScale] = [scale(), scale()]
      const noise = own(
        tensor(
          Float32Array.from({ length: pageSize * G * P }, () => 2 * Math.random() - 1),
          act,
          [pageSize, G, P],
          device,
        ),
      )
      const [offsets, past] = [integers([0, pageSize]), integers([0])]
      for (const page of counting(S * of)) {
        const table = integers([page], [1, 1])
        ops.kvAppend(noise, noise, undefined, kScale, vScale, table, offsets, past, kCache, vCache)
      }
      const q = own(
        tensor(
          Float32Array.from({ length: S * tokens * heads * P }, () => 2 * Math.random() - 1),
          act,
          [S * tokens, heads, P],
          device,
        ),
      )
      const y = own(empty(act, [S * tokens, heads, P], device))
      const where = [
        integers(scattered(S * of), [S, of]),
        integers(counting(S + 1).map((s) => s * tokens)),
        integers(counting(S).map(() => context)),
      ]
      return () => ops.attention(q, kCache, vCache, kScale, vScale, ...where, P ** -0.5, true, undefined, y)
    },
    dispose() {
      for (const t of made.splice(0)) t.dispose()
    },
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'cuda' },
      models: { type: 'string', default: '8b,56b' },
      pages: { type: 'string', default: '16,64,128,256' },
      seconds: { type: 'string', default: '0.3' },
      json: { type: 'string' },
    },
  })
  const { device } = values
  const timing = { device, cacheBytes: cacheBytes(device), seconds: Number(values.seconds) }
  const copied = await copySpeed(timing)
  const rows = []
  for (const model of values.models.split(',')) {
    for (const point of points) {
      for (const kv of ['bf16', 'e4m3']) {
        for (const pageSize of values.pages.split(',').map(Number)) {
          const one = entry(presets[model].attention, point, { device, act: 'bf16', kv, pageSize })
          const row = { model, ...point, kv, pageSize }
          try {
            const seconds = await timer(one, timing)()
            row.us = Number((1e6 * seconds).toPrecision(3))
            row['GB/s'] = Math.round(one.bytes / seconds / 1e9)
            row['of copy'] = `${((100 * one.bytes) / seconds / copied).toFixed(0)} %`
          } catch (error) {
            row.error = error.message
          }
          one.dispose()
          deviceOf(device).releaseCached()
          rows.push(row)
          console.error(JSON.stringify(row))
          if (values.json) await writeFile(values.json, `${JSON.stringify({ copied, rows }, null, 1)}\n`)
        }
      }
    }
  }
  console.table(rows)
  console.log(`a copy, bytes read and written: ${Math.round(copied / 1e9)} GB/s`)
}

/** Bytes a second of a cast from f32 to bf16, which reads and writes as a copy does. */
async function copySpeed(timing) {
  const [rows, width] = [1 << 16, 1 << 12]
  const bytes = 6 * rows * width
  const [x, y] = [empty('f32', [rows, width], timing.device), empty('bf16', [rows, width], timing.device)]
  const seconds = await timer({ bytes, make: () => () => ops.cast(x, 'bf16', y) }, timing)()
  x.dispose()
  y.dispose()
  return bytes / seconds
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
