// What model.generate gives, on the demo model: prompts, text, ends, log-probabilities, settings.
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { GenerateOptions, Model, Prompt } from '../dist/index.js'
import { collect, demoExpected, demoFolder, folderLike, goldenFolder, load, sleep } from './demo.js'

const [genesis, psalm, matthew] = demoExpected
const the = 262
const comma = 15

let model: Model
beforeAll(async () => {
  model = await load(demoFolder)
})
afterAll(() => model.dispose())

const generate = (prompt: Prompt, options: GenerateOptions = {}) => collect(model.generate(prompt, options))

/** A generation by a model that lives only for it. */
async function generateIn(folder: string, prompt: Prompt, options?: GenerateOptions) {
  using other = await load(folder)
  return await collect(other.generate(prompt, options))
}

describe('prompts', () => {
  test('text', async () => {
    for (const { prompt, ids, greedy, text } of demoExpected) {
      const got = await generate(prompt, { maxTokens: greedy.length })
      expect(got).toMatchObject({ text, ids: greedy, finishReason: 'length' })
      expect(got.usage).toEqual({ promptTokens: ids.length, completionTokens: greedy.length })
    }
  })

  test('ids, as an array and as an Int32Array', async () => {
    const { ids, greedy, text } = psalm
    expect(await generate(ids, { maxTokens: 40 })).toMatchObject({ text, ids: greedy })
    expect(await generate(Int32Array.from(ids), { maxTokens: 40 })).toMatchObject({ text, ids: greedy })
  })

  test.each(['Array', 'Int32Array'] as const)('an %s that the caller goes on with', async (type) => {
    const ids = type === 'Array' ? [...psalm.ids] : Int32Array.from(psalm.ids)
    const generation = model.generate(ids, { maxTokens: 40 })
    const first = generation.next()
    ids.fill(7)
    const rest = collect(generation)
    expect([...(await first).value!.ids, ...(await rest).ids]).toEqual(psalm.greedy)
  })

  test('messages, by the chat template', async () => {
    const template =
      '{{ bos_token }}{% for m in messages %}{{ m.role }} 1\n{{ m.content }}{% endfor %}{% if add_generation_prompt %} God{% endif %}'
    const folder = folderLike(demoFolder, { 'chat_template.jinja': template })
    const got = await generateIn(folder, [{ role: 'Ge', content: 'In the beginning' }], { maxTokens: 40 })
    expect(got).toMatchObject({ text: genesis.text, ids: genesis.greedy })
    expect(got.usage!.promptTokens).toBe(genesis.ids.length)
  })

  test('one token, and an empty text: the beginning of one', async () => {
    const one = await generate([1], { maxTokens: 8 })
    expect(one.usage).toEqual({ promptTokens: 1, completionTokens: 8 })
    expect((await generate('', { maxTokens: 8 })).ids).toEqual(one.ids)
  })

  test('a model without a tokenizer takes and gives ids', async () => {
    using plain = await load(goldenFolder('llama-tied'))
    const got = await collect(plain.generate([1, 2, 3], { maxTokens: 5, ignoreEos: true }))
    expect(got).toMatchObject({ text: '', finishReason: 'length', usage: { promptTokens: 3, completionTokens: 5 } })
    expect(got.ids).toHaveLength(5)
  })
})

