// The addon in several threads of one process, and how it ends: with work queued, with reads pending, with the thread
// or the process gone. What must not crash runs in a process of its own. Where time is compared, what else the machine
// does can be in the way, so that test may be repeated; what waits is late each time.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { expect, test } from 'vitest'
import { binding } from '../dist/binding.js'
import { device, memory, onCpu, tensor } from './device.ts'

const path = JSON.stringify(join(import.meta.dirname, '../dist/binding.js'))

/** What every script below begins with. The numbers are small integers: their products are exact. */
const prelude = `
  const { parentPort, workerData } = require('node:worker_threads')
  const addon = () => import(${path}).then(({ binding }) => binding)
  const on = ${JSON.stringify(device)}
  const square = (binding, size) =>
    binding.tensor(Float32Array.from({ length: size * size }, (_, i) => (i % 13) - 6), 'f32', [size, size], on)
  const product = (binding, x) => binding.linear(x, x, undefined, undefined, false, 'f32')
`
const thread = (script: string, workerData?: unknown) =>
  new Worker(`${prelude}\n;(async () => {${script}})()`, { eval: true, workerData })

/** Runs a script in a process of its own; rejects unless it ends by itself with code 0. */
const run = (script: string) =>
  promisify(execFile)(
    process.execPath,
    ['--input-type=commonjs', '--eval', `${prelude}\n;(async () => {${script}})()`],
    {
      timeout: 60_000,
    },
  )

/** Queues some seconds of work; a GPU has more to do before the reads. */
const busy = `
  const binding = await addon()
  const x = square(binding, 1024)
  for (let i = 0; i < ${onCpu ? 0 : 20_000}; i++) product(binding, x).dispose()
  const reads = Array.from({ length: 120 }, () => product(binding, x).read())
`

test('threads compute at once, each for itself', async () => {
  const script = `
    const binding = await addon()
    const results = []
    for (let i = 0; i < 20; i++) results.push(await product(binding, square(binding, 65 + i)).read())
    parentPort.postMessage(results)
  `
  const workers = Array.from({ length: 4 }, () => thread(script))
  const [first, ...others] = await Promise.all(workers.map(async (worker) => (await once(worker, 'message'))[0]))
  expect(first).toHaveLength(20)
  expect(first[0][0]).not.toBe(0)
  for (const results of others) expect(results).toEqual(first)
})

test("memory and errors are a thread's own", async () => {
  const { used } = memory()
  const worker = thread(`
    const binding = await addon()
    const before = binding.memory(on).used
    const table = binding.tensor(new Float32Array(1 << 20), 'f32', [1 << 19, 2], on)
    binding.embedding(binding.tensor(Int32Array.of(-1), 'i32', [1], on), table, 'f32')
    parentPort.postMessage([before, binding.memory(on).used >= table.bytes])
    parentPort.on('message', () => table.read().catch((error) => parentPort.postMessage(error.message)))
  `)
  expect(await once(worker, 'message')).toEqual([[0, true]])
  expect(memory().used).toBe(used)
  expect(await tensor(Float32Array.of(1), 'f32', [1]).read()).toEqual(Float32Array.of(1))
  worker.postMessage('read')
  expect(await once(worker, 'message')).toEqual(['embedding: ids[0] is -1, expected 0 to 524287'])
  await worker.terminate()
})

test('a thread ends while its queue is busy and reads are pending', { retry: 2 }, async () => {
  for (let i = 0; i < 8; i++) {
    const worker = thread(`${busy}; parentPort.postMessage('busy'); await Promise.all(reads)`)
    await once(worker, 'message')
    const began = performance.now()
    expect(await worker.terminate()).toBe(1)
    expect(performance.now() - began, 'it waits for the op that runs, not for the queue').toBeLessThan(1000)
  }
  expect(await tensor(Float32Array.of(1), 'f32', [1]).read()).toEqual(Float32Array.of(1))
})

test('a thread that ends by itself first has its reads', async () => {
  const worker = thread(`${busy}; Promise.all(reads).then((all) => parentPort.postMessage(all.length))`)
  const message = once(worker, 'message')
  expect(await once(worker, 'exit')).toEqual([0])
  expect(await message).toEqual([120])
})

test('a tensor sent to another thread is none there', async () => {
  const worker = thread(
    `
      const binding = await addon()
      const weight = binding.tensor(Float32Array.of(1, 1), 'f32', [2])
      try {
        binding.rmsNorm(workerData, weight, 0)
      } catch (error) {
        parentPort.postMessage([error.name, error.message])
      }
    `,
    binding.tensor(Float32Array.of(1, 2), 'f32', [1, 2]),
  )
  expect(await once(worker, 'message')).toEqual([['TypeError', 'rmsNorm: x is an object, expected a tensor']])
})

test('the addon stays loaded when the only thread that used it ends', async () => {
  // The threads inside ops belong to the process: unloading the code under them would end it.
  const { stdout } = await run(`
    const { Worker } = require('node:worker_threads')
    const script = ${JSON.stringify(`${prelude}; addon().then((binding) => product(binding, square(binding, 512)).read())`)}
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(script, { eval: true })
      const code = await new Promise((resolve) => worker.once('exit', resolve))
      await new Promise((resolve) => setTimeout(resolve, 20))
      console.log(code)
    }
  `)
  expect(stdout).toBe('0\n0\n0\n')
})

test('a process exits with reads pending', { retry: 2 }, async () => {
  const began = performance.now()
  await run(`${busy}; process.exit(0)`)
  const atOnce = performance.now() - began
  const { stdout } = await run(`${busy}; Promise.all(reads).then((all) => console.log(all.length))`)
  expect(stdout, 'or waits for them').toBe('120\n')
  expect(atOnce).toBeLessThan(performance.now() - began - atOnce)
})

test('a process exits with threads at work', async () => {
  await run(`
    const { Worker } = require('node:worker_threads')
    const script = ${JSON.stringify(`${prelude};(async () => {${busy}; parentPort.postMessage('busy'); await Promise.all(reads)})()`)}
    const workers = [1, 2, 3].map(() => new Worker(script, { eval: true }))
    await Promise.all(workers.map((worker) => new Promise((resolve) => worker.once('message', resolve))))
    ${busy}
    process.exit(0)
  `)
})

test('a process that nothing keeps busy ends', async () => {
  await run(
    `const binding = await addon(); const x = square(binding, 64); await product(binding, x).read(); product(binding, x)`,
  )
})

test('a process ends with an error nobody asked about', async () => {
  const rejected = run(`${busy}; reads[0].then(() => { throw new Error('mine') })`)
  await expect(rejected).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('Error: mine') })
})
