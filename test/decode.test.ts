// Steps that go on by themselves: recorded once for each size of the batch, queued before the tokens of the step before
// have come, with the same bits as steps that are queued op by op.
import { afterEach, describe, expect, test, vi } from 'vitest'
import { binding } from '../dist/binding.js'
import { Decoder } from '../dist/decode.js'
import type { GenerateOptions, Graph, Model } from '../dist/index.js'
import { maxGraphs } from '../dist/model/config.js'
import { NemotronH } from '../dist/model/nemotron-h.js'
import { collect, folderLike, goldenFolder, load } from './demo.js'
import { memory, onCpu } from './device.ts'

const tiny = goldenFolder('nemotron-h-hybrid')

afterEach(() => {
  vi.restoreAllMocks()
  binding.useOverlap('on')
})

/** What is recorded from now on. */
function watchGraphs(): Graph[] {
  const graphs: Graph[] = []
  const { capture } = binding
  vi.spyOn(binding, 'capture').mockImplementation((device, fn) => {
    const graph = capture(device, fn)
    graphs.push(graph)
    return graph
  })
  return graphs
}

const generate = (model: Model, prompt: number[], options: GenerateOptions) =>
  collect(model.generate(prompt, { ignoreEos: true, ...options }))

describe('recorded steps', () => {
  // A bias is a list of any length, so such steps are not recorded; one of 0 changes nothing.
  test.each([
    ['greedy', {}],
    ['drawn', { temperature: 0.9, topP: 0.95, seed: 3 }],
    ['with penalties', { repetitionPenalty: 1.3, frequencyPenalty: 0.2, temperature: 0.7, seed: 4 }],
  ])('give the bits of queued ones: %s', async (_, options) => {
    using model = await load(tiny)
    const graphs = watchGraphs()
    const given = { ...options, maxTokens: 20, logprobs: 3 }
    const queued = await generate(model, [5, 6, 7], { ...given, logitBias: { 0: 0 } })
    expect(graphs).toHaveLength(0)
    const recorded = await generate(model, [5, 6, 7], given)
    expect(graphs).toHaveLength(1)
    expect(recorded.ids).toEqual(queued.ids)
    expect(recorded.logprobs).toEqual(queued.logprobs)
  })

  test.skipIf(onCpu).each(['bf16', 'fp8'] as const)(
    'give the bits of launches that do not overlap, %s',
    async (weights) => {
      const given = { maxTokens: 20, logprobs: 3 }
      const ways = ['on', 'off'] as const
      const results = []
      for (const overlap of ways) {
        binding.useOverlap(overlap)
        using model = await load(tiny, { weights })
        results.push(await generate(model, [5, 6, 7], given))
      }
      expect(results[0]!.ids).toEqual(results[1]!.ids)
      expect(results[0]!.logprobs).toEqual(results[1]!.logprobs)
    },
  )

  test('are one for each size of the batch, and for what is asked besides', async () => {
    using model = await load(tiny)
    const graphs = watchGraphs()
    await generate(model, [1, 2], { maxTokens: 9 })
    await generate(model, [3], { maxTokens: 5, temperature: 0.5 })
    expect(graphs).toHaveLength(1)
    await Promise.all([2, 9].map((maxTokens) => generate(model, [1, 2], { maxTokens })))
    expect(graphs).toHaveLength(2)
    await generate(model, [1], { maxTokens: 3, logprobs: 0 })
    await generate(model, [1], { maxTokens: 3, presencePenalty: 1 })
    expect(graphs).toHaveLength(4)
  })

  test('are let go when there are many', async () => {
    const sequences = maxGraphs + 3
    using model = await load(tiny, { sequences, cacheTokens: 64 * sequences }) // a page each
    const graphs = watchGraphs()
    const lengths = Array.from({ length: sequences }, (_, s) => s + 3)
    const alone = await generate(model, [9, 8], { maxTokens: sequences + 3 })
    const all = await Promise.all(lengths.map((maxTokens) => generate(model, [9, 8], { maxTokens })))
    for (const [s, { ids }] of all.entries()) expect(ids).toEqual(alone.ids.slice(0, lengths[s]))
    expect(graphs).toHaveLength(1 + sequences) // that of one sequence twice: it was the first to go
    expect(graphs.map(({ disposed }) => disposed)).toEqual(graphs.map((_, i) => i < graphs.length - maxGraphs))
  })

  test('take nothing more from one to the next', async () => {
    using model = await load(tiny)
    const held: number[] = []
    const step = Decoder.prototype.step
    vi.spyOn(Decoder.prototype, 'step').mockImplementation(function (this: Decoder, ...args) {
      const tokens = step.apply(this, args)
      held.push(memory().used)
      return tokens
    })
    await generate(model, [1, 2, 3], { maxTokens: 40 })
    expect(new Set(held.slice(2)).size).toBe(1)
  })
})