describe('text', () => {
  test('a character of three tokens is in one piece', async () => {
    // Uniform draws among the three byte tokens of '€' give it in right and in wrong order.
    const euro = await model.tokenizer!.encode('€', { addSpecialTokens: false })
    const logitBias = Object.fromEntries(Array.from(euro, (id) => [id, 1e6]))
    const got = await generate('', { maxTokens: 240, temperature: 1000, seed: 1, logitBias })
    expect(new Set(got.ids)).toEqual(new Set(euro))
    expect(got.text).toContain('€')
    expect(got.text).toBe(await model.tokenizer!.decode(got.ids))
    for (const { text } of got.pieces) expect(text).not.toMatch(/\p{Surrogate}/u)
  })

  test.each([
    ['within a token', 'rae', ' of Is'],
    ['across tokens', 'sight of', ' of Israel, in the '],
    ['the first of several to be complete', ['the LORD', 'zebra', 'sight of the', 'sight of'], ' of Israel, in the '],
    ['at the very beginning', ' of', ''],
    ['held back, and never complete', 'in the sight of all the earth, and in the sight of x', genesis.text],
  ])('stop string %s', async (_, stop, text) => {
    const got = await generate(genesis.prompt, { maxTokens: 40, stop })
    expect(got.text).toBe(text)
    expect(got.finishReason).toBe(text === genesis.text ? 'length' : 'stop')
    expect(got.ids).toEqual(genesis.greedy.slice(0, got.ids.length))
    expect(got.usage!.completionTokens).toBe(got.ids.length)
  })

  test('a stop string gives the same whether the reader is fast or slow', async () => {
    const options = { maxTokens: 40, stop: 'the LORD' }
    const fast = await generate(genesis.prompt, options)
    const slow = model.generate(genesis.prompt, options)
    const first = (await slow.next()).value!
    await sleep(200) // the model generates all 40 meanwhile
    const { text, ids, finishReason, usage } = await collect(slow)
    expect({ text: first.text + text, ids: [...first.ids, ...ids], finishReason, usage }).toEqual({
      text: ' of Israel, in the sight of ',
      ids: fast.ids,
      finishReason: 'stop',
      usage: fast.usage,
    })
  })
})

describe('ends', () => {
  const ended = genesis.greedy.slice(0, genesis.greedy.indexOf(comma) + 1)
  const config = JSON.parse(readFileSync(`${demoFolder}/config.json`, 'utf8'))

  test.each([
    ['generation_config.json', { 'generation_config.json': { eos_token_id: [2, comma] } }],
    ['config.json', { 'config.json': { ...config, eos_token_id: comma }, 'generation_config.json': undefined }],
    ['tokenizer_config.json', { 'tokenizer_config.json': { bos_token: '<s>', eos_token: ',' } }],
  ])('at an eos id of %s', async (_, files) => {
    using other = await load(folderLike(demoFolder, files))
    const got = await collect(other.generate(genesis.prompt, { maxTokens: 40 }))
    expect(got).toMatchObject({ ids: ended, finishReason: 'stop', text: ' of Israel,' })
    expect(got.usage!.completionTokens).toBe(ended.length)
    const on = await collect(other.generate(genesis.prompt, { maxTokens: 40, ignoreEos: true }))
    expect(on).toMatchObject({ ids: genesis.greedy, finishReason: 'length' })
  })

  test('after maxTokens, none included', async () => {
    const got = await generate(genesis.prompt, { maxTokens: 0 })
    expect(got).toMatchObject({ text: '', ids: [], finishReason: 'length' })
    expect(got.usage).toEqual({ promptTokens: genesis.ids.length, completionTokens: 0 })
    expect(got.pieces).toHaveLength(1)
  })

  test('where the context does', async () => {
    using small = await load(demoFolder, { context: 16 })
    const got = await collect(small.generate(genesis.ids, { ignoreEos: true }))
    expect(got).toMatchObject({ ids: genesis.greedy.slice(0, 5), finishReason: 'length' })
  })

  test('finish reason, usage and timings are on the last piece only', async () => {
    const began = performance.now()
    const { pieces, timings } = await generate(genesis.prompt, { maxTokens: 10 })
    const wall = performance.now() - began
    for (const piece of pieces.slice(0, -1)) expect(Object.keys(piece)).toEqual(['text', 'ids'])
    const { queue, prefill, decode } = timings!
    for (const ms of [queue, prefill, decode]) expect(ms).toBeGreaterThanOrEqual(0)
    expect(prefill).toBeGreaterThan(0)
    expect(queue + prefill + decode).toBeLessThanOrEqual(wall)
  })

  test('the queue begins when the first piece is asked for, with the encoding of text', async () => {
    using other = await load(demoFolder)
    const encode = other.tokenizer!.encode.bind(other.tokenizer)
    vi.spyOn(other.tokenizer!, 'encode').mockImplementation(async (...text) => {
      await sleep(100)
      return encode(...text)
    })
    const generation = other.generate(genesis.prompt, { maxTokens: 2 })
    await sleep(100)
    const began = performance.now()
    const { queue } = (await collect(generation)).timings!
    expect(queue).toBeGreaterThan(99) // a timer may be a millisecond early
    expect(queue).toBeLessThanOrEqual(performance.now() - began)
  })
})

