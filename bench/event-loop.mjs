// How late the event loop is while the model works: node bench/event-loop.mjs [--device NAME] [--json] [MODEL]
// A timer of 1 ms asks; what it waits beyond that is the delay an application would see.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { load } from '../dist/index.js'

const { values, positionals } = parseArgs({
  options: { device: { type: 'string' }, json: { type: 'boolean' } },
  allowPositionals: true,
})
const { device } = values
const folder = positionals[0] ?? fileURLToPath(new URL('../demo/model', import.meta.url))
const resolutionMs = 1
const leastMs = 200 // shorter work is repeated, for enough samples

async function drain(generation) {
  for await (const _ of generation);
}

/** Milliseconds of delay while `work` runs. */
async function measure(phase, work) {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs })
  histogram.enable()
  const began = performance.now()
  do await work()
  while (performance.now() - began < leastMs)
  const seconds = (performance.now() - began) / 1000
  histogram.disable()
  const delay = (ns) => Math.max(0, Number((ns / 1e6 - resolutionMs).toFixed(2)))
  const percentile = (p) => delay(histogram.percentile(p))
  return {
    phase,
    seconds: Number(seconds.toFixed(2)),
    samples: histogram.count,
    p50: percentile(50),
    p99: percentile(99),
    max: delay(histogram.max),
  }
}

const loading = await measure('load', async () => {
  for (let i = 0; i < 5; i++) (await load(folder, { device })).dispose()
})
const model = await load(folder, { device })
const ids = (count) => Array.from({ length: count }, (_, i) => i % model.config.vocabSize)
const length = Math.min(2048, model.config.maxPositions - 1)
const rows = [
  loading,
  await measure('encode', () => model.tokenizer?.encode('In the beginning God created the heaven. '.repeat(20_000))),
  await measure('prefill', () => drain(model.generate(ids(length), { maxTokens: 1 }))),
  await measure('decode', () => {
    const options = { maxTokens: 200, ignoreEos: true, temperature: 1, topP: 0.95 }
    return Promise.all(Array.from({ length: 8 }, (_, i) => drain(model.generate(ids(8 + i), options))))
  }),
]
if (values.json) console.log(JSON.stringify(rows))
else console.table(rows)
model.dispose()
