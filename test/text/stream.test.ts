// Streaming: however the ids are cut, the pieces join to the decode of all of them, hold whole characters only,
// and never show any of a stop string.

import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type TextPiece, TextStream, type TextStreamOptions } from '../../dist/text/stream.js'
import { type DecodeOptions, Tokenizer } from '../../dist/text/tokenizer.js'
import {
  demoExpected,
  demoFolder,
  demoTokenizer,
  expectNoThreads,
  modelFolder,
  sentencePieceTokenizer,
} from './folders.js'

let byteLevel: Tokenizer
let sentencePiece: Tokenizer
beforeAll(async () => {
  byteLevel = await Tokenizer.load(demoFolder)
  sentencePiece = await Tokenizer.load(modelFolder({ 'tokenizer.json': sentencePieceTokenizer() }))
})
afterAll(() => {
  byteLevel.dispose()
  sentencePiece.dispose()
})

/** Streams ids in pushes of the given sizes (the last repeated), up to a stop string or the end. */
async function streamed(
  tokenizer: Tokenizer,
  ids: ArrayLike<number>,
  { sizes = [1], ...options }: TextStreamOptions & { sizes?: number[] } = {},
): Promise<TextPiece[]> {
  const stream = new TextStream(tokenizer, options)
  const pieces: TextPiece[] = []
  const all = Array.from(ids)
  for (let i = 0; all.length > 0; i++) {
    const piece = await stream.push(all.splice(0, sizes[Math.min(i, sizes.length - 1)]))
    pieces.push(piece)
    if (piece.stop !== undefined) return pieces
  }
  return [...pieces, stream.finish()]
}

/** A tokenizer with the same ids none of which has a text of its own, so that all are decoded in windows. */
const withoutTexts = (tokenizer: Tokenizer, onDecode = (_batch: readonly ArrayLike<number>[]) => {}) =>
  ({
    size: tokenizer.size,
    isSpecial: (id: number) => tokenizer.isSpecial(id),
    wholeText: () => undefined,
    encode: (text: string) => tokenizer.encode(text),
    decode: (ids: ArrayLike<number>, options?: DecodeOptions) => tokenizer.decode(ids, options),
    decodeBatch(batch: readonly ArrayLike<number>[], options: DecodeOptions) {
      onDecode(batch)
      return tokenizer.decodeBatch(batch, options)
    },
  }) as unknown as Tokenizer

const textOf = (pieces: TextPiece[]) => pieces.map(({ text }) => text).join('')
const idsOf = (pieces: TextPiece[]) => pieces.flatMap(({ ids }) => ids)

/** The ids of a text's UTF-8 bytes, one token a byte. */
async function byteIds(bytes: Iterable<number>): Promise<number[]> {
  const ids: number[] = []
  for (const byte of bytes) ids.push((await sentencePiece.tokenToId(`<0x${hex(byte)}>`))!)
  return ids
}
const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, '0')