describe('log-probabilities', () => {
  test('are those of transformers', async () => {
    for (const { prompt, greedy, logprobs } of demoExpected) {
      const got = await generate(prompt, { maxTokens: greedy.length, logprobs: 5 })
      expect(got.logprobs.map(({ id }) => id)).toEqual(greedy)
      got.logprobs.forEach(({ id, logprob, top }, i) => {
        // expected.json has four decimals: half a unit of the last, and as much again for f32 sums in another order.
        expect(Math.abs(logprob - logprobs[i]!)).toBeLessThan(1e-4)
        expect(top).toHaveLength(5)
        expect(top[0]).toEqual({ id, logprob })
        expect(top.map((t) => t.logprob)).toEqual(top.map((t) => t.logprob).toSorted((a, b) => b - a))
      })
    }
  })

  test('go with the ids of their piece, also where a stop string holds text back', async () => {
    const got = await generate(genesis.prompt, { maxTokens: 40, logprobs: 0, stop: 'sight of all the world' })
    for (const { ids, logprobs = [] } of got.pieces) expect(logprobs.map(({ id }) => id)).toEqual(ids)
    expect(got.logprobs).toHaveLength(40)
    expect(got.logprobs[0]!.top).toEqual([])
  })

  test('are of the whole vocabulary, and before any setting', async () => {
    const plain = await generate(genesis.prompt, { maxTokens: 1, logprobs: 1000 })
    const biased = await generate(genesis.prompt, {
      maxTokens: 1,
      logprobs: 1000,
      logitBias: { 7: 50 },
      temperature: 9,
    })
    expect(biased.logprobs[0]!.top).toEqual(plain.logprobs[0]!.top)
    using tiny = await load(goldenFolder('llama-tied'))
    const all = await collect(tiny.generate([1], { maxTokens: 1, logprobs: 1000 }))
    const { top } = all.logprobs[0]!
    expect(new Set(top.map(({ id }) => id)).size).toBe(tiny.config.vocabSize)
    // Rounding each of V probabilities to f32 moves their sum by V 2^-24 at most.
    expect(top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 4)
  })

  test('in one batch, some with and some without', async () => {
    const [none, two] = await Promise.all([
      generate(genesis.prompt, { maxTokens: 5 }),
      generate(psalm.prompt, { maxTokens: 5, logprobs: 2 }),
    ])
    expect(none.logprobs).toEqual([])
    expect(two.logprobs.map(({ top }) => top.length)).toEqual([2, 2, 2, 2, 2])
  })
})

