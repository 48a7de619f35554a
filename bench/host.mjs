// What JavaScript's side costs, whatever the device: a call of an op, a decode step, text to tokens and back.
// npm run bench:host [-- --device cuda --seconds 0.5 --out FOLDER]
//
// A call is timed until it returns, with its work queued; the work itself is waited for outside. Of a decode step it is the
// processor's time of JavaScript's thread, as Linux counts it (schedstat), so that other threads do not count.
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Bench } from 'tinybench'
import { device as deviceOf, empty, load, ops, presets, scope, tensor } from '../dist/index.js'
import { loadRandom } from '../dist/load.js'
import { TextStream } from '../dist/text/stream.js'
import { Tokenizer } from '../dist/text/tokenizer.js'
import { commit } from './commit.mjs'
import { machineOf } from './machine.mjs'

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    seconds: { type: 'string', default: '0.5' },
    out: { type: 'string', default: 'bench/results/host' },
  },
})
const device = deviceOf(values.device)
const done = empty('u8', [0], device.name)
const steps = 500 // in a run
const demo = fileURLToPath(new URL('../demo/model', import.meta.url))

/** To three digits. */
const rounded = (us) => Number(us.toPrecision(3))

/** Microseconds: the median, and what 99 of 100 are below. `per`: how many of what is named one call does, if several. */
async function timed(entries) {
  const bench = new Bench({ time: 1000 * Number(values.seconds), warmupTime: 50 })
  for (const { what, call, after } of entries) bench.add(what, call, after ? { afterEach: after } : {})
  await bench.run()
  return bench.tasks.map(({ name, result }, i) => {
    if (result.error) throw result.error
    const us = (ms) => rounded((1000 * ms) / (entries[i].per ?? 1))
    return { what: name, us: us(result.latency.p50), p99: us(result.latency.p99) }
  })
}

async function opCalls() {
  const x = tensor(new Float32Array(16), 'f32', [1, 16], device.name)
  const y = empty('f32', [1, 16], device.name)
  const per = 64 // more than a clock's resolution, fewer than a queue holds
  const repeat = (call) => () => {
    for (let i = 0; i < per; i++) call()
  }
  const graph = device.capture(() => repeat(() => ops.relu2(x, y))())
  const drained = () => done.read()
  const rows = await timed([
    { what: 'op call, result given', per, call: repeat(() => ops.relu2(x, y)), after: drained },
    {
      what: 'op call, new result, in a scope',
      per,
      call: repeat(() => scope(() => void ops.relu2(x))),
      after: drained,
    },
    { what: `replay of a graph of ${per} op calls`, call: () => graph.replay(), after: drained },
  ])
  for (const t of [x, y, graph]) t.dispose()
  return rows
}

/** Microseconds that JavaScript's thread, the process's first, has run. */
const threadTime = () => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1000

/**
 * JavaScript's part of a decode step with all that a reader of generate() takes, of four models: of one narrow layer; as
 * deep as the 8B; and as deep and wide, for one sequence. Those have no tokenizer; the demo model gives text as well. For
 * the others JavaScript does the same; but the longer a step is, the longer its thread sleeps, and the colder are the
 * caches it wakes up to. So beside each stands a bare step, for as many readers.
 */
async function* decodeSteps() {
  const { layers, attention, mlp, mamba, ...rest } = presets['8b']
  const narrow = {
    ...rest,
    vocabSize: 512,
    hiddenSize: 64,
    attention: { ...attention, heads: 4, kvHeads: 2, headDim: 16 },
    mlp: { ...mlp, intermediateSize: 64 },
    mamba: { ...mamba, heads: 4, headDim: 16, groups: 2, stateSize: 16, chunkSize: 16 },
  }
  const random = (config) => (options) => loadRandom(config, 'bench', { weights: 'bf16', seed: 1, ...options })
  const models = [
    ['1 layer', random({ ...narrow, layers: layers.slice(0, 1) }), [1, 8, 64]],
    ['52 layers', random({ ...narrow, layers }), [1, 8, 64]],
    ['52 wide layers', random({ ...narrow, layers, hiddenSize: 768, mlp: { ...mlp, intermediateSize: 2048 } }), [1]],
    ['demo model, text', (options) => load(demo, options), [1, 8, 64]],
  ]
  for (const [name, loaded, batches] of models) {
    for await (const { batch, ...row } of stepsOf(loaded, batches)) {
      yield { what: `decode step, ${name}, batch ${batch}: JavaScript's thread`, ...row }
    }
  }
}

/** Microseconds a step, by batch, as the columns of the table say. */
async function* stepsOf(loaded, batches) {
  const context = 512
  const most = Math.max(...batches)
  const room = { sequences: most, context, cacheTokens: context * most, prefillTokens: 1024 }
  const model = await loaded({ device: device.name, ...room })
  for (const batch of batches) {
    const begin = () => generations(model, batch)
    const { whole } = await runOf(begin) // the first compiles the code
    const bare = await bareSteps(whole, batch)
    await runOf(bare.begin)
    const pairs = [] // run by turns: a machine is faster at one time than at another
    for (let i = 0; i < 9; i++) pairs.push({ step: await runOf(begin), bare: await runOf(bare.begin) })
    bare.dispose()
    const median = (value) => rounded(pairs.map(value).sort((a, b) => a - b)[pairs.length >> 1])
    yield {
      batch,
      us: median(({ step }) => step.busy),
      'of a step of': median(({ step }) => step.whole),
      bare: median(({ bare }) => bare.busy),
      'of one of': median(({ bare }) => bare.whole),
      'more than bare': median(({ step, bare }) => step.busy - bare.busy),
    }
  }
  model.dispose()
}

