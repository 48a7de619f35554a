// Ends of models, wherever they come: while generating, twice, in a worker that is terminated, by the garbage
// collector, with the process. And that a long run holds what a short one does.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, test } from 'vitest'
import type { Model } from '../dist/index.js'
import { nemotronH, writeModel } from './checkpoint/fixtures.js'
import { collect, demoExpected, demoFolder, goldenFolder, load, sleep } from './demo.js'
import { device, memory, onCpu } from './device.ts'
import { expectNoThreads } from './text/folders.js'

const [genesis, psalm] = demoExpected
const tiny = goldenFolder('nemotron-h-mamba-only')
const disposed = new Error('generate: the model is disposed')
const index = JSON.stringify(new URL('../dist/index.js', import.meta.url).href)

const here = JSON.stringify({ device, dtype: 'f32' })

/** Runs a script in a process of its own; rejects unless it exits by itself, with code 0. */
async function runAlone(script: string, ...flags: string[]): Promise<string> {
  const code = `
    import * as nemotronH from ${index}
    const load = (folder, options) => nemotronH.load(folder, { ...${here}, ...options })
    const demo = ${JSON.stringify(demoFolder)}
    ${script}`
  const args = [...flags, '--input-type=module', '-e', code]
  return (await promisify(execFile)(process.execPath, args, { timeout: 50_000 })).stdout
}

afterEach(async () => {
  await expect.poll(() => memory().used).toBe(0) // a batch under way is let go when it is done
  await expectNoThreads()
})

