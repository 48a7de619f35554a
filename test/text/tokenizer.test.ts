// The tokenizer: ids and text against the demo model's, broken folders, and the life of its thread.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { Worker } from 'node:worker_threads'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Tokenizer } from '../../dist/text/tokenizer.js'
import {
  demoExpected,
  demoFolder,
  demoTokenizer,
  expectNoThreads,
  lastWorker,
  modelFolder,
  sentencePieceTokenizer,
} from './folders.js'

describe('the demo tokenizer', () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = await Tokenizer.load(demoFolder)
  })
  afterAll(() => tokenizer.dispose())

  it('gives the expected ids and texts', async () => {
    for (const { prompt, ids, greedy, text } of demoExpected) {
      expect([...(await tokenizer.encode(prompt))]).toEqual(ids)
      expect(await tokenizer.decode(ids)).toBe(prompt)
      expect(await tokenizer.decode(greedy)).toBe(text)
    }
  })

  it('adds the beginning of sequence once, and not where asked not to', async () => {
    expect((await tokenizer.encode('God'))[0]).toBe(1)
    const bare = await tokenizer.encode('God', { addSpecialTokens: false })
    expect([...(await tokenizer.encode('God'))]).toEqual([1, ...bare])
    expect([...(await tokenizer.encode('<s>God', { addSpecialTokens: false }))]).toEqual([1, ...bare])
    expect([...(await tokenizer.encode(''))]).toEqual([1])
    expect(await tokenizer.encode('', { addSpecialTokens: false })).toEqual(new Int32Array(0))
  })

  it('knows its special tokens', async () => {
    expect(tokenizer.special).toEqual({
      bos: { token: '<s>', id: 1 },
      eos: { token: '</s>', id: 2 },
      pad: { token: '<pad>', id: 3 },
      unk: { token: '<unk>', id: 0 },
    })
    expect(tokenizer.size).toBe(1536)
    expect([0, 1, 2, 3, 4].map((id) => tokenizer.isSpecial(id))).toEqual([true, true, true, true, false])
    expect(await tokenizer.tokenToId('</s>')).toBe(2)
    expect(await tokenizer.tokenToId('no such token')).toBeUndefined()
  })

  it('leaves special tokens out of the text unless asked', async () => {
    const ids = await tokenizer.encode('God</s>')
    expect(await tokenizer.decode(ids)).toBe('God')
    expect(await tokenizer.decode(ids, { skipSpecialTokens: false })).toBe('<s>God</s>')
    expect(await tokenizer.decode([1, 2])).toBe('')
  })

  it('gives no text to no ids and to ids without a token', async () => {
    expect(await tokenizer.decode([])).toBe('')
    expect(await tokenizer.decode([5000, 390, 1536])).toBe(await tokenizer.decode([390]))
    expect(await tokenizer.decodeBatch([[], [390], Int32Array.of(1, 390)])).toEqual(['', ' God', ' God'])
  })

  it('knows the texts of tokens that hold whole characters', async () => {
    const ids = Array.from({ length: tokenizer.size }, (_, id) => id)
    const texts = await tokenizer.decodeBatch(
      ids.map((id) => [id]),
      { skipSpecialTokens: false },
    )
    const whole = ids.map((id) => tokenizer.wholeText(id))
    expect(whole).toEqual(texts.map((text) => (text.includes('\ufffd') ? undefined : text)))
    expect(whole.slice(0, 3)).toEqual(['<unk>', '<s>', '</s>'])
    expect(whole.filter((text) => text === undefined).length).toBe(128) // a token for each byte past ASCII
    expect([-1, 1536, 5000].map((id) => tokenizer.wholeText(id))).toEqual([undefined, undefined, undefined])
  })

  it('knows those of added tokens as they are written, and none where neighbours matter', async () => {
    const wholeTexts = async (changes: object, model: object = {}) => {
      const json = { ...demoTokenizer, ...changes, model: { ...demoTokenizer.model, ...model } }
      using tokenizer = await Tokenizer.load(modelFolder({ 'tokenizer.json': json }))
      return [390, 1540, 1539].map((id) => tokenizer.wholeText(id))
    }
    const added = { ...demoTokenizer.added_tokens[0], id: 1540, content: '<｜für mich｜>' }
    const added_tokens = [...demoTokenizer.added_tokens, added]
    expect(await wholeTexts({ added_tokens })).toEqual([' God', '<｜für mich｜>', undefined]) // no token has id 1539
    const none = [undefined, undefined, undefined]
    expect(await wholeTexts({ added_tokens }, { end_of_word_suffix: '</w>' })).toEqual(none)
    expect(await wholeTexts({ added_tokens, decoder: { type: 'Fuse' } })).toEqual(none)
  })

  it('decodes what it encoded', async () => {
    const special = /<unk>|<s>|<\/s>|<pad>/
    const text = fc.string({ unit: 'binary', maxLength: 60 }).filter((s) => !special.test(s))
    await fc.assert(
      fc.asyncProperty(text, async (s) => {
        expect(await tokenizer.decode(await tokenizer.encode(s))).toBe(s)
      }),
    )
    for (const s of ['e\u0301 नमस्ते', '漢字かな', '👩‍👩‍👧 🇫🇷', ' .  , \n\n\t!', '\ufeffBOM', '\ud83d alone']) {
      expect(await tokenizer.decode(await tokenizer.encode(s))).toBe(Buffer.from(s).toString())
    }
  })

  it('answers many calls at once, each with its own', async () => {
    const texts = Array.from({ length: 200 }, (_, i) => `And verse ${i}`)
    const ids = await Promise.all(texts.map((text) => tokenizer.encode(text)))
    expect(await Promise.all(ids.map((each) => tokenizer.decode(each)))).toEqual(texts)
  })

  it('decodes in one exchange what one turn of the event loop asks for', async () => {
    const sent = vi.spyOn(Worker.prototype, 'postMessage')
    const ids = Int32Array.of(390)
    const texts = [tokenizer.decode(ids), tokenizer.decode([1, 390], { skipSpecialTokens: false })]
    ids[0] = 1 // it was asked for before
    await Promise.resolve()
    await Promise.all([...texts, tokenizer.decodeBatch([[390], [390, 390]])])
    expect(await Promise.all(texts)).toEqual([' God', '<s> God'])
    expect(sent).toHaveBeenCalledTimes(2 + 1) // two kinds, and one when their turn was over
    sent.mockRestore()
  })

  it('refuses what is not text, ids or an option', async () => {
    await expect(tokenizer.encode(5 as never)).rejects.toThrow(
      new TypeError('Tokenizer.encode: text is 5, expected a string'),
    )
    await expect(tokenizer.encode('a', { addSpecialToken: true } as never)).rejects.toThrow(
      "Tokenizer.encode: unknown option 'addSpecialToken', did you mean 'addSpecialTokens'?",
    )
    for (const [ids, found] of [
      [undefined, 'undefined'],
      [42, '42'],
      ['text', "'text'"],
      [new DataView(new ArrayBuffer(4)), 'a DataView'],
    ]) {
      await expect(tokenizer.decode(ids as never)).rejects.toThrow(
        new TypeError(`Tokenizer.decode: ids is ${found}, expected a list of token ids`),
      )
    }
    for (const [batch, found] of [
      [5, '5'],
      [[390], '[390]'],
    ]) {
      await expect(tokenizer.decodeBatch(batch as never)).rejects.toThrow(
        new TypeError(`Tokenizer.decodeBatch: batch is ${found}, expected a list, each a list of token ids`),
      )
    }
    for (const id of [-1, 1.5, Number.NaN]) {
      await expect(tokenizer.decode([390, id])).rejects.toThrow(
        new RangeError(`Tokenizer.decode: ids[1] is ${id}, expected an integer >= 0`),
      )
    }
  })
})