/** Begins sequences; what it gives reads them to their end. */
async function generations(model, batch) {
  const options = { maxTokens: steps + 1, ignoreEos: true, temperature: 0 }
  const sequences = Array.from({ length: batch }, (_, s) => model.generate([1 + s, 2, 3, 4], options))
  await Promise.all(sequences.map((sequence) => sequence.next())) // prefill makes the first token
  return () => Promise.all(sequences.map(drain))
}

/** Values for one `for await` loop: the least that gives it one at a time, when they come. */
class Values {
  next() {
    return new Promise((give) => {
      this.give = give
    })
  }

  [Symbol.asyncIterator]() {
    return this
  }
}

/**
 * The least that a program does for a step of this many microseconds: it replays work that takes about as long and goes
 * through memory, as layers do; waits for that of the time before, as the scheduler does; and gives each reader a number.
 */
async function bareSteps(us, batch) {
  const most = 4096
  const [x, y] = [0, 1].map(() => tensor(new Float32Array(most * 1024), 'f32', [most, 1024], device.name))
  const ids = empty('i32', [batch], device.name)
  const record = (rows, count) => {
    const [from, to] = [x.rows(0, rows), y.rows(0, rows)]
    const graph = device.capture(() => {
      for (let i = 0; i < count; i++) ops.relu2(from, to)
    })
    for (const t of [from, to]) t.dispose()
    return graph
  }
  const run = async (graph, count, readers) => {
    const loops = readers.map(drain)
    const queue = () => {
      graph.replay()
      return ids.read()
    }
    let queued = queue()
    for (let i = 0; i < count; i++) {
      const next = queue()
      const read = await queued
      for (let r = 0; r < readers.length; r++) readers[r].give({ value: read[r], done: false })
      queued = next
    }
    await queued
    for (const { give } of readers) give({ value: undefined, done: true })
    await Promise.all(loops)
  }
  const sample = { count: 16, steps: 20 }
  const sampled = record(most, sample.count)
  await run(sampled, 5, [])
  const began = performance.now()
  await run(sampled, sample.steps, [])
  const usOfOne = (1000 * (performance.now() - began)) / (sample.count * (sample.steps + 1))
  const rows = Math.ceil((most * us) / usOfOne)
  const graph = record(Math.min(rows, most), Math.ceil(rows / most))
  return {
    async begin() {
      const readers = Array.from({ length: batch }, () => new Values())
      return () => run(graph, steps, readers)
    },
    dispose() {
      for (const t of [x, y, ids, sampled, graph]) t.dispose()
    },
  }
}

/** Microseconds a step: of JavaScript's thread, and all. */
async function runOf(begin) {
  const run = await begin()
  const [began, before] = [performance.now(), threadTime()]
  await run()
  return { busy: (threadTime() - before) / steps, whole: (1000 * (performance.now() - began)) / steps }
}

async function drain(values) {
  for await (const _ of values);
}

async function text() {
  const tokenizer = await Tokenizer.load(demo)
  const prompt = 'In the beginning God created the heaven and the earth. '.repeat(200)
  const ids = await tokenizer.encode(prompt)
  const streams = Array.from({ length: 64 }, () => new TextStream(tokenizer))
  let next = 0
  const push = (stream) => stream.push([ids[next++ % ids.length]])
  const rows = await timed([
    {
      what: `tokenisation, a prompt of ${ids.length} tokens, a token`,
      per: ids.length,
      call: () => tokenizer.encode(prompt),
    },
    {
      what: `detokenisation, ${ids.length} tokens at once, a token`,
      per: ids.length,
      call: () => tokenizer.decode(ids),
    },
    { what: 'detokenisation, one token of a stream', call: () => push(streams[0]) },
    {
      what: `detokenisation, one token of each of ${streams.length} streams, a token`,
      per: streams.length,
      call: () => Promise.all(streams.map(push)),
    },
  ])
  tokenizer.dispose()
  return rows
}

async function* measured() {
  yield* await opCalls()
  yield* decodeSteps()
  yield* await text()
}

const machine = { ...machineOf(device.name), device: device.name, commit: await commit() }
const date = new Date().toISOString()
const columns = ['us', 'p99', 'of a step of', 'bare', 'of one of', 'more than bare']
const rows = []
let markdown = ''
/** To the page, and to whoever watches. Both have each row at once: all of it takes minutes. */
const write = (text) => {
  markdown += `${text}\n`
  console.log(text)
}
const writeRow = (cells) => write(`| ${cells.join(' | ')} |`)
write(`# What JavaScript's side costs

${machine.gpu ?? machine.cpu}, ${machine.cores} cores, Node ${machine.node}, device ${machine.device}; commit ${machine.commit}; ${date}; \`npm run bench:host\`.
Microseconds: medians; of decode steps, of nine runs of ${steps} steps each. bare: what the same thread takes, in runs by turns with those, for the least that a program can do: to replay work that lasts about as long, wait for it, and give as many readers a number each. more than bare: the median of nine differences. The work of an op is not in its call; tokenising is in a thread of its own, and timed to the answer.
`)
writeRow(['', ...columns])
writeRow(Array(1 + columns.length).fill('---'))
await mkdir(values.out, { recursive: true })
for await (const row of measured()) {
  rows.push(row)
  writeRow([row.what, ...columns.map((column) => row[column] ?? '')])
  await writeFile(join(values.out, 'host.json'), `${JSON.stringify({ date, machine, rows }, null, 1)}\n`)
  await writeFile(join(values.out, 'host.md'), markdown)
}
