// The tokenizer's own thread. Parsing a tokenizer.json of 131,072 entries and encoding a long text take
// hundreds of milliseconds of JavaScript; here they cannot delay the event loop of the application.
// Every message is one call of an operation below; every answer carries the call's number.

import { join } from 'node:path'
import { parentPort } from 'node:worker_threads'
import { Tokenizer } from '@huggingface/tokenizers'
import { choices, describe, isObject } from '../options.js'
import { readObject, type SpecialName, specialTokens } from './files.js'

export interface SpecialToken {
  token: string
  id: number
}

/** What the main thread knows of a loaded tokenizer. */
export interface TokenizerFacts {
  /** One more than the largest id that has a token. */
  size: number
  longest: number
  special: Partial<Record<SpecialName, SpecialToken>>
  /** Ids of every token marked special, those without a role included. */
  specialIds: ReadonlySet<number>
  /** Texts of tokens that have the same one after any whole character, where the decoder makes some so. */
  texts: TokenTexts | undefined
}

/** The text of each id, '' where it depends on its neighbours: one after the other, and where each ends. */
export interface TokenTexts {
  joined: string
  ends: Uint32Array
}

export type Operations = typeof operations
export type Call = { [K in keyof Operations]: { call: number; operation: K; argument: Parameters<Operations[K]>[0] } }
export type Answer = { call: number; value: unknown } | { call: number; error: Error }

const kModels = ['BPE', 'Unigram', 'WordPiece']

let tokenizer: Tokenizer
let specialIds: ReadonlySet<number>

const operations = {
  async load(folder: string): Promise<TokenizerFacts> {
    const path = join(folder, 'tokenizer.json')
    const json = await readObject('Tokenizer.load', path)
    if (json === undefined) {
      throw new Error(
        `Tokenizer.load: ${path} does not exist, expected a Hugging Face tokenizer.json (without one, use token ids)`,
      )
    }
    const config = (await readObject('Tokenizer.load', join(folder, 'tokenizer_config.json'))) ?? {}
    tokenizer = build(path, json, config)

    const special: TokenizerFacts['special'] = {}
    for (const [name, token] of Object.entries(specialTokens(config)) as [SpecialName, string][]) {
      const id = tokenizer.token_to_id(token)
      if (id !== undefined) special[name] = { token, id }
    }
    const added = [...tokenizer.get_added_tokens_decoder()]
    specialIds = new Set(added.filter(([, token]) => token.special).map(([id]) => id))
    const longest = tokenizer.model!.vocab.reduce(
      (most: number, token: string | undefined) => Math.max(most, token?.length ?? 0),
      1,
    )
    return { size: tokenizer.model!.vocab.length, longest, special, specialIds, texts: textsOf(tokenizer) }
  },

  encode({ text, addSpecialTokens }: { text: string; addSpecialTokens: boolean }): Int32Array {
    const { ids, tokens } = tokenizer.encode(text, { add_special_tokens: addSpecialTokens })
    const missing = ids.indexOf(undefined as unknown as number)
    if (missing !== -1) {
      const token = describe(tokens[missing])
      throw new Error(
        `Tokenizer.encode: token ${token} is not in the vocabulary, expected every token of the post-processor there`,
      )
    }
    return Int32Array.from(ids)
  },

  // Ids without a token (rows that pad the vocabulary of a model) decode to nothing, and English spacing is
  // never "cleaned up": both as in the Rust library, and what makes decode(encode(text)) the text.
  decode({ batch, skipSpecialTokens }: { batch: readonly ArrayLike<number>[]; skipSpecialTokens: boolean }): string[] {
    return batch.map((ids) => {
      const shown = Array.from(ids).filter(
        (id) => tokenizer.id_to_token(id) !== undefined && !(skipSpecialTokens && specialIds.has(id)),
      )
      return shown.length === 0 ? '' : tokenizer.decode(shown, { clean_up_tokenization_spaces: false })
    })
  },

  tokenToId(token: string): number | undefined {
    return tokenizer.token_to_id(token)
  },
}

function build(path: string, json: Record<string, unknown>, config: Record<string, unknown>): Tokenizer {
  const expect = (holds: boolean, where: string, found: unknown, expected: string) => {
    if (!holds) throw new Error(`Tokenizer.load: ${path}: ${where} is ${describe(found)}, expected ${expected}`)
  }
  const model = isObject(json.model) ? json.model : {}
  const { type, vocab, merges } = model
  expect(isObject(json.model), 'model', json.model, 'an object with type and vocab')
  expect(kModels.includes(type as string), 'model.type', type, choices(kModels))
  if (type === 'Unigram') expect(Array.isArray(vocab), 'model.vocab', vocab, 'a list of [token, score]')
  else expect(isObject(vocab), 'model.vocab', vocab, 'an object of token: id')
  if (type === 'BPE') expect(Array.isArray(merges), 'model.merges', merges, 'a list')
  const optional = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null }
  try {
    return new Tokenizer({ ...optional, ...json }, config)
  } catch (error) {
    throw new Error(`Tokenizer.load: ${path} cannot be used (${(error as Error).message})`, { cause: error })
  }
}

/** A byte-level decoder joins bytes: a token of whole characters adds just those, wherever no character is open. */
function textsOf({ model, decoder }: Tokenizer): TokenTexts | undefined {
  if (decoder?.config.type !== 'ByteLevel' || decoder.end_of_word_suffix) return undefined
  const { vocab } = model!
  const added = new Set(decoder.added_tokens.map(({ content }: { content: string }) => content))
  const ends = new Uint32Array(vocab.length)
  let joined = ''
  for (let id = 0; id < vocab.length; id++) {
    const token = vocab[id] ?? '' // there may be gaps
    const text = added.has(token) ? token : decoder.convert_tokens_to_string([token])
    if (!text.includes('\ufffd')) joined += text
    ends[id] = joined.length
  }
  return { joined, ends }
}

parentPort!.on('message', async ({ call, operation, argument }: Call[keyof Operations]) => {
  try {
    const value = await (operations[operation] as (argument: unknown) => unknown)(argument)
    const transfer = value instanceof Int32Array ? [value.buffer as ArrayBuffer] : []
    parentPort!.postMessage({ call, value } satisfies Answer, transfer)
  } catch (error) {
    parentPort!.postMessage({ call, error: error as Error } satisfies Answer)
  }
})
