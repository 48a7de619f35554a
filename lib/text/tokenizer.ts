// Text to token ids and back, as the tokenizer.json of a model folder says. The work is done by
// @huggingface/tokenizers in a worker thread (worker.ts), so that every method returns at once.

import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { boolean, check, checkValue, list, type Rules, signal, string, tokenIds } from '../options.js'
import { Channel } from './channel.js'
import type { SpecialToken, TokenizerFacts, TokenTexts } from './worker.js'

export type { SpecialToken }

export interface LoadTokenizerOptions {
  signal?: AbortSignal | undefined
}

export interface EncodeOptions {
  /** Lets the post-processor of tokenizer.json add what it adds; default true. */
  addSpecialTokens?: boolean | undefined
}

export interface DecodeOptions {
  /** Leaves tokens marked special out of the text; default true. */
  skipSpecialTokens?: boolean | undefined
}

/** What is decoded in one exchange with the thread: all that is asked for in one turn of the event loop. */
interface Turn {
  batch: number[][]
  texts: Promise<string[]>
}

const loadRules: Rules<LoadTokenizerOptions> = { signal }
const encodeRules: Rules<EncodeOptions> = { addSpecialTokens: boolean }
const decodeRules: Rules<DecodeOptions> = { skipSpecialTokens: boolean }

export class Tokenizer {
  /** The model folder it was loaded from. */
  readonly folder: string
  /** One more than the largest id that has a token; a model may have more rows than that. */
  readonly size: number
  /** Characters that one token stands for, at most. */
  readonly longest: number
  /** The tokens that tokenizer_config.json gives a role, where the vocabulary has them. */
  readonly special: TokenizerFacts['special']
  readonly #specialIds: ReadonlySet<number>
  readonly #texts: TokenTexts | undefined
  readonly #channel: Channel
  readonly #turns = new Map<boolean, Turn>() // by skipSpecialTokens

  private constructor(folder: string, channel: Channel, facts: TokenizerFacts) {
    this.folder = folder
    this.size = facts.size
    this.longest = facts.longest
    this.special = facts.special
    this.#specialIds = facts.specialIds
    this.#texts = facts.texts
    this.#channel = channel
  }

  /**
   * Loads `folder`/tokenizer.json, and tokenizer_config.json where present, off the event loop.
   * Throws an Error naming the file that is missing or broken; the signal's reason when aborted. Either way the
   * thread has ended by then.
   */
  static async load(folder: string, options?: LoadTokenizerOptions): Promise<Tokenizer> {
    const { signal } = check('Tokenizer.load', options, loadRules)
    signal?.throwIfAborted()
    const channel = new Channel(folder)
    const abort = () => void channel.close('was not loaded')
    signal?.addEventListener('abort', abort, { once: true })
    try {
      const facts = await channel.call('load', folder)
      signal?.throwIfAborted()
      return new Tokenizer(folder, channel, facts)
    } catch (error) {
      await channel.close('was not loaded')
      signal?.throwIfAborted()
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  /** As `load`, but undefined where the folder has no tokenizer.json: such a model is used with token ids. */
  static async find(folder: string, options?: LoadTokenizerOptions): Promise<Tokenizer | undefined> {
    try {
      await access(join(folder, 'tokenizer.json'))
    } catch {
      return undefined
    }
    return Tokenizer.load(folder, options)
  }

  /**
   * The ids of a text. What `addSpecialTokens` adds is the beginning-of-sequence token for Nemotron-H; a rendered
   * chat template already holds its special tokens, so encode it without. Special tokens written in the text are
   * recognised either way.
   */
  async encode(text: string, options?: EncodeOptions): Promise<Int32Array> {
    checkValue('Tokenizer.encode', 'text', text, string)
    const { addSpecialTokens = true } = check('Tokenizer.encode', options, encodeRules)
    return this.#channel.call('encode', { text, addSpecialTokens })
  }

  /** The text of ids. An id that has no token has no text. */
  async decode(ids: ArrayLike<number>, options?: DecodeOptions): Promise<string> {
    return (await this.decodeBatch([checkValue('Tokenizer.decode', 'ids', ids, tokenIds)], options))[0]!
  }

  /** As `decode` for several sequences. */
  async decodeBatch(batch: readonly ArrayLike<number>[], options?: DecodeOptions): Promise<string[]> {
    checkValue('Tokenizer.decodeBatch', 'batch', batch, list(tokenIds))
    const { skipSpecialTokens = true } = check('Tokenizer.decode', options, decodeRules)
    for (const ids of batch) {
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i]!
        if (!Number.isInteger(id) || id < 0) {
          throw new RangeError(`Tokenizer.decode: ids[${i}] is ${id}, expected an integer >= 0`)
        }
      }
    }
    const turn = this.#turns.get(skipSpecialTokens) ?? this.#newTurn(skipSpecialTokens)
    const first = turn.batch.length
    for (const ids of batch) turn.batch.push(Array.prototype.slice.call(ids)) // which may change until it is sent
    return (await turn.texts).slice(first, first + batch.length)
  }

  /** A step brings a token to every stream at once: one message for each would cost more than all else of the step. */
  #newTurn(skipSpecialTokens: boolean): Turn {
    const batch: number[][] = []
    const texts = Promise.resolve().then(() => {
      this.#turns.delete(skipSpecialTokens)
      return this.#channel.call('decode', { batch, skipSpecialTokens })
    })
    const turn = { batch, texts }
    this.#turns.set(skipSpecialTokens, turn)
    return turn
  }

  /** The id of one token as the vocabulary spells it, undefined when it has none. */
  async tokenToId(token: string): Promise<number | undefined> {
    return this.#channel.call('tokenToId', token)
  }

  /** Whether tokenizer.json marks the token of this id as special. */
  isSpecial(id: number): boolean {
    return this.#specialIds.has(id)
  }

  /**
   * What the token of this id adds to a text that ends with a whole character, at once. Undefined where that is known only
   * from its neighbours: a part of a character; a gap in the vocabulary; every token, where the decoder is no byte-level one.
   */
  wholeText(id: number): string | undefined {
    if (!this.#texts) return undefined
    const { joined, ends } = this.#texts
    const from = id === 0 ? 0 : ends[id - 1]!
    return ends[id]! > from ? joined.slice(from, ends[id]) : undefined
  }

  /** Ends the thread. Calls that are pending reject, as does every later one; a second dispose does nothing. */
  dispose(): void {
    void this.#channel.close('was disposed')
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}
