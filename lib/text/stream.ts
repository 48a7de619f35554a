// Text from ids that arrive a few at a time, such that the pieces join to the decode of all ids. Most tokens of a
// byte-level tokenizer have a text of their own, which is there at once. Otherwise a token's text depends on its
// neighbours (a character of several byte tokens, a stripped first space): then a short window of ids is decoded,
// and what its text has gained is emitted. Held back: a character still incomplete, and an end that may become a
// stop string.

import { checkValue, describe, string } from '../options.js'
import type { Tokenizer } from './tokenizer.js'

export interface TextPiece {
  text: string
  /** Every id pushed is in exactly one piece, in order: the one that completes its text. */
  ids: number[]
  /** The stop string that ended the text; it and what follows it are in no piece. */
  stop: string | undefined
}

export interface TextStreamOptions {
  /** Strings that end the text. The one that is complete first ends it; of several at once, the longest. */
  stop?: string | readonly string[] | undefined
  /** Leaves special tokens out of the text; default true. */
  skipSpecialTokens?: boolean | undefined
  /** Ids before the first pushed one (the prompt's), so that the text continues theirs; only the last few matter. */
  context?: ArrayLike<number> | undefined
}

// UTF-16 units that a window's context gives at least. It may begin inside a character, of which at most three
// bytes are then decoded otherwise than in the whole text; past those, the two agree.
const kContextUnits = 8
const kReplacement = '\ufffd'

/** Ids that are decoded together, at each step. */
interface Window {
  ids: number[]
  /** The first so many of them only give the others their neighbours. */
  contextIds: number
  /** UTF-16 units of its text already decoded; undefined when it has just moved. */
  seen: number | undefined
  /** UTF-16 units that the ids after the context have given. */
  gained: number
}

export class TextStream {
  readonly #tokenizer: Tokenizer
  readonly #stops: readonly string[]
  readonly #mayStop: boolean
  readonly #skipSpecialTokens: boolean
  /** The text ends inside a character, or in a replacement character of its own; undefined: not known yet. */
  #incomplete: boolean | undefined
  #window: Window
  /** Decoded text that may be the beginning of a stop string. */
  #held = ''
  /** UTF-16 units decoded and delivered since the beginning, less those that passed through. */
  #decoded = 0
  #delivered = 0
  /** Ids not delivered yet, each with the length of text that completes it. */
  #queue: { id: number; end: number }[] = []
  #state: 'open' | 'pushing' | 'ended' = 'open'

