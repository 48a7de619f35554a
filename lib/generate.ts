/** Text generation: options, the pieces a caller receives, and the way from sampled tokens to text. */
import { setMaxListeners } from 'node:events'
import { asyncGenerator, type Next, type Reader, type Source, waiting } from './async-generator.js'
import type { GenerationDefaults } from './checkpoint/folder.js'
import {
  boolean,
  check,
  checkValue,
  describe,
  either,
  float,
  integer,
  isObject,
  list,
  type Rule,
  type Rules,
  signal,
} from './options.js'
import type { Sampling, TokenLogprobs } from './sampling.js'
import type { Scheduler, Sequence } from './scheduler.js'
import { encodePrompt, type Prompt, type PromptContext } from './text/prompt.js'
import { type TextPiece, TextStream } from './text/stream.js'

export type { Prompt, TokenLogprobs }

export interface GenerateOptions {
  /** Tokens to generate at most; 256, or what the context has room for. */
  maxTokens?: number | undefined
  /** 0: always the likeliest token. Default: as generation_config.json says, else 0. */
  temperature?: number | undefined
  /** Draw among the k likeliest tokens; 0: all. */
  topK?: number | undefined
  /** Draw among the fewest tokens that hold this much probability; 1: all. */
  topP?: number | undefined
  /** Draw among tokens at least this times as likely as the likeliest; 0: all. */
  minP?: number | undefined
  /** Divides the logits of tokens in prompt or output (Keskar et al. 2019); 1: none. */
  repetitionPenalty?: number | undefined
  /** Taken from a token's logit for each time it was generated. */
  frequencyPenalty?: number | undefined
  /** Taken from a token's logit if it was generated. */
  presencePenalty?: number | undefined
  /** Added to the logits of tokens, by id. */
  logitBias?: Readonly<Record<number, number>> | undefined
  /** Same seed, same tokens, whatever else is in the batch; random by default. */
  seed?: number | undefined
  /** Strings that end the text. They are never part of it. */
  stop?: string | readonly string[] | undefined
  /** Goes on after an end-of-text token. */
  ignoreEos?: boolean | undefined
  /** Reports each token's log-probability, and those of this many likeliest tokens. */
  logprobs?: number | undefined
  /** Ends it between two batches, also within a long prompt. */
  signal?: AbortSignal | undefined
}

export interface Usage {
  promptTokens: number
  completionTokens: number
}

/** Milliseconds. */
export interface Timings {
  /** From when the first piece was asked for until the sequence had room; text becomes tokens meanwhile. */
  queue: number
  /** From then until the first token. */
  prefill: number
  /** From the first token to the last, or until a stop string was read. */
  decode: number
}

/** A part of a generation. The texts join to the whole text, the ids to all tokens; the last has the rest. */
export interface Piece {
  /** Whole characters; none of a stop string. */
  text: string
  /** Tokens whose text is complete with this piece. */
  ids: number[]
  logprobs?: TokenLogprobs[]
  /** On the last piece only. stop: an end-of-text token or a stop string; length: maxTokens. */
  finishReason?: 'stop' | 'length'
  usage?: Usage
  timings?: Timings
}

/** Token ids and biases; samplingOf, which knows the vocabulary, looks into it. */
const logitBias: Rule<Readonly<Record<number, number>>> = {
  expected: 'an object of token ids and numbers',
  fault: (value) => (isObject(value) && !(value instanceof Map) ? undefined : TypeError),
}

const stopString: Rule<string> = {
  expected: 'one or more whole characters',
  fault(value) {
    if (typeof value !== 'string') return TypeError
    return value === '' || /\p{Surrogate}/u.test(value) ? RangeError : undefined
  },
}

// Settings are held in range as the f32 and i32 they become: a row that the op refused would end its whole batch.
const rules: Rules<GenerateOptions> = {
  maxTokens: integer({ min: 0 }),
  temperature: float({ min: 0 }),
  topK: integer({ min: 0, max: 2 ** 31 - 1 }),
  topP: float({ above: 0, max: 1 }),
  minP: float({ min: 0, max: 1 }),
  repetitionPenalty: float({ above: 0 }),
  frequencyPenalty: float(),
  presencePenalty: float(),
  logitBias,
  seed: integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
  stop: either(stopString, list(stopString)),
  ignoreEos: boolean,
  logprobs: integer({ min: 0, max: 1000 }),
  signal,
}