describe('dispose', () => {
  test('while generating: every reader gets an error, whatever it waits for', async () => {
    const model = await load(demoFolder, { sequences: 2, prefillTokens: 64 })
    const options = { maxTokens: 2000, ignoreEos: true }
    const reading = [
      collect(model.generate(genesis.prompt, options)),
      collect(model.generate(Array(2000).fill(7), options)),
      collect(model.generate(psalm.ids, options)), // waits for a place
    ]
    await sleep(50)
    model.dispose()
    for (const result of await Promise.allSettled(reading)) {
      expect(result).toMatchObject({ status: 'rejected', reason: disposed })
    }
  })

  test('while a token is decoded', async () => {
    const model = await load(demoFolder)
    const tokenizer = model.tokenizer!
    const partial = Array.from({ length: tokenizer.size }).findIndex((_, id) => tokenizer.wholeText(id) === undefined)
    const decode = tokenizer.decodeBatch.bind(tokenizer)
    tokenizer.decodeBatch = (...batch) => {
      const texts = decode(...batch)
      model.dispose()
      return texts
    }
    const options = { logitBias: { [partial]: 1000 }, maxTokens: 500, ignoreEos: true }
    await expect(collect(model.generate(genesis.ids, options))).rejects.toThrow(disposed)
  })

  test('in the loop', async () => {
    const model = await load(demoFolder)
    const reading = async () => {
      for await (const _ of model.generate(genesis.prompt, { maxTokens: 500, ignoreEos: true })) model.dispose()
    }
    await expect(reading()).rejects.toThrow(disposed)
  })

  test('while logits are computed', async () => {
    const model = await load(demoFolder, { prefillTokens: 64 })
    const logits = model.forward([Array(640).fill(7)])
    await sleep(5)
    model.dispose()
    await expect(logits).rejects.toThrow('forward: the model is disposed')
  })

  test('twice, and after an error', async () => {
    const model = await load(demoFolder)
    await expect(model.generate([9999]).next()).rejects.toThrow(RangeError)
    model.dispose()
    model.dispose()
  })

  test('then nothing of it can be used', async () => {
    const model = await load(demoFolder)
    const fromIds = model.generate(genesis.ids)
    const fromText = model.generate(genesis.prompt)
    model.dispose()
    expect(() => model.generate('x')).toThrow(disposed)
    await expect(model.forward([[1]])).rejects.toThrow('forward: the model is disposed')
    await expect(fromIds.next()).rejects.toThrow(disposed)
    await expect(fromText.next()).rejects.toThrow(disposed)
    await expect(model.tokenizer!.encode('x')).rejects.toThrow('was disposed')
  })

  test('at the end of an `await using` block', async () => {
    let escaped: Model
    {
      await using model = await load(demoFolder)
      escaped = model
      expect(memory().used).toBeGreaterThan(0)
    }
    expect(() => escaped.generate('x')).toThrow(disposed)
  })

  test('gives the memory back to the system', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nemotron-h-'))
    try {
      // Embedding and head of 2^24 numbers each; as f32, 128 MiB.
      await writeModel(folder, { ...nemotronH, vocab_size: 2 ** 21 })
      const model = await load(folder, { weights: 'f32' })
      expect(memory().used).toBeGreaterThanOrEqual(2 ** 27)
      const left = () => (onCpu ? -process.memoryUsage().rss : memory().free)
      const before = left()
      model.dispose()
      // What else goes on meanwhile is far from a quarter of it.
      await expect.poll(() => left() - before).toBeGreaterThan(2 ** 27 * 0.75)
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('a worker thread', () => {
  const start = (maxTokens: number) => {
    const code = `
      const { parentPort } = require('node:worker_threads')
      import(${index}).then(async ({ load }) => {
        const model = await load(${JSON.stringify(demoFolder)}, ${here})
        for await (const { ids } of model.generate([${genesis.ids}], { maxTokens: ${maxTokens}, ignoreEos: true })) {
          parentPort.postMessage(ids)
        }
        model.dispose()
      })`
    const worker = new Worker(code, { eval: true, execArgv: [] })
    const ids: number[] = []
    worker.on('message', (more: number[]) => ids.push(...more))
    const ended = new Promise<number>((resolve, reject) => worker.once('exit', resolve).once('error', reject))
    return { worker, ids, ended }
  }

  test('generates, several at once and beside the main thread', async () => {
    using model = await load(demoFolder)
    const workers = [start(40), start(40)]
    const own = await collect(model.generate(genesis.ids, { maxTokens: 40 }))
    for (const { ids, ended } of workers) {
      expect(await ended).toBe(0)
      expect(ids).toEqual(own.ids)
    }
  })

  test('is terminated while generating', async () => {
    for (const tokens of [1, 20, 21]) {
      const { worker, ids } = start(4000)
      await expect.poll(() => ids.length, { interval: 1 }).toBeGreaterThanOrEqual(tokens)
      await worker.terminate()
    }
    using model = await load(demoFolder)
    expect((await collect(model.generate(genesis.ids, { maxTokens: 40 }))).ids).toEqual(genesis.greedy)
  })
})

describe('a process', () => {
  test('exits by itself: with a model, with a reader that has stopped', async () => {
    const script = `
      const model = await load(demo)
      for await (const _ of model.generate('In', { maxTokens: 5 }));
      await model.generate('In', { maxTokens: 500, ignoreEos: true }).next()
      console.log('last line')`
    expect(await runAlone(script)).toBe('last line\n')
  })

  test('exits when told to, with batches under way', async () => {
    const script = `
      const model = await load(demo, { prefillTokens: 64 })
      model.generate(Array(3000).fill(7)).next()
      for await (const _ of model.generate('In')) process.exit(0)`
    expect(await runAlone(script)).toBe('')
  })

  test('the place of a generation that nobody reads on is free once it is collected', async () => {
    const script = `
      import { setTimeout as sleep } from 'node:timers/promises'
      const model = await load(demo, { sequences: 1 })
      const options = { maxTokens: 500, ignoreEos: true, signal: new AbortController().signal }
      async function leave() {
        await model.generate([1, 2, 3], options).next()
      }
      await leave()
      const next = model.generate([${genesis.ids}], { maxTokens: 1 }).next()
      let begun = false
      next.then(() => { begun = true })
      for (let i = 0; i < 1000 && !begun; i++) {
        await sleep(10)
        gc()
      }
      console.log(begun, options.signal.aborted)
      model.dispose()
      await next.catch(() => {})`
    expect(await runAlone(script, '--expose-gc')).toBe('true false\n')
  })

  test('a model, a half-read generation and logits are left to the garbage collector', async () => {
    const script = `
      import { setTimeout as sleep } from 'node:timers/promises'
      import { Tensor } from ${index}
      let freed = 0
      const registry = new FinalizationRegistry(() => freed++)
      async function leave() {
        const model = await load(demo)
        registry.register(model)
        await model.forward([[1, 2, 3]])
        await model.generate([1, 2, 3], { maxTokens: 500, ignoreEos: true }).next()
      }
      for (let i = 0; i < 3; i++) await leave()
      for (let i = 0; i < 100 && freed < 3; i++) {
        await sleep(10)
        gc()
      }
      const model = await load(demo)
      const ids = []
      for await (const piece of model.generate([${genesis.ids}], { maxTokens: 40 })) ids.push(...piece.ids)
      console.log(freed, ids.join())`
    expect(await runAlone(script, '--expose-gc')).toBe(`3 ${genesis.greedy.join()}\n`)
  })
})

// What a batch makes lies in blocks that came back from the one before: the most that tensors hold at any token is the
// same in the last thousand tokens as in the second. 120 bytes of JavaScript left by each step would pass 1 MiB; 4 KiB of
// anything would pass 32 MiB, where V8's young generation moves the size of a process by 8 MiB now and then. A leak is there
// in a repeat, too.
test('10,000 tokens hold as much as 1,000', { timeout: 60_000, retry: 2 }, async () => {
  const script = `
    const model = await load(${JSON.stringify(tiny)}, { context: 16384 })
    const most = []
    const heap = []
    const rss = []
    let tokens = 0
    for await (const { ids } of model.generate([1, 2, 3], { maxTokens: 10000, ignoreEos: true, repetitionPenalty: 1.1 })) {
      for (const _ of ids) {
        if (tokens++ % 1000 !== 0) continue
        gc()
        const usage = process.memoryUsage()
        heap.push(usage.heapUsed + usage.external)
        rss.push(usage.rss)
        most.push(0)
      }
      most.push(Math.max(most.pop(), model.device.memory().used))
    }
    console.log(JSON.stringify({ tokens, most, heap, rss }))`
  const { tokens, most, heap, rss } = JSON.parse(await runAlone(script, '--expose-gc'))
  expect(tokens).toBe(10_000)
  expect(most).toHaveLength(10)
  expect(most[9]).toBe(most[1])
  expect(heap[9] - heap[1]).toBeLessThan(2 ** 20)
  expect(rss[9] - rss[1]).toBeLessThan(2 ** 25)
})
