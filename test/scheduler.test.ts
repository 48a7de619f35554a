// Several generations on one model: shared batches, turns, readers that stop, leave or abort.
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Decoder } from '../dist/decode.js'
import { type Model, ops } from '../dist/index.js'
import { pageSize } from '../dist/model/config.js'
import { NemotronH } from '../dist/model/nemotron-h.js'
import { Pools } from '../dist/model/pools.js'
import { collect, demoExpected, demoFolder, goldenFolder, load, sleep } from './demo.js'
import { device, memory } from './device.ts'

const [genesis, psalm, matthew] = demoExpected
const tiny = goldenFolder('nemotron-h-hybrid')

/** The sizes in tokens of all batches from now on: of prompts, and of the steps that follow. */
function watchBatches(): number[] {
  const sizes: number[] = []
  const [forward, step] = [NemotronH.prototype.forward, Decoder.prototype.step]
  vi.spyOn(NemotronH.prototype, 'forward').mockImplementation(function (this: NemotronH, batch, state) {
    if (!batch.decode) sizes.push(batch.ids.shape[0]!)
    return forward.call(this, batch, state)
  })
  vi.spyOn(Decoder.prototype, 'step').mockImplementation(function (this: Decoder, rows, history) {
    sizes.push(rows.length)
    return step.call(this, rows, history)
  })
  return sizes
}
afterEach(() => {
  vi.restoreAllMocks()
})

/** A model of one place takes another sequence, and gives the right tokens: nothing of the last one holds it. */
async function expectFree(model: Model): Promise<void> {
  const { ids } = await collect(model.generate(psalm.prompt, { maxTokens: 8 }))
  expect(ids).toEqual(psalm.greedy.slice(0, 8))
}