/** What generating needs to know of a model. */
export interface GenerationContext extends PromptContext {
  scheduler: Scheduler
  vocabSize: number
  defaults: GenerationDefaults
}

/**
 * Generates from a prompt. What is wrong with the options is thrown here, what is wrong with the prompt at the first
 * piece. Leaving the loop early, or `return()`, frees what the sequence holds.
 */
export function generate(model: GenerationContext, prompt: Prompt, options?: GenerateOptions): AsyncGenerator<Piece> {
  const checked = check('generate', options, rules)
  const sampling = samplingOf(checked, model)
  const stop = typeof checked.stop === 'string' ? [checked.stop] : (checked.stop ?? [])
  if (stop.length > 0 && !model.tokenizer) {
    throw new TypeError(
      `generate: stop is ${describe(checked.stop)}, expected none: ${model.folder} has no tokenizer.json`,
    )
  }
  return asyncGenerator(() => begin(model, prompt, checked, sampling, stop))
}

/** Encodes the prompt, and starts a sequence of it. */
async function begin(
  model: GenerationContext,
  prompt: Prompt,
  { maxTokens, ignoreEos = false, signal }: GenerateOptions,
  sampling: Sampling,
  stop: readonly string[],
): Promise<Pieces> {
  const beganMs = performance.now()
  // A copy: the caller may go on with theirs.
  const given = Array.isArray(prompt) || prompt instanceof Int32Array ? (prompt.slice() as Prompt) : prompt
  const encoded = await unlessAborted(encodePrompt(given, model), signal).catch((error) => {
    throw model.scheduler.failure ?? error // disposing the model ends its tokenizer as well
  })
  const room = roomFor(model, encoded.length, maxTokens)
  checkIds('generate', 'prompt', encoded, model.vocabSize)
  signal?.throwIfAborted() // from here on it ends the sequence
  const ids = Int32Array.from(encoded)
  const stream = model.tokenizer && new TextStream(model.tokenizer, { stop, context: ids })
  const sequence = model.scheduler.start({
    prompt: ids,
    maxTokens: room,
    endIds: ignoreEos ? none : model.defaults.eosIds,
    sampling,
  })
  // One at a time where a string may end the text: how far the model is ahead must not show.
  return new Pieces(sequence, stream, stop.length > 0 ? 1 : Infinity, signal, beganMs)
}

const none: readonly number[] = []

/** What a sequence generates, as its reader asks for it. With no `stream`, ids go through and text is empty. */
class Pieces implements Source<Piece> {
  #stopped = false // by a stop string
  #finished = false // the last piece is given
  readonly #leave: () => void

  constructor(
    private readonly sequence: Sequence,
    private readonly stream: TextStream | undefined,
    private readonly tokensAtATime: number,
    signal: AbortSignal | undefined,
    private readonly beganMs: number,
  ) {
    const unlisten = signal && onAbort(signal, () => sequence.fail(signal.reason))
    this.#leave = () => {
      unlisten?.()
      sequence.end()
    }
    abandoned.register(this, this.#leave)
  }

  next(reader: Reader): Next<Piece> | Promise<Next<Piece>> {
    if (this.#finished) return undefined
    if (this.#stopped) return this.#last()
    if (!this.sequence.ready) {
      this.sequence.wait(reader)
      return waiting
    }
    const ids = this.sequence.take(this.tokensAtATime)
    if (ids.length === 0) return this.#last()
    if (!this.stream) return this.#piece('', ids)
    const decoded = this.stream.push(ids)
    return decoded instanceof Promise ? this.#later(decoded, reader) : this.#decoded(decoded, reader)
  }

  end(): void {
    this.#leave()
  }

  async #later(decoded: Promise<TextPiece>, reader: Reader): Promise<Next<Piece>> {
    try {
      return this.#decoded(await decoded, reader)
    } catch (error) {
      throw this.sequence.failure ?? error // here too
    }
  }

  #decoded({ text, ids, stop }: TextPiece, reader: Reader): Next<Piece> | Promise<Next<Piece>> {
    this.#stopped = stop !== undefined
    if (this.#stopped) this.sequence.end()
    return text === '' && ids.length === 0 ? this.next(reader) : this.#piece(text, ids)
  }

  #last(): Piece {
    this.#finished = true
    const { text, ids } = this.stream && !this.#stopped ? this.stream.finish() : { text: '', ids: [] }
    return {
      ...this.#piece(text, ids),
      finishReason: this.#stopped ? 'stop' : this.sequence.finish!,
      usage: { promptTokens: this.sequence.request.prompt.length, completionTokens: this.sequence.taken },
      timings: timingsOf(this.sequence, this.beganMs),
    }
  }