it('lets an absent tokenizer_config.json and absent optional parts be', async () => {
  const { model } = demoTokenizer
  using tokenizer = await Tokenizer.load(modelFolder({ 'tokenizer.json': { model } }))
  expect(tokenizer.special).toEqual({})
  expect(tokenizer.size).toBe(1536)
})

it('never cleans up English spacing', async () => {
  const files = { 'tokenizer.json': demoTokenizer, 'tokenizer_config.json': { clean_up_tokenization_spaces: true } }
  using tokenizer = await Tokenizer.load(modelFolder(files))
  expect(await tokenizer.decode(await tokenizer.encode("it 's , so ."))).toBe("it 's , so .")
})

it('takes special tokens written as objects', async () => {
  const config = { bos_token: { content: '<s>', lstrip: false }, eos_token: 'nowhere', pad_token: null }
  using tokenizer = await Tokenizer.load(
    modelFolder({ 'tokenizer.json': demoTokenizer, 'tokenizer_config.json': config }),
  )
  expect(tokenizer.special).toEqual({ bos: { token: '<s>', id: 1 } })
})

it('encodes and decodes in the manner of SentencePiece', async () => {
  using tokenizer = await Tokenizer.load(modelFolder({ 'tokenizer.json': sentencePieceTokenizer() }))
  for (const text of ['hello hello', ' hello', 'été 漢', 'a  b']) {
    expect(await tokenizer.decode(await tokenizer.encode(text))).toBe(text)
  }
})