describe('batches', () => {
  test('sequences that start together step together', async () => {
    using model = await load(demoFolder)
    const batches = watchBatches()
    const all = await Promise.all(
      demoExpected.map(({ ids }) => collect(model.generate(ids, { maxTokens: 20, ignoreEos: true }))),
    )
    expect(all.map(({ ids }) => ids)).toEqual(demoExpected.map(({ greedy }) => greedy.slice(0, 20)))
    const prompts = demoExpected.reduce((sum, { ids }) => sum + ids.length, 0)
    expect(batches).toEqual([prompts, ...Array(19).fill(3)])
  })

  test('one that starts later joins', async () => {
    using model = await load(demoFolder)
    const batches = watchBatches()
    const first = model.generate(genesis.ids, { maxTokens: 40 })
    await first.next()
    const [rest, second] = await Promise.all([collect(first), collect(model.generate(psalm.ids, { maxTokens: 40 }))])
    expect(rest.usage!.completionTokens).toBe(40)
    expect(second.ids).toEqual(psalm.greedy)
    expect(batches.filter((size) => size === 2).length).toBeGreaterThan(20)
  })

  test('a long prompt goes in pieces of whole chunks, between which the others step', async () => {
    using model = await load(demoFolder, { prefillTokens: 100 })
    const batches = watchBatches()
    const short = model.generate(genesis.ids, { maxTokens: 30, ignoreEos: true })
    await short.next()
    const long = collect(model.generate(Array(700).fill(7), { maxTokens: 1 }))
    expect((await collect(short)).usage!.completionTokens).toBe(30)
    await long
    expect(batches.filter((size) => size >= 60)).toEqual([...Array(10).fill(64), 60])
    const [began, ended] = [batches.indexOf(64), batches.indexOf(60)]
    expect(batches.slice(began, ended).filter((size) => size === 1)).toHaveLength(10)
  })

  test('more than there are places for take turns', async () => {
    using model = await load(demoFolder, { sequences: 2 })
    const batches = watchBatches()
    const prompts = [genesis, psalm, matthew, genesis, psalm]
    const all = await Promise.all(prompts.map(({ prompt }) => collect(model.generate(prompt, { maxTokens: 10 }))))
    expect(all.map(({ ids }) => ids)).toEqual(prompts.map(({ greedy }) => greedy.slice(0, 10)))
    expect(batches.filter((size) => size < 8).every((size) => size <= 2)).toBe(true)
    expect(all[4]!.timings!.queue).toBeGreaterThan(all[0]!.timings!.queue)
  })

  test('when the cache has no room the next one waits', async () => {
    using model = await load(demoFolder, { context: 128, cacheTokens: 128 })
    const batches = watchBatches()
    const all = await Promise.all(
      [genesis, psalm].map(({ ids }) => collect(model.generate(ids, { maxTokens: 40, ignoreEos: true }))),
    )
    // Pages hold 64 tokens: two sequences of at most 64 have room together, two of 65 have not.
    expect(batches.filter((size) => size === 2)).toHaveLength(39)
    batches.length = 0
    const one = { maxTokens: 65 - genesis.ids.length, ignoreEos: true }
    await Promise.all([collect(model.generate(genesis.ids, one)), collect(model.generate(genesis.ids, one))])
    expect(batches.filter((size) => size === 2)).toHaveLength(0)
    expect(all.map(({ ids }) => ids)).toEqual([genesis.greedy, psalm.greedy])
  })

  // One sequence ends as the other has 64 tokens unread and pauses: the loop finds nothing to do. Some microtasks later,
  // and it must not matter how many, the first one's reader turns to the second.
  test('a reader that comes as the loop stops is not forgotten', async () => {
    using model = await load(tiny)
    const ended = (tokens: number) => ({ maxTokens: tokens, ignoreEos: true })
    for (let microtasks = 0; microtasks < 20; microtasks++) {
      const second = model.generate([1, 2], ended(70))
      const [one] = await Promise.all([second.next(), collect(model.generate([3, 4], ended(65)))])
      for (let i = 0; i < microtasks; i++) await null
      expect(one.value.ids).toHaveLength(1)
      expect((await collect(second)).usage!.completionTokens).toBe(70)
    }
  })

  test('a batch that fails rejects its readers only, and holds nothing', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    await expectFree(model)
    const { used } = memory()
    const waits = model.generate(psalm.prompt, { maxTokens: 8 })
    vi.spyOn(ops, 'gatedRmsNorm').mockImplementationOnce(() => {
      throw new Error('empty: out of memory')
    })
    const failed = collect(model.generate(genesis.ids, { maxTokens: 8 }))
    const [one, other] = await Promise.allSettled([failed, collect(waits)])
    expect(one).toMatchObject({ status: 'rejected', reason: new Error('empty: out of memory') })
    expect(other).toMatchObject({ status: 'fulfilled', value: { ids: psalm.greedy.slice(0, 8) } })
    expect(memory().used).toBe(used)
  })

  test('prompts that cannot be queued leave those that decode alone', async () => {
    using model = await load(demoFolder)
    const first = model.generate(genesis.ids, { maxTokens: 40 })
    const { ids } = (await first.next()).value!
    const batches = watchBatches()
    vi.spyOn(ops, 'gatedRmsNorm').mockImplementationOnce(() => {
      throw new Error('empty: out of memory')
    })
    const failed = collect(model.generate(psalm.ids, { maxTokens: 8 }))
    const [rest, reason] = await Promise.all([collect(first), failed.catch((error) => error)])
    expect(reason).toEqual(new Error('empty: out of memory'))
    expect([...ids, ...rest.ids]).toEqual(genesis.greedy)
    // Once with the prompt, and never in a step: there is no token that it could go on from.
    expect(batches.filter((size) => size !== 1)).toEqual([psalm.ids.length])
  })
})

test('a place has room for millions of tokens again once it is given back', () => {
  const pools = new Pools({ device, makeState: () => [] } as unknown as NemotronH, 1, 300_000)
  const place = pools.reserve(300_000 * pageSize)!
  expect(pools.reserve(1)).toBeUndefined()
  pools.release(place)
  expect(pools.reserve(300_000 * pageSize)!.pages.toSorted((a, b) => a - b)).toEqual([...Array(300_000).keys()])
})