describe('settings', () => {
  const drawn = { maxTokens: 24, temperature: 1 }

  test('a seed gives the same tokens, alone and among others', async () => {
    const options = { ...drawn, seed: 2 ** 40 + 7, topP: 0.95, logprobs: 0 }
    const alone = await generate(genesis.prompt, options)
    const others = [psalm, matthew].flatMap(({ prompt }) => [
      generate(prompt, { ...drawn, seed: 1, repetitionPenalty: 1.2 }),
      generate(prompt, { ...drawn, logitBias: { [the]: -5 }, topK: 3 }),
    ])
    const [among] = await Promise.all([generate(genesis.prompt, options), ...others])
    expect(among!.ids).toEqual(alone.ids)
    expect(among!.logprobs).toEqual(alone.logprobs)
  })

  test('other seeds give other tokens, in their low and their high half', async () => {
    const seeds = [7, 8, 2 ** 40 + 7, undefined, undefined]
    const runs = await Promise.all(seeds.map((seed) => generate(genesis.prompt, { ...drawn, seed })))
    expect(new Set(runs.map(({ ids }) => ids.join())).size).toBe(seeds.length)
  })

  test.each<[string, GenerateOptions]>([
    ['temperature 0', { temperature: 0 }],
    ['topK 1', { temperature: 5, topK: 1 }],
    ['a small topP', { temperature: 1, topP: 1e-6 }],
    ['minP 1', { temperature: 5, minP: 1 }],
  ])('%s is greedy', async (_, options) => {
    expect((await generate(psalm.prompt, { maxTokens: 40, ...options })).ids).toEqual(psalm.greedy)
  })

  test('logitBias adds to logits: it forces a token and rules one out', async () => {
    const forced = await generate(genesis.prompt, { maxTokens: 5, temperature: 1, logitBias: { [the]: 100 } })
    expect(forced.ids).toEqual([the, the, the, the, the])
    const without = await generate(genesis.prompt, { maxTokens: 40, logitBias: { [comma]: -100 } })
    expect(without.ids).not.toContain(comma)
  })

  /** Greedy decoding of 24 tokens by the definition of the penalties. */
  async function penalised(prompt: number[], repetition: number, frequency: number, presence: number) {
    const generated: number[] = []
    while (generated.length < 24) {
      const ids = [...prompt, ...generated]
      const [logits] = await model.forward([ids])
      const row = (await logits!.read()).subarray(-model.config.vocabSize)
      logits!.dispose()
      for (const id of new Set(ids)) {
        const count = generated.filter((other) => other === id).length
        row[id] = row[id]! > 0 ? row[id]! / repetition : row[id]! * repetition
        row[id]! -= frequency * count + (count > 0 ? presence : 0)
      }
      generated.push(row.indexOf(Math.max(...row)))
    }
    return generated
  }

  test('penalties are as defined, alone and among others', async () => {
    const settings = [
      [1.3, 0, 0],
      [1, 1.5, 0],
      [1, 0, 2],
      [1.1, 0.5, -1],
    ] as const
    const runs = settings.map(([repetitionPenalty, frequencyPenalty, presencePenalty]) =>
      generate(genesis.ids, { maxTokens: 24, ignoreEos: true, repetitionPenalty, frequencyPenalty, presencePenalty }),
    )
    const [plain, ...got] = await Promise.all([generate(genesis.ids, { maxTokens: 24 }), ...runs])
    expect(plain!.ids).toEqual(genesis.greedy.slice(0, 24))
    for (const [i, [repetition, frequency, presence]] of settings.entries()) {
      const want = await penalised(genesis.ids, repetition, frequency, presence)
      expect(got[i]!.ids).toEqual(want)
      expect(want).not.toEqual(plain!.ids)
    }
  })

  test('a penalty counts anew for each sequence in a place', async () => {
    using one = await load(demoFolder, { sequences: 1 })
    const options = { maxTokens: 20, repetitionPenalty: 1.5 }
    const first = await collect(one.generate(genesis.prompt, options))
    await collect(one.generate(psalm.prompt, options))
    expect((await collect(one.generate(genesis.prompt, options))).ids).toEqual(first.ids)
  })

  test('generation_config.json sets the defaults, and options go before them', async () => {
    const settings = { do_sample: true, temperature: 50, top_k: 1, repetition_penalty: 1.3, eos_token_id: 2 }
    using other = await load(folderLike(demoFolder, { 'generation_config.json': settings }))
    const penalty = await generate(genesis.prompt, { maxTokens: 20, repetitionPenalty: 1.3 })
    expect((await collect(other.generate(genesis.prompt, { maxTokens: 20 }))).ids).toEqual(penalty.ids)
    const plain = await collect(other.generate(genesis.prompt, { maxTokens: 20, repetitionPenalty: 1 }))
    expect(plain.ids).toEqual(genesis.greedy.slice(0, 20))
    const wild = await collect(other.generate(genesis.prompt, { maxTokens: 20, topK: 0, seed: 1 }))
    expect(wild.ids).not.toEqual(penalty.ids)
  })

  test('without do_sample its temperature is not used, its penalty is', async () => {
    const settings = { do_sample: false, temperature: 50, repetition_penalty: 1.3 }
    const got = await generateIn(folderLike(demoFolder, { 'generation_config.json': settings }), genesis.ids, {
      maxTokens: 20,
    })
    expect(got.ids).toEqual((await generate(genesis.ids, { maxTokens: 20, repetitionPenalty: 1.3 })).ids)
  })
})