it('refuses a template token that the vocabulary lacks', async () => {
  const post_processor = {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<bos>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  }
  using tokenizer = await Tokenizer.load(modelFolder({ 'tokenizer.json': { ...demoTokenizer, post_processor } }))
  await expect(tokenizer.encode('God')).rejects.toThrow(
    "Tokenizer.encode: token '<bos>' is not in the vocabulary, expected every token of the post-processor there",
  )
})

describe('a broken folder', () => {
  const { model } = demoTokenizer
  const whole = JSON.stringify(demoTokenizer)
  const cases: Record<string, { content: unknown; message: RegExp }> = {
    truncated: {
      content: whole.slice(0, whole.length / 2),
      message: /tokenizer\.json is not JSON \(.+\), expected a complete JSON file$/,
    },
    empty: { content: '', message: /tokenizer\.json is empty, expected a complete JSON file$/ },
    'not an object': { content: '[1]', message: /tokenizer\.json is \[1\], expected a JSON object$/ },
    'of nothing': {
      content: {},
      message: /tokenizer\.json: model is undefined, expected an object with type and vocab$/,
    },
    'of an unknown model': {
      content: { ...demoTokenizer, model: { ...model, type: 'WordLevel' } },
      message: /tokenizer\.json: model\.type is 'WordLevel', expected BPE, Unigram or WordPiece$/,
    },
    'without a vocabulary': {
      content: { ...demoTokenizer, model: { type: 'BPE', merges: [] } },
      message: /model\.vocab is undefined, expected an object of token: id$/,
    },
    'without merges': {
      content: { ...demoTokenizer, model: { type: 'BPE', vocab: { a: 0 } } },
      message: /model\.merges is undefined, expected a list$/,
    },
    'of an unknown decoder': {
      content: { ...demoTokenizer, decoder: { type: 'Morse' } },
      message: /tokenizer\.json cannot be used \(Unknown Decoder type: Morse\)$/,
    },
  }
  for (const [name, { content, message }] of Object.entries(cases)) {
    it(`${name}: says so and leaves no thread`, async () => {
      const folder = modelFolder({ 'tokenizer.json': content })
      const error = await Tokenizer.load(folder).catch((reason: Error) => reason)
      expect((error as Error).message).toMatch(message)
      expect((error as Error).message).toContain(`Tokenizer.load: ${folder}`)
      await expectNoThreads()
    })
  }

  it('without tokenizer.json: load names it, find finds none', async () => {
    const folder = modelFolder({})
    await expect(Tokenizer.load(folder)).rejects.toThrow(
      `Tokenizer.load: ${join(folder, 'tokenizer.json')} does not exist, expected a Hugging Face tokenizer.json`,
    )
    expect(await Tokenizer.find(folder)).toBeUndefined()
    await expectNoThreads()
  })

  it('with a broken tokenizer_config.json: names that', async () => {
    const folder = modelFolder({ 'tokenizer.json': demoTokenizer, 'tokenizer_config.json': '{"bos_token": ' })
    await expect(Tokenizer.find(folder)).rejects.toThrow(/tokenizer_config\.json is not JSON/)
    await expectNoThreads()
  })
})