  #piece(text: string, ids: number[]): Piece {
    const { logprobs } = this.sequence
    if (!logprobs || ids.length === 0) return { text, ids }
    return { text, ids, logprobs: logprobs.splice(0, ids.length) }
  }
}

// The net for a caller who neither reads on nor leaves: when the pieces are garbage, their sequence ends.
const abandoned = new FinalizationRegistry((leave: () => void) => leave())

/** Calls `abort` when the signal does, unless what it gives is called before. */
function onAbort(signal: AbortSignal, abort: () => void): () => void {
  setMaxListeners(0, signal) // it may end any number of generations: that is no leak
  signal.addEventListener('abort', abort, { once: true })
  return () => signal.removeEventListener('abort', abort)
}

/** What `promise` gives, or the signal's reason if that comes first. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise
  let unlisten = () => {}
  const aborted = new Promise<never>((_, reject) => {
    if (signal.aborted) reject(signal.reason)
    else unlisten = onAbort(signal, () => reject(signal.reason))
  })
  try {
    return await Promise.race([aborted, promise])
  } finally {
    unlisten()
    promise.catch(() => {}) // nobody waits for it any more
  }
}

/** Throws unless there are ids and all are rows of the embedding. */
export function checkIds(op: string, name: string, ids: ArrayLike<number>, vocabSize: number): void {
  if (ids.length === 0) throw new RangeError(`${op}: ${name} is empty, expected at least one token`)
  const id = integer({ min: 0, max: vocabSize - 1 })
  for (let i = 0; i < ids.length; i++) if (id.fault(ids[i])) checkValue(op, `${name}[${i}]`, ids[i], id)
}

function roomFor({ context }: GenerationContext, promptTokens: number, maxTokens: number | undefined): number {
  const room = context - promptTokens
  if (promptTokens > 0 && room < 1) {
    throw new RangeError(
      `generate: prompt is ${promptTokens} tokens, expected at most ${context - 1} (the context is ${context})`,
    )
  }
  if (maxTokens !== undefined && maxTokens > room) {
    throw new RangeError(
      `generate: maxTokens is ${maxTokens}, expected at most ${room} after ${promptTokens} prompt tokens (the context is ${context})`,
    )
  }
  return maxTokens ?? Math.min(256, room)
}

/** The settings of a generation: its options, then generation_config.json. Penalties act on greedy decoding too. */
function samplingOf(options: GenerateOptions, { defaults, vocabSize }: GenerationContext): Sampling {
  const drawn = defaults.doSample ? defaults : { temperature: 0 }
  const { temperature = 1, topK = 0, topP = 1, minP = 0 } = { ...drawn, ...options }
  const logitBias = new Map<number, number>()
  const tokenId = integer({ min: 0, max: vocabSize - 1 })
  for (const [key, bias] of Object.entries(options.logitBias ?? {})) {
    const id = String(Number(key)) === key ? Number(key) : key
    checkValue('generate', 'a token id of logitBias', id, tokenId)
    logitBias.set(Number(id), checkValue('generate', `logitBias[${key}]`, bias, float()))
  }
  return {
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty: options.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    frequencyPenalty: options.frequencyPenalty ?? 0,
    presencePenalty: options.presencePenalty ?? 0,
    logitBias,
    seed: options.seed ?? Math.floor(Math.random() * 2 ** 53),
    logprobs: options.logprobs,
  }
}

function timingsOf({ startedMs, firstTokenMs, endedMs }: Sequence, beganMs: number): Timings {
  const end = endedMs ?? performance.now()
  const started = startedMs ?? end
  const first = firstTokenMs ?? end
  return { queue: started - beganMs, prefill: first - started, decode: end - first }
}
