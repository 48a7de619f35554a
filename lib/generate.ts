/** Text generation: options, the pieces a caller receives, and the way from sampled tokens to text. */
import type { GenerationDefaults } from './checkpoint/folder.js'
import {
  boolean,
  check,
  checkValue,
  describe,
  either,
  integer,
  isObject,
  list,
  number,
  type Rule,
  type Rules,
  signal,
  string,
} from './options.js'
import type { Sampling, SampledToken } from './sampling.js'
import type { Scheduler, Sequence } from './scheduler.js'
import type { ChatMessage, ChatTemplate } from './text/chat.js'
import { TextStream } from './text/stream.js'
import type { Tokenizer } from './text/tokenizer.js'

/** Text; a conversation, rendered by the model's chat template; or token ids, taken as they are. */
export type Prompt = string | readonly ChatMessage[] | readonly number[] | Int32Array

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
  /** From the call until the sequence had room. */
  queue: number
  /** From then until the first token. */
  prefill: number
  /** From the first token to the last. */
  decode: number
}

export interface TokenLogprobs {
  id: number
  logprob: number
  /** The likeliest tokens in falling order. */
  top: { id: number; logprob: number }[]
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

const logitBias: Rule<Readonly<Record<number, number>>> = {
  expected: 'an object of token ids and numbers',
  fault: (value) =>
    isObject(value) && Object.entries(value).every(([id, bias]) => /^\d+$/.test(id) && Number.isFinite(bias))
      ? undefined
      : TypeError,
}

const rules: Rules<GenerateOptions> = {
  maxTokens: integer({ min: 0 }),
  temperature: number({ min: 0 }),
  topK: integer({ min: 0, max: 2 ** 31 - 1 }),
  topP: number({ above: 0, max: 1 }),
  minP: number({ min: 0, max: 1 }),
  repetitionPenalty: number({ above: 0 }),
  frequencyPenalty: number(),
  presencePenalty: number(),
  logitBias,
  seed: integer({ min: 0 }),
  stop: either(string, list(string)),
  ignoreEos: boolean,
  logprobs: integer({ min: 0, max: 1000 }),
  signal,
}

/** What generating needs to know of a model. */
export interface GenerationContext {
  scheduler: Scheduler
  folder: string
  vocabSize: number
  /** Tokens that prompt and output may have together. */
  context: number
  bosId: number | undefined
  defaults: GenerationDefaults
  tokenizer: Tokenizer | undefined
  chat: ChatTemplate
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
    throw new TypeError(`generate: stop needs a tokenizer, and ${model.folder} has none`)
  }
  return pieces(model, prompt, checked, sampling, stop)
}