describe('the loop', () => {
  test('queues a step before the tokens of the one before have come', async () => {
    using model = await load(tiny)
    const events: string[] = []
    const step = Decoder.prototype.step
    vi.spyOn(Decoder.prototype, 'step').mockImplementation(function (this: Decoder, ...args) {
      events.push('queued')
      const tokens = step.apply(this, args)
      tokens.then(() => events.push('come'))
      return tokens
    })
    await generate(model, [1, 2, 3], { maxTokens: 12 })
    const steps = 11 // the prompt gives the first token
    expect(events.filter((event) => event === 'queued')).toHaveLength(steps)
    for (let i = 0, [queued, come] = [0, 0]; i < events.length; i++) {
      if (events[i] === 'queued') queued++
      else expect(queued).toBeGreaterThanOrEqual(Math.min(steps, ++come + 1))
    }
  })

  test('has queued one step too many when an end of text comes, and drops what it gives', async () => {
    using endless = await load(tiny)
    const { ids } = await generate(endless, [1, 2, 3], { maxTokens: 20 })
    const end = ids.findIndex((id, i) => i > 3 && ids.indexOf(id) === i)
    using model = await load(folderLike(tiny, { 'generation_config.json': { eos_token_id: ids[end] } }))
    const step = vi.spyOn(Decoder.prototype, 'step')
    const stopped = await collect(model.generate([1, 2, 3], { maxTokens: 20 }))
    expect(stopped.finishReason).toBe('stop')
    expect(stopped.ids).toEqual(ids.slice(0, end + 1))
    expect(step).toHaveBeenCalledTimes(end + 1)
    const next = await generate(model, [1, 2, 3], { maxTokens: 20 }) // in the same place
    expect(next.ids).toEqual(ids)
  })

  test('with prefillFirst, decodes when no prompt has anything left', async () => {
    const batches: string[] = []
    const forward = NemotronH.prototype.forward
    const step = Decoder.prototype.step
    vi.spyOn(NemotronH.prototype, 'forward').mockImplementation(function (this: NemotronH, batch, state) {
      if (!batch.decode) batches.push('prompts')
      return forward.call(this, batch, state)
    })
    vi.spyOn(Decoder.prototype, 'step').mockImplementation(function (this: Decoder, ...args) {
      batches.push('step')
      return step.apply(this, args)
    })
    const run = async (prefillFirst: boolean) => {
      batches.length = 0
      using model = await load(tiny, { prefillFirst, prefillTokens: 32 })
      const [short, long] = [[4], Array.from({ length: 100 }, (_, i) => i % 50)]
      return await Promise.all([short, long].map((prompt) => generate(model, prompt, { maxTokens: 8 })))
    }
    const mixed = await run(false)
    expect(batches.indexOf('step')).toBeLessThan(batches.lastIndexOf('prompts'))
    const apart = await run(true)
    expect(batches.indexOf('step')).toBeGreaterThan(batches.lastIndexOf('prompts'))
    expect(apart.map(({ ids }) => ids)).toEqual(mixed.map(({ ids }) => ids))
  })
})