describe('readers', () => {
  test('one that stops reading pauses its sequence, and the others go on', async () => {
    using model = await load(demoFolder, { sequences: 2 })
    const options = { maxTokens: 300, ignoreEos: true }
    const whole = await collect(model.generate(genesis.ids, options))
    const batches = watchBatches()
    const slow = model.generate(genesis.ids, options)
    const first = (await slow.next()).value!
    const other = await collect(model.generate(psalm.ids, options))
    expect(other.usage!.completionTokens).toBe(300)
    const steps = batches.length
    await sleep(50)
    expect(batches).toHaveLength(steps) // nothing runs for a reader that is not there
    expect(batches.filter((size) => size === 2).length).toBeLessThan(64)
    const rest = await collect(slow)
    expect([...first.ids, ...rest.ids]).toEqual(whole.ids)
  })

  test('leaving the loop frees the place', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    for (let i = 0; i < 5; i++) {
      for await (const piece of model.generate(genesis.prompt)) {
        expect(piece.ids[0]).toBe(genesis.greedy[0])
        break
      }
    }
    await expectFree(model)
  })

  test('throwing in the loop frees the place', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    const reading = async () => {
      for await (const _ of model.generate(genesis.prompt)) throw new Error('mine')
    }
    await expect(reading()).rejects.toThrow('mine')
    await expectFree(model)
  })

  test('return(): before the first piece, while a piece is awaited, twice', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    const batches = watchBatches()
    const unread = model.generate(genesis.prompt)
    expect(await unread.return(undefined)).toEqual({ done: true, value: undefined })
    expect(await unread.next()).toEqual({ done: true, value: undefined })
    expect(batches).toEqual([])

    const read = model.generate(genesis.prompt)
    const [first, returned] = await Promise.all([read.next(), read.return(undefined)])
    expect([first.done, returned.done]).toEqual([false, true])
    expect(await read.return(undefined)).toEqual({ done: true, value: undefined })
    await expectFree(model)
  })

  test('one never begun takes no place', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    model.generate(genesis.prompt)
    await expectFree(model)
  })
})

describe('an AbortSignal', () => {
  const reason = new Error('enough')

  test('aborted while it begins, at any turn', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    for (let turns = 0; turns < 20; turns++) {
      const controller = new AbortController()
      const first = model.generate(genesis.ids, { signal: controller.signal }).next()
      first.catch(() => {})
      for (let i = 0; i < turns; i++) await undefined
      controller.abort(reason)
      await expect(first).rejects.toBe(reason)
    }
    await expectFree(model)
  })

  test('aborted before', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    const batches = watchBatches()
    await expect(model.generate(genesis.ids, { signal: AbortSignal.abort(reason) }).next()).rejects.toBe(reason)
    await expect(model.generate('', { signal: AbortSignal.abort() }).next()).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    )
    expect(batches).toEqual([])
    await expectFree(model)
  })

  test('while it waits its turn', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    const first = model.generate(genesis.ids, { maxTokens: 40 })
    await first.next()
    const controller = new AbortController()
    const waiting = collect(model.generate(psalm.ids, { signal: controller.signal }))
    await sleep(1)
    controller.abort(reason)
    await expect(waiting).rejects.toBe(reason)
    expect((await collect(first)).usage!.completionTokens).toBe(40)
  })

  test('within a long prompt: no further batch of it, and the others go on', async () => {
    using model = await load(demoFolder, { sequences: 2, prefillTokens: 64 })
    const other = collect(model.generate(genesis.ids, { maxTokens: 40 }))
    const batches = watchBatches()
    const controller = new AbortController()
    const long = collect(model.generate(Array(4000).fill(7), { signal: controller.signal }))
    await vi.waitUntil(() => batches.filter((size) => size === 64).length === 3, { interval: 1 })
    controller.abort(reason)
    await expect(long).rejects.toBe(reason)
    expect((await other).ids).toEqual(genesis.greedy)
    expect(batches.filter((size) => size === 64).length).toBeLessThanOrEqual(4) // one may have been under way
    expect((await collect(model.generate(psalm.ids, { maxTokens: 40 }))).ids).toEqual(psalm.greedy)
  })

  test('while tokens come, also those not read yet', async () => {
    using model = await load(demoFolder, { sequences: 1 })
    const controller = new AbortController()
    const generation = model.generate(genesis.prompt, { maxTokens: 20, signal: controller.signal })
    await generation.next()
    await sleep(100) // the rest is generated
    controller.abort(reason)
    await expect(generation.next()).rejects.toBe(reason)
    expect(await generation.next()).toEqual({ done: true, value: undefined })

    const awaited = model.generate(genesis.ids, { signal: AbortSignal.timeout(20), ignoreEos: true, maxTokens: 4000 })
    await expect(collect(awaited)).rejects.toThrow(expect.objectContaining({ name: 'TimeoutError' }))
    await expectFree(model)
  })

  test('after the end: nothing, and no listener stays', async () => {
    using model = await load(demoFolder)
    const controller = new AbortController()
    const remove = vi.spyOn(controller.signal, 'removeEventListener')
    const add = vi.spyOn(controller.signal, 'addEventListener')
    const got = await collect(model.generate(genesis.prompt, { maxTokens: 5, signal: controller.signal }))
    controller.abort(reason)
    expect(got.finishReason).toBe('length')
    expect(remove.mock.calls.map(([, listener]) => listener)).toEqual(add.mock.calls.map(([, listener]) => listener))
  })
})