async function* pieces(
  model: GenerationContext,
  prompt: Prompt,
  { maxTokens, ignoreEos = false, signal }: GenerateOptions,
  sampling: Sampling,
  stop: readonly string[],
): AsyncGenerator<Piece> {
  signal?.throwIfAborted()
  const ids = await promptIds(model, prompt)
  signal?.throwIfAborted()
  const sequence = model.scheduler.start({
    prompt: ids,
    maxTokens: roomFor(model, ids.length, maxTokens),
    endIds: new Set(ignoreEos ? [] : model.defaults.eosIds),
    sampling,
    signal,
  })
  // An abort acts at once on a sequence that waits for others; one that runs is ended between batches too.
  const abort = () => sequence.end(undefined, signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  try {
    yield* textPieces(sequence, new TextOf(model.tokenizer, stop, ids), ids.length)
  } finally {
    signal?.removeEventListener('abort', abort)
    sequence.end()
  }
}

async function* textPieces(sequence: Sequence, text: TextOf, promptTokens: number): AsyncGenerator<Piece> {
  const told: TokenLogprobs[] = []
  let completionTokens = 0
  for (;;) {
    const tokens = await sequence.take()
    if (tokens.length === 0) break
    completionTokens += tokens.length
    for (const { id, logprob, top } of tokens) if (top) told.push({ id, logprob: logprob!, top })
    const { text: more, ids, stopped } = await text.add(tokens)
    const logprobs = told.splice(0, ids.length)
    if (stopped) sequence.end('stop')
    if (more !== '' || ids.length > 0) yield { text: more, ids, ...(logprobs.length > 0 ? { logprobs } : {}) }
    if (stopped) break
  }
  const rest = text.finish()
  yield {
    ...rest,
    ...(told.length > 0 ? { logprobs: told } : {}),
    finishReason: sequence.finish ?? 'stop',
    usage: { promptTokens, completionTokens },
    timings: timingsOf(sequence),
  }
}

/** The text side of a sequence; with no tokenizer, ids go through and text is empty. */
class TextOf {
  readonly #stream: TextStream | undefined
  #stopped = false

  constructor(tokenizer: Tokenizer | undefined, stop: readonly string[], context: ArrayLike<number>) {
    this.#stream = tokenizer && new TextStream(tokenizer, { stop, context })
  }

  async add(tokens: readonly SampledToken[]): Promise<{ text: string; ids: number[]; stopped: boolean }> {
    const ids = tokens.map(({ id }) => id)
    if (!this.#stream) return { text: '', ids, stopped: false }
    const { text, ids: done, stop } = await this.#stream.push(ids)
    this.#stopped = stop !== undefined
    return { text, ids: done, stopped: this.#stopped }
  }

  finish(): { text: string; ids: number[] } {
    if (!this.#stream || this.#stopped) return { text: '', ids: [] }
    const { text, ids } = this.#stream.finish()
    return { text, ids }
  }
}

/** Token ids of a prompt, checked against the vocabulary. */
async function promptIds(model: GenerationContext, prompt: Prompt): Promise<Int32Array> {
  const ids = await encodePrompt(model, prompt)
  checkIds('generate', 'prompt', ids, model.vocabSize)
  return Int32Array.from(ids)
}

async function encodePrompt(model: GenerationContext, prompt: Prompt): Promise<ArrayLike<number>> {
  const { tokenizer, folder } = model
  const isText = typeof prompt === 'string'
  const isChat = Array.isArray(prompt) && prompt.length > 0 && prompt.every((item) => typeof item === 'object')
  if (!isText && !isChat) {
    const isIds = prompt instanceof Int32Array || Array.isArray(prompt)
    if (isIds) return prompt as ArrayLike<number>
    throw new TypeError(`generate: prompt is ${describe(prompt)}, expected text, messages or token ids`)
  }
  if (!tokenizer) throw new TypeError(`generate: prompt is text, and ${folder} has no tokenizer.json: expected token ids`)
  if (isChat) {
    return tokenizer.encode(model.chat.render(prompt as readonly ChatMessage[]), { addSpecialTokens: false })
  }
  const ids = await tokenizer.encode(prompt as string)
  // The beginning of a text is a token too: a base model can write from nothing.
  return ids.length === 0 && model.bosId !== undefined ? [model.bosId] : ids
}

/** Throws unless there are ids and all are rows of the embedding. */
export function checkIds(op: string, name: string, ids: ArrayLike<number>, vocabSize: number): void {
  if (ids.length === 0) throw new RangeError(`${op}: ${name} is empty, expected at least one token`)
  const id = integer({ min: 0, max: vocabSize - 1 })
  for (let i = 0; i < ids.length; i++) checkValue(op, `${name}[${i}]`, ids[i], id)
}

function roomFor({ context }: GenerationContext, promptTokens: number, maxTokens: number | undefined): number {
  const room = context - promptTokens
  if (room < 1) {
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

function samplingOf(options: GenerateOptions, { defaults, vocabSize }: GenerationContext): Sampling {
  const drawn = defaults.doSample ? defaults : { temperature: 0 }
  const bias = new Map(Object.entries(options.logitBias ?? {}).map(([id, value]) => [Number(id), value]))
  for (const id of bias.keys()) {
    checkValue('generate', 'a token id of logitBias', id, integer({ min: 0, max: vocabSize - 1 }))
  }
  const { topK, topP, minP, repetitionPenalty } = { ...(defaults.doSample ? defaults : {}), ...options }
  return {
    temperature: options.temperature ?? drawn.temperature ?? 1,
    topK: topK ?? 0,
    topP: topP ?? 1,
    minP: minP ?? 0,
    repetitionPenalty: repetitionPenalty ?? 1,
    frequencyPenalty: options.frequencyPenalty ?? 0,
    presencePenalty: options.presencePenalty ?? 0,
    logitBias: bias,
    seed: options.seed ?? Math.floor(Math.random() * 2 ** 53),
    logprobs: options.logprobs,
  }
}

function timingsOf({ createdMs, startedMs, firstTokenMs, endedMs }: Sequence): Timings {
  const end = endedMs ?? performance.now()
  const started = startedMs ?? end
  const first = firstTokenMs ?? end
  return { queue: started - createdMs, prefill: first - started, decode: end - first }
}