  constructor(tokenizer: Tokenizer, { stop = [], skipSpecialTokens = true, context = [] }: TextStreamOptions = {}) {
    this.#tokenizer = tokenizer
    this.#stops = typeof stop === 'string' ? [stop] : stop
    for (const [i, text] of this.#stops.entries()) {
      checkValue('TextStream', `stop[${i}]`, text, string)
      if (text === '' || /\p{Surrogate}/u.test(text)) {
        throw new RangeError(`TextStream: stop[${i}] is ${describe(text)}, expected one or more whole characters`)
      }
    }
    this.#mayStop = this.#stops.length > 0
    this.#skipSpecialTokens = skipSpecialTokens
    const ids = this.#visible(Array.from(context)).slice(-kContextUnits)
    if (this.#wholeText(ids.slice(-1)) !== undefined) this.#incomplete = false
    this.#window = { ids, contextIds: ids.length, seen: undefined, gained: 0 }
  }

  /**
   * The text that these ids complete, possibly none; a promise where they must be decoded. After a piece with `stop`,
   * the stream has ended.
   */
  push(ids: readonly number[]): TextPiece | Promise<TextPiece> {
    this.#expectOpen('push')
    const text = this.#incomplete === false ? this.#wholeText(ids) : undefined
    if (text === undefined) return this.#decode(ids)
    if (this.#mayStop) return this.#add(ids, text)
    return { text, ids: [...ids], stop: undefined } // nothing is held back: no character is open
  }

  async #decode(ids: readonly number[]): Promise<TextPiece> {
    const visible = this.#visible(ids)
    if (visible.length === 0) return this.#add(ids, '')
    this.#state = 'pushing'
    try {
      const text = await this.#gain(visible)
      this.#state = 'open'
      return this.#add(ids, text)
    } catch (error) {
      this.#state = 'ended'
      throw error
    }
  }

  /** What was held back; a character that stayed incomplete becomes U+FFFD, as in the decode of all ids. */
  finish(): TextPiece {
    this.#expectOpen('finish')
    const tail = this.#incomplete ? kReplacement : ''
    this.#decoded += tail.length
    this.#held += tail
    const piece = this.#emit(true)
    this.#state = 'ended'
    return piece
  }

  #expectOpen(op: 'push' | 'finish'): void {
    if (this.#state === 'pushing') throw new Error(`TextStream.${op}: the push before is pending, expected it awaited`)
    if (this.#state === 'ended') throw new Error(`TextStream.${op}: the stream has ended`)
  }

  /** Ids that have text: the others are kept out of the window, which would otherwise grow with them. */
  #visible(ids: readonly number[]): number[] {
    return ids.filter((id) => this.#isVisible(id))
  }

  #isVisible(id: number): boolean {
    return id < this.#tokenizer.size && !(this.#skipSpecialTokens && this.#tokenizer.isSpecial(id))
  }

  /** The text of ids that all have one of their own. */
  #wholeText(ids: readonly number[]): string | undefined {
    let whole = ''
    for (const id of ids) {
      if (!this.#isVisible(id)) continue
      const text = this.#tokenizer.wholeText(id)
      if (text === undefined) return undefined
      whole += text
    }
    return whole
  }

  /** Puts ids into the window, and gives what its text has then more than before. */
  async #gain(ids: readonly number[]): Promise<string> {
    if (this.#window.gained >= kContextUnits) {
      const context = this.#window.ids.slice(this.#window.contextIds)
      this.#window = { ids: context, contextIds: context.length, seen: undefined, gained: 0 }
    }
    const window = this.#window
    const context = window.ids.slice(0, window.contextIds)
    window.ids = window.ids.concat(ids)
    const batch = window.seen === undefined ? [context, window.ids] : [window.ids]
    const decoded = await this.#tokenizer.decodeBatch(batch, { skipSpecialTokens: false })
    const text = decoded.at(-1)!
    const whole = withoutIncomplete(text)
    const seen = window.seen ?? withoutIncomplete(decoded[0]!).length
    const gain = whole.slice(seen)
    window.seen = Math.max(seen, whole.length)
    window.gained += gain.length
    this.#incomplete = text.length > whole.length
    return gain
  }

  #add(ids: readonly number[], text: string): TextPiece {
    this.#decoded += text.length
    this.#held += text
    const end = this.#decoded + (this.#incomplete ? 1 : 0)
    for (const id of ids) this.#queue.push({ id, end })
    return this.#emit(false)
  }

  #emit(last: boolean): TextPiece {
    const match = firstStop(this.#held, this.#stops)
    if (match) {
      this.#state = 'ended'
      return { text: this.#held.slice(0, match.index), ids: this.#queue.map(({ id }) => id), stop: match.stop }
    }
    const keep = last ? 0 : stopPrefixLength(this.#held, this.#stops)
    const text = this.#held.slice(0, this.#held.length - keep)
    this.#held = this.#held.slice(text.length)
    this.#delivered += text.length
    const waiting = last ? -1 : this.#queue.findIndex(({ end }) => end > this.#delivered)
    const ids = this.#queue.splice(0, waiting === -1 ? this.#queue.length : waiting).map(({ id }) => id)
    return { text, ids, stop: undefined }
  }
}

/** UTF-8 that ends inside a character decodes to one U+FFFD for it: all before that is final. */
function withoutIncomplete(text: string): string {
  return text.endsWith(kReplacement) ? text.slice(0, -1) : text
}

/** The stop string whose last character comes first, whatever way the text is cut into pieces. */
function firstStop(text: string, stops: readonly string[]): { index: number; stop: string } | undefined {
  const found = stops.map((stop) => ({ stop, index: text.indexOf(stop) })).filter(({ index }) => index !== -1)
  return found.sort((a, b) => a.index + a.stop.length - b.index - b.stop.length || a.index - b.index)[0]
}

/** Length of the longest end of `text` that is a beginning of a stop string. */
function stopPrefixLength(text: string, stops: readonly string[]): number {
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1))
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    const end = text.slice(-length)
    if (stops.some((stop) => stop.startsWith(end))) return length
  }
  return 0
}
