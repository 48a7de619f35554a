// The matrix products of the models by the kernels here and by cuBLASLt, in turn on the same tensors, and the table of
// those that cuBLASLt computes faster: csrc/cuda/gemm/choices.def, after which to build.
//
// npm run bench:choose-gemm [-- --device cuda --models 8b,56b --tokens 8192,2048,512 --only 'fp8_linear up_proj' --seconds 0.1
//                               --json FILE --table csrc/cuda/gemm/choices.def]
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { binding } from '../dist/binding.js'
import { device as deviceOf, presets } from '../dist/index.js'
import { entries } from './shapes.mjs'
import { cacheBytes, timer } from './time.mjs'

const noise = 0.02 // what is less faster is not

/**
 * Adds to `rows` { op, sizes, product, flops, own, cublaslt }, the last two seconds, for every product of `config` with T
 * tokens in a prompt or few in decoding that both can compute and that is not there yet.
 */
export async function compare(rows, config, { device, T, only = /./, timing }) {
  const { list, dispose } = entries(config, { device, act: 'bf16', T, S: 1, context: 1 })
  const same = (a, b) => JSON.stringify([a.op, a.sizes]) === JSON.stringify([b.op, b.sizes])
  for (const entry of list) {
    const { op, sizes, product, flops } = entry
    if (!product || !only.test(`${op} ${sizes.layer}`) || rows.some((row) => same(row, entry))) continue
    const row = { op, sizes, product, flops, own: Infinity, cublaslt: Infinity }
    try {
      const seconds = timer(entry, { device, ...timing })
      for (const provider of ['own', 'cublaslt', 'own', 'cublaslt']) {
        binding.useKernels(provider)
        row[provider] = Math.min(row[provider], await seconds())
      }
    } catch (error) {
      row.error = error.message
    } finally {
      binding.useKernels('measured')
    }
    dispose()
    deviceOf(device).releaseCached()
    rows.push(row)
    console.error(`${op} ${JSON.stringify(sizes)}: ${row.error ?? `${(row.cublaslt / row.own).toFixed(3)} x cuBLASLt`}`)
  }
}

/** The architecture of the code that a GPU of that compute capability, '9.0', runs (csrc/cuda/architecture.h). */
const architectureOf = (capability) => {
  const major = Number.parseInt(capability, 10)
  return major >= 12 ? 120 : major === 9 ? 90 : 80
}

/** The text of choices.def. `measured`: by what. */
export function table(rows, capability, measured) {
  const lines = rows
    .filter(({ own, cublaslt, error }) => !error && cublaslt < own * (1 - noise))
    // What serving multiplies stays here whatever is faster (csrc/cuda/gemm/provider.h).
    .filter(({ product: { a, orders, decode } }) => orders !== 'NT' || (a !== 'bf16' && !decode))
    .map(({ sizes: { M, N, K }, product: { a, b, y, orders, fast } }) => {
      const up = (size) => 2 ** Math.ceil(Math.log2(size))
      const [m, k] = orders.startsWith('T') ? [M, up(K)] : [up(M), K]
      return `CHOICE(${architectureOf(capability)}, ${a}, ${b}, ${y}, ${orders}, ${fast}, ${m}, ${N}, ${k})`
    })
  return `// Products that cuBLASLt was measured to compute faster than the kernels here: of all others it is not asked.
// Written by bench/choose-gemm.mjs. ${measured}.
//
// CHOICE(architecture, a, b, y, orders, fast, M, N, K): orders and fast as in provider.h. The dimension of tokens
// (M; of TN and TT it is K) stands for all sizes above half of it.
${[...new Set(lines)]
  .sort()
  .map((line) => `${line}\n`)
  .join('')}`
}

async function main() {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'cuda' },
      models: { type: 'string', default: '8b,56b' },
      tokens: { type: 'string', default: '8192,2048,512' },
      only: { type: 'string', default: '.' },
      seconds: { type: 'string', default: '0.1' },
      json: { type: 'string' },
      table: { type: 'string' },
    },
  })
  const library = binding.gpus()?.cublasLt
  if (!library) {
    console.log('bench:choose-gemm: not measured: cuBLASLt is not found; NEMOTRON_H_CUBLASLT names one')
    return
  }
  const { name, computeCapability } = binding.gpus().devices[Number(values.device.split(':')[1] ?? 0)]
  const date = new Date().toISOString()
  const measured = `Measured on ${name} beside ${library.replace(/.*\//, '')}, ${date.slice(0, 10)}`
  const rows = []
  for (const model of values.models.split(',')) {
    if (!presets[model])
      throw new RangeError(`bench:choose-gemm: --models names ${model}, expected some of ${Object.keys(presets)}`)
    const ofModel = []
    rows.push(ofModel)
    const timing = { cacheBytes: cacheBytes(values.device), seconds: Number(values.seconds) }
    for (const T of values.tokens.split(',').map(Number)) {
      await compare(ofModel, presets[model], { device: values.device, T, only: new RegExp(values.only), timing })
      // All so far: time may end before the sizes do.
      const all = rows.flat()
      if (values.json)
        await writeFile(values.json, `${JSON.stringify({ date, gpu: name, library, rows: all }, null, 1)}\n`)
      if (values.table) await writeFile(values.table, table(all, computeCapability, measured))
    }
  }
  const us = (seconds) => Number((1e6 * seconds).toPrecision(3))
  console.table(
    rows.flat().map(({ op, sizes: { layer, M, N, K, ...sizes }, flops, own, cublaslt, error }) => ({
      op,
      sizes: [layer, `${M} x ${N} x ${K}`, ...Object.entries(sizes).flat()].join(' '),
      'own us': us(own),
      'cuBLASLt us': us(cublaslt),
      'own TFLOP/s': Number((flops / own / 1e12).toPrecision(3)),
      'x cuBLASLt': Number((cublaslt / own).toPrecision(3)),
      ...(error && { error }),
    })),
  )
  console.log(measured)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