describe('pieces', () => {
  it('join to the expected texts', async () => {
    for (const { greedy, text } of demoExpected) {
      const pieces = await streamed(byteLevel, greedy)
      expect(textOf(pieces)).toBe(text)
      expect(idsOf(pieces)).toEqual(greedy)
    }
  })

  const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 8 })

  it('join to the whole decode of any text at any split, and hold whole characters', async () => {
    for (const tokenizer of [byteLevel, withoutTexts(byteLevel), sentencePiece]) {
      await fc.assert(
        fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 30 }), sizes, async (text, sizes) => {
          const ids = [...(await tokenizer.encode(text))]
          const pieces = await streamed(tokenizer, ids, { sizes })
          expect(textOf(pieces)).toBe(await tokenizer.decode(ids))
          expect(idsOf(pieces)).toEqual(ids)
          const points = [...textOf(pieces)]
          expect(pieces.flatMap((piece) => [...piece.text])).toEqual(points)
        }),
        { numRuns: 60 },
      )
    }
  })

  it('join to the whole decode of ids that are no text at all', async () => {
    for (const [tokenizer, last] of [
      [byteLevel, 300],
      [withoutTexts(byteLevel), 300],
      [sentencePiece, 292],
    ] as const) {
      const ids = fc.array(fc.integer({ min: 0, max: last }), { maxLength: 40 })
      await fc.assert(
        fc.asyncProperty(ids, sizes, fc.boolean(), async (ids, sizes, skipSpecialTokens) => {
          const pieces = await streamed(tokenizer, ids, { sizes, skipSpecialTokens })
          expect(textOf(pieces)).toBe(await tokenizer.decode(ids, { skipSpecialTokens }))
          expect(idsOf(pieces)).toEqual(ids)
        }),
        { numRuns: 100 },
      )
    }
  })

  it('continue the text of a context wherever it is cut', async () => {
    for (const tokenizer of [byteLevel, withoutTexts(byteLevel), sentencePiece]) {
      const ids = [...(await tokenizer.encode('hello hello 👩‍👧 été hello 漢字 hello'))]
      const whole = await tokenizer.decode(ids)
      for (let cut = 0; cut <= ids.length; cut++) {
        // What the context alone completes; a character that it leaves open belongs to what follows.
        const before = (await tokenizer.decode(ids.slice(0, cut))).replace(/\ufffd$/, '')
        const pieces = await streamed(tokenizer, ids.slice(cut), { context: ids.slice(0, cut) })
        expect(before + textOf(pieces)).toBe(whole)
      }
    }
  })

  it('keep the space that a decoder strips in front, where text comes before', async () => {
    const ids = await sentencePiece.encode('hello')
    expect(textOf(await streamed(sentencePiece, ids))).toBe('hello')
    expect(textOf(await streamed(sentencePiece, ids, { context: ids }))).toBe(' hello')
    expect(textOf(await streamed(sentencePiece, [...ids, 2, ...ids]))).toBe('hello hello')
  })

  it('carry the ids of a character with its last byte', async () => {
    const ids = await byteIds(Buffer.from('a😀b'))
    const pieces = await streamed(sentencePiece, ids)
    expect(pieces.map(({ text, ids }) => [text, ids.length])).toEqual([
      ['a', 1],
      ['', 0],
      ['', 0],
      ['', 0],
      ['😀', 4],
      ['b', 1],
      ['', 0],
    ])
  })

  it('end with a replacement character where a character stays incomplete', async () => {
    const ids = await byteIds(Buffer.from('a😀').subarray(0, 3))
    const pieces = await streamed(sentencePiece, ids)
    expect(pieces.map(({ text }) => text)).toEqual(['a', '', '', '\ufffd'])
    expect(idsOf(pieces)).toEqual(ids)
  })

  it('decode short windows, whatever is generated', async () => {
    let longest = 0
    const counting = withoutTexts(byteLevel, (batch) => {
      longest = Math.max(longest, ...batch.map((ids) => ids.length))
    })
    const { vocab } = demoTokenizer.model
    // Spaces; bytes that never are a character; special tokens; ids past the vocabulary.
    for (const id of ['Ġ', 'ÿ', 'Ģ'].map((token) => vocab[token]).concat(2, 5000))
      await streamed(counting, new Array(200).fill(id))
    // 8 units of context and 8 that move the window, of one token each, and one token held back.
    expect(longest).toBeLessThanOrEqual(17)
  })
})

