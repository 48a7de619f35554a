// Tiny models of every family and spelling against transformers (test/golden/README.md), and the promise that tokens
// are the same however they are computed.
import { readdirSync, readFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openCheckpoint } from '../dist/checkpoint/folder.js'
import { readHeader } from '../dist/checkpoint/safetensors.js'
import { loadWeights } from '../dist/checkpoint/weights.js'
import { type Model, scope } from '../dist/index.js'
import { formatsOf, pagesFor } from '../dist/model/config.js'
import { NemotronH } from '../dist/model/nemotron-h.js'
import { Pools, packBatch } from '../dist/model/pools.js'
import { load } from './demo.js'
import { device, simt } from './device.ts'

const root = new URL('golden/', import.meta.url).pathname
const folders = readdirSync(root, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

interface Greedy {
  prompt: number[]
  greedy: number[]
}

/** The expected logits [T,V] of each sequence of ids. */
async function readExpected(folder: string): Promise<{ ids: number[]; logits: Float32Array }[]> {
  const path = join(folder, 'expected.safetensors')
  const { tensors } = await readHeader(path)
  await using file = await open(path)
  const bytes = async (name: string) => {
    const { start, end } = tensors.get(name)!
    const buffer = new ArrayBuffer(end - start)
    await file.read(new Uint8Array(buffer), 0, end - start, start)
    return buffer
  }
  const count = [...tensors.keys()].filter((name) => name.startsWith('ids.')).length
  return await Promise.all(
    Array.from({ length: count }, async (_, i) => ({
      ids: [...new Int32Array(await bytes(`ids.${i}`))],
      logits: new Float32Array(await bytes(`logits.${i}`)),
    })),
  )
}

/** The largest error of a row of logits, relative to the largest logit of that row. */
function relativeError(got: Float32Array, want: Float32Array, vocab: number): number {
  let worst = 0
  for (let t = 0; t < want.length; t += vocab) {
    let error = 0
    let size = 0
    for (let v = t; v < t + vocab; v++) {
      error = Math.max(error, Math.abs(got[v]! - want[v]!))
      size = Math.max(size, Math.abs(want[v]!))
    }
    worst = Math.max(worst, error / size)
  }
  return worst
}

async function read(model: Model, sequences: number[][]): Promise<Float32Array[]> {
  const logits = await model.forward(sequences)
  try {
    return await Promise.all(logits.map((t) => t.read()))
  } finally {
    for (const t of logits) t.dispose()
  }
}

async function generate(model: Model, prompt: number[], maxTokens: number): Promise<number[]> {
  const ids: number[] = []
  for await (const piece of model.generate(prompt, { maxTokens, ignoreEos: true })) ids.push(...piece.ids)
  return ids
}

test('there are models of every family', () => {
  for (const family of ['nemotron-h', 'llama', 'qwen2'])
    expect(folders.some((name) => name.startsWith(family))).toBe(true)
})

describe.each(folders)('%s', (name) => {
  // The emulator is slow: it has one model for what others would only repeat.
  const repeats = test.skipIf(simt && name !== 'nemotron-h-hybrid')
  const folder = join(root, name)
  const greedy: Greedy[] = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'))
  let model: Model
  let expected: Awaited<ReturnType<typeof readExpected>>

  beforeAll(async () => {
    model = await load(folder, { dtype: 'f32' })
    expected = await readExpected(folder)
  })
  afterAll(() => model.dispose())

  // Both sides compute in f32; they differ in the order of sums only. transformers' own chunked scan is off by 2e-5 from
  // f64 where decay is strong, so the bound asked for has five times that as room.
  test('logits are those of transformers, in a ragged batch', async () => {
    const logits = await read(
      model,
      expected.map(({ ids }) => ids),
    )
    expected.forEach(({ logits: want }, i) => {
      expect(relativeError(logits[i]!, want, model.config.vocabSize)).toBeLessThan(1e-4)
    })
  })

  repeats('alone and in a batch: the same bits', async () => {
    const together = await read(
      model,
      expected.map(({ ids }) => ids),
    )
    for (const [i, { ids }] of expected.entries()) expect((await read(model, [ids]))[0]).toEqual(together[i])
  })

  repeats('whole and in chunks: the same bits', async () => {
    using chunked = await load(folder, { dtype: 'f32', prefillTokens: 1 })
    const sequences = expected.map(({ ids }) => ids)
    expect(await read(chunked, sequences)).toEqual(await read(model, sequences))
  })

  // The recurrence and the chunked scan round differently: the bound is the one against transformers.
  repeats('one token at a time: the same logits', async () => {
    const checkpoint = await openCheckpoint(folder)
    const weights = await loadWeights(checkpoint, { device, bf16Gemms: 0, activations: 'none' })
    const net = new NemotronH(checkpoint.config, weights, formatsOf('f32'))
    const longest = expected.reduce((a, b) => (a.ids.length > b.ids.length ? a : b))
    const pools = new Pools(net, 1, pagesFor(longest.ids.length))
    const place = pools.reserve(longest.ids.length)!
    for (const [past, id] of longest.ids.entries()) {
      using logits = scope(() => {
        const batch = { ...packBatch([{ ...place, ids: [id], past }], device), decode: true }
        return net.logits(net.forward(batch, pools.layers), true)
      })
      const V = checkpoint.config.vocabSize
      const want = longest.logits.subarray(past * V, (past + 1) * V)
      expect(relativeError(await logits.read(), want, V)).toBeLessThan(1e-4)
    }
    pools.dispose()
    weights.dispose()
  })

  repeats('greedy tokens are those of transformers', async () => {
    for (const { prompt, greedy: want } of greedy) expect(await generate(model, prompt, want.length)).toEqual(want)
  })

  test('all at once: the same tokens', async () => {
    const all = await Promise.all(greedy.map(({ prompt, greedy: want }) => generate(model, prompt, want.length)))
    expect(all).toEqual(greedy.map(({ greedy: want }) => want))
  })

  repeats('prefilled or stepped through: the same tokens', async () => {
    for (const { prompt, greedy: want } of greedy) {
      for (const cut of simt ? [want.length - 3] : [1, Math.floor(want.length / 2), want.length - 1]) {
        expect(await generate(model, [...prompt, ...want.slice(0, cut)], want.length - cut)).toEqual(want.slice(cut))
      }
    }
  })

  test.each(['f32', 'bf16', 'fp8'] as const)('weights %s in bf16 activations stay near', async (weights) => {
    // A loose bound that a wrong scale, layer order or rounding point would break: fp8 keeps 4 bits of significand
    // (relative 2^-4), and errors of independent weights average out over the sums.
    using rounded = await load(folder, { dtype: 'bf16', weights, ...(weights === 'fp8' && { bf16Gemms: 1 }) })
    const longest = expected.reduce((a, b) => (a.ids.length > b.ids.length ? a : b))
    const [logits] = await read(rounded, [longest.ids])
    let dot = 0
    let a = 0
    let b = 0
    longest.logits.forEach((want, i) => {
      dot += want * logits![i]!
      a += want * want
      b += logits![i]! * logits![i]!
    })
    expect(dot / Math.sqrt(a * b)).toBeGreaterThan(weights === 'fp8' ? 0.98 : 0.998)
  })
})