describe('its thread', () => {
  it('ends with dispose; pending and later calls say so; a second dispose does nothing', async () => {
    const tokenizer = await Tokenizer.load(demoFolder)
    const pending = tokenizer.encode('God '.repeat(100_000))
    tokenizer.dispose()
    tokenizer.dispose()
    await expect(pending).rejects.toThrow(`Tokenizer.encode: the tokenizer of ${demoFolder} was disposed`)
    await expect(tokenizer.decode([1])).rejects.toThrow(`Tokenizer.decode: the tokenizer of ${demoFolder} was disposed`)
    await expectNoThreads()
  })

  it('ends with using', async () => {
    {
      using tokenizer = await Tokenizer.load(demoFolder)
      await tokenizer.encode('God')
    }
    await expectNoThreads()
  })

  it('rejects what is pending when it crashes, and everything after', async () => {
    const tokenizer = await Tokenizer.load(demoFolder)
    const pending = [tokenizer.encode('God '.repeat(100_000)), tokenizer.decode([390])]
    await lastWorker().terminate()
    for (const call of pending) await expect(call).rejects.toThrow(/crashed \(its thread exited with code 1\)$/)
    await expect(tokenizer.encode('God')).rejects.toThrow(/^Tokenizer\.encode: the tokenizer of .* crashed/)
    tokenizer.dispose()
    await expectNoThreads()
  })

  it('goes on after a call that failed', async () => {
    using tokenizer = await Tokenizer.load(demoFolder)
    await expect(tokenizer.tokenToId((() => {}) as never)).rejects.toThrow(/could not be cloned/)
    expect(await tokenizer.decode([390])).toBe(' God')
  })

  it('does not start, or ends, when loading is aborted', async () => {
    const reason = new Error('changed my mind')
    await expect(Tokenizer.load(demoFolder, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    const loading = Tokenizer.load(demoFolder, { signal: controller.signal })
    controller.abort(reason)
    await expect(loading).rejects.toBe(reason)
    await expectNoThreads()
  })

  it('keeps a process alive for a pending call and not longer, in an --eval script too', () => {
    const module = new URL('../../dist/text/tokenizer.js', import.meta.url).href
    const script = `
      import { Tokenizer } from '${module}'
      const tokenizer = await Tokenizer.load('${demoFolder}')
      tokenizer.encode('In the beginning God').then((ids) => console.log(ids[0]))
    `
    const args = ['--input-type=module', '--eval', script]
    // A process that its thread kept alive would run into the timeout.
    expect(execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 10_000 })).toBe('1\n')
  })

  it('leaves the event loop free while a long text is encoded', async () => {
    using tokenizer = await Tokenizer.load(demoFolder)
    const text = 'And the earth was without form, and void; '.repeat(20_000)
    const delay = monitorEventLoopDelay({ resolution: 5 })
    delay.enable()
    const ids = await tokenizer.encode(text)
    delay.disable()
    expect(ids.length).toBeGreaterThan(100_000)
    // 840 kB take hundreds of milliseconds, in one piece; 100 ms leave room for a busy machine.
    expect(delay.max / 1e6).toBeLessThan(100)
  })
})
