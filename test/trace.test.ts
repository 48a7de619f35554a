// What ran when: every op of every step, also of recorded ones, in order; and what JavaScript's thread did beside.
import { expect, test } from 'vitest'
import { chromeTrace, type Model, ops, type Span, tensor, trace } from '../dist/index.js'
import { collect, goldenFolder, load } from './demo.js'
import { device, onCpu } from './device.ts'

const tiny = goldenFolder('nemotron-h-hybrid')
const tokens = 6

const generate = (model: Model) => collect(model.generate([1, 2, 3], { maxTokens: tokens, ignoreEos: true }))
const named = (spans: Span[], ...names: string[]) => spans.filter(({ name }) => names.includes(name))
const on = (spans: Span[], thread: string) => spans.filter((span) => span.thread === thread)

test('every op of prompts and steps, and what JavaScript did beside', async () => {
  using model = await load(tiny)
  const plain = await generate(model)
  const began = Number(process.hrtime.bigint()) / 1000
  const { result, spans } = await trace(model.device.name, () => generate(model))
  const ended = Number(process.hrtime.bigint()) / 1000
  expect(result.ids).toEqual(plain.ids)

  const layers = (kind: string) => model.config.layers.filter((layer) => layer === kind).length
  const ran = on(spans, model.device.name)
  expect(named(ran, 'embedding')).toHaveLength(tokens)
  expect(named(ran, 'ssmScan')).toHaveLength(layers('mamba2'))
  expect(named(ran, 'mamba2Step')).toHaveLength(layers('mamba2') * (tokens - 1))
  expect(named(ran, 'attention')).toHaveLength(layers('attention') * tokens)
  expect(on(spans, 'JavaScript').map(({ name }) => name)).toEqual(
    expect.arrayContaining(['prompts', ...Array(tokens - 1).fill('step'), ...Array(tokens).fill('tokens')]),
  )
  // A device may begin to reckon a microsecond late.
  for (const { start, duration } of spans) {
    expect(duration).toBeGreaterThanOrEqual(0)
    expect(start).toBeGreaterThan(began - 1)
    expect(start + duration).toBeLessThan(ended + (onCpu ? 0 : 100))
  }
  const ends = ran.map(({ start, duration }) => start + duration)
  for (let i = 1; i < ran.length; i++) expect(ran[i]!.start).toBeGreaterThanOrEqual(ends[i - 1]! - 1)
  if (onCpu) expect(on(spans, 'launch')).toEqual([])
  else expect(on(spans, 'launch').map(({ name }) => name)).toEqual(ran.map(({ name }) => name))
})

test('ends with its function, also by an error, and is one at a time', async () => {
  const failed = new Error('no')
  await expect(trace(device, () => Promise.reject(failed))).rejects.toBe(failed)
  const { spans } = await trace(device, async () => {
    await expect(trace(device, async () => {})).rejects.toThrow(/^trace: \S+ is traced already$/)
    using x = tensor(Float32Array.of(1, 2), 'f32', [1, 2], device)
    ops.relu2(x).dispose()
  })
  expect(named(spans, 'relu2').length).toBeGreaterThan(0)
  using x = tensor(Float32Array.of(1, 2), 'f32', [1, 2], device)
  ops.relu2(x).dispose()
  const { spans: none } = await trace(device, async () => {})
  expect(named(none, 'relu2')).toEqual([])
})

test("Chrome's format", () => {
  const spans = [
    { thread: 'cuda:0', name: 'linear', start: 1000.5, duration: 20.25 },
    { thread: 'JavaScript', name: 'step', start: 990.5, duration: 5 },
  ]
  expect(JSON.parse(chromeTrace(spans)).traceEvents).toEqual([
    { ph: 'M', name: 'thread_name', pid: 1, tid: 0, args: { name: 'cuda:0' } },
    { ph: 'M', name: 'thread_name', pid: 1, tid: 1, args: { name: 'JavaScript' } },
    { ph: 'X', name: 'linear', pid: 1, tid: 0, ts: 10, dur: 20.25 },
    { ph: 'X', name: 'step', pid: 1, tid: 1, ts: 0, dur: 5 },
  ])
  const many = Array.from({ length: 300_000 }, (_, i) => ({ thread: 'cpu', name: 'op', start: i + 0.5, duration: 1 }))
  const { traceEvents } = JSON.parse(chromeTrace(many))
  expect(traceEvents).toHaveLength(1 + many.length)
  expect(traceEvents.at(-1).ts).toBe(many.length - 1)
})
