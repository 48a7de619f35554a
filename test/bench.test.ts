// The entries of bench/shapes.mjs at small sizes: they name every op, and each runs.
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { binding } from '../dist/binding.js'
import { presets } from '../dist/index.js'
import { device, empty } from './device.ts'

const { entries } = await import(/* @vite-ignore */ join(import.meta.dirname, '../bench/shapes.mjs'))
const config = {
  ...presets['8b'],
  vocabSize: 160,
  hiddenSize: 64,
  mlp: { intermediateSize: 96 },
  mamba: { heads: 4, headDim: 16, groups: 2, stateSize: 16, convKernel: 4, chunkSize: 16 },
  attention: { heads: 4, kvHeads: 2, headDim: 16 },
}

test.each(['f32', 'bf16'])('every op, %s', async (act) => {
  const { list, dispose } = entries(config, { device, act, T: 40, S: 3, context: 70 })
  const names = new Set(list.map(({ op }: { op: string }) => op.replace(/_./g, (s) => s[1]!.toUpperCase())))
  expect([...names].sort()).toEqual(binding.ops.map(({ name }) => name).sort())
  for (const entry of list) {
    expect(entry.bytes, entry.op).toBeGreaterThan(0)
    entry.make()()
    await empty('u8', [0]).read() // rejects with what went wrong before it
  }
  dispose()
})