describe('stop strings', () => {
  /** Streams a text character by character (every character of these texts is one token or a few). */
  async function stopped(text: string, stop: string | string[]) {
    const ids: number[] = []
    for (const character of text) ids.push(...(await byteLevel.encode(character, { addSpecialTokens: false })))
    const pieces = await streamed(byteLevel, ids, { stop })
    return { text: textOf(pieces), stop: pieces.at(-1)!.stop, pieces }
  }

  it('end the text in front of them', async () => {
    expect(await stopped('one END two', 'END')).toMatchObject({ text: 'one ', stop: 'END' })
    expect(await stopped('END', 'END')).toMatchObject({ text: '', stop: 'END' })
    expect(await stopped('one', 'END')).toMatchObject({ text: 'one', stop: undefined })
    expect(await stopped('über 😀!', '😀')).toMatchObject({ text: 'über ', stop: '😀' })
  })

  it('hold text back only while it can become one', async () => {
    const { pieces } = await stopped('aEbENcEN', 'END')
    expect(pieces.map(({ text }) => text)).toEqual(['a', '', 'Eb', '', '', 'ENc', '', '', 'EN'])
    expect(pieces.map(({ ids }) => ids.length)).toEqual([1, 0, 2, 0, 0, 3, 0, 0, 2])
  })

  it('match at the first completed one, the longest of several', async () => {
    expect(await stopped('xabcd', ['abcd', 'bc'])).toMatchObject({ text: 'xa', stop: 'bc' })
    expect(await stopped('xabcd', ['bcd', 'abcd', 'd'])).toMatchObject({ text: 'x', stop: 'abcd' })
    expect(await stopped('aab', 'ab')).toMatchObject({ text: 'a', stop: 'ab' })
  })

  it('give every id that was pushed, and refuse more', async () => {
    const ids = [...(await byteLevel.encode('the LORD God'))]
    const stream = new TextStream(byteLevel, { stop: 'LORD' })
    expect(await stream.push(ids)).toEqual({ text: 'the ', ids, stop: 'LORD' })
    expect(() => stream.push([390])).toThrow('TextStream.push: the stream has ended')
    expect(() => stream.finish()).toThrow('TextStream.finish: the stream has ended')
  })

  it('never leak, and cut alike however the ids are pushed', async () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '😀'), maxLength: 20 })
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '😀'), minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 3,
    })
    const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 8 })
    await fc.assert(
      fc.asyncProperty(letters, stops, sizes, fc.boolean(), async (text, stop, sizes, whole) => {
        // The obvious definition: read the text until it ends in a stop string, and cut that off.
        const ends = [...text].map((_, i, all) => all.slice(0, i + 1).join(''))
        const first = ends.find((read) => stop.some((each) => read.endsWith(each)))
        const longest = Math.max(...stop.filter((each) => first?.endsWith(each)).map((each) => each.length))
        const ids = await byteLevel.encode(text)
        const pieces = await streamed(whole ? byteLevel : withoutTexts(byteLevel), ids, { stop, sizes })
        expect(textOf(pieces)).toBe(first === undefined ? text : first.slice(0, first.length - longest))
        expect(pieces.at(-1)!.stop !== undefined).toBe(first !== undefined)
      }),
    )
  })

  it('are one or more whole characters', () => {
    expect(() => new TextStream(byteLevel, { stop: ['a', ''] })).toThrow(
      new RangeError("TextStream: stop[1] is '', expected one or more whole characters"),
    )
    expect(() => new TextStream(byteLevel, { stop: '\ud83d' })).toThrow(RangeError)
    expect(() => new TextStream(byteLevel, { stop: [5 as never] })).toThrow(
      new TypeError('TextStream: stop[0] is 5, expected a string'),
    )
  })
})

describe('several streams', () => {
  it('decode together as they do alone', async () => {
    const streams = demoExpected.map(() => new TextStream(byteLevel))
    const texts = demoExpected.map(() => '')
    for (let step = 0; step < 40; step++) {
      const ids = demoExpected.map(({ greedy }) => greedy.slice(step, step + 1))
      const pieces = await Promise.all(streams.map((stream, s) => stream.push(ids[s]!)))
      for (const [i, piece] of pieces.entries()) texts[i] += piece.text
    }
    for (const [i, stream] of streams.entries()) texts[i] += stream.finish().text
    expect(texts).toEqual(demoExpected.map(({ text }) => text))
  })

  it('refuse a push before the one before is done', async () => {
    const stream = new TextStream(withoutTexts(byteLevel))
    const first = stream.push([390])
    expect(() => stream.push([390])).toThrow('TextStream.push: the push before is pending')
    expect((await first).text).toBe(' God')
    expect((await stream.push([390])).text).toBe(' God')
  })

  it('end when their tokenizer does', async () => {
    const tokenizer = await Tokenizer.load(demoFolder)
    const stream = new TextStream(withoutTexts(tokenizer))
    const pending = stream.push([390])
    tokenizer.dispose()
    await expect(pending).rejects.toThrow('was disposed')
    expect(() => stream.push([390])).toThrow('the stream has ended')
    byteLevel.dispose()
    sentencePiece.dispose()
    await expectNoThreads()
  })
})
