/**
 * Many sequences on one model. One loop packs what they need next into batches: pieces of prompts, then one token for
 * each sequence that has begun. It runs while there is work, waits only for the device, and queues the batches of a turn
 * before it waits for those of the turn before, so that the device always has some.
 */
import type { Reader } from './async-generator.js'
import { type DecodeRow, Decoder } from './decode.js'
import { pagesFor } from './model/config.js'
import type { NemotronH } from './model/nemotron-h.js'
import { Pools, packBatch, type Reservation, type Segment, segmentLength } from './model/pools.js'
import { ops } from './ops.js'
import {
  disposeSampled,
  readTokens,
  type Sampling,
  SamplingBatch,
  type TokenLogprobs,
  type Tokens,
  usesHistory,
} from './sampling.js'
import { scope } from './scope.js'
import { empty, type Tensor } from './tensor.js'
import { traced } from './trace.js'

/** Tokens that a sequence may be ahead of whoever reads them; then it pauses. */
const maxUnread = 64

export interface SequenceRequest {
  prompt: ArrayLike<number>
  maxTokens: number
  endIds: readonly number[]
  sampling: Sampling
}

/** One sequence: the scheduler adds tokens, one reader takes them. */
export class Sequence implements DecodeRow {
  /** Tokens in the model's state once all queued batches have run. */
  past = 0
  /** Tokens that batches were queued for, and those that have come. The state does not hold the last one yet. */
  asked = 0
  generated = 0
  /** Tokens that its reader has taken. */
  taken = 0
  reservation: Reservation | undefined
  finish: 'stop' | 'length' | undefined
  failure: unknown
  ended = false
  startedMs: number | undefined
  firstTokenMs: number | undefined
  endedMs: number | undefined
  /** Of the tokens that have come, where the request asks for them: the reader takes them off. */
  readonly logprobs: TokenLogprobs[] | undefined
  #unread: number[] | undefined // never empty
  #reader: Reader | undefined // that waits
  /** Its tokens are counted, for penalties. */
  readonly counted: boolean

  constructor(
    readonly request: SequenceRequest,
    private readonly scheduler: Scheduler,
  ) {
    this.counted = usesHistory(request.sampling)
    this.logprobs = request.sampling.logprobs === undefined ? undefined : []
  }

  get sampling(): Sampling {
    return this.request.sampling
  }

  /** Of its reservation, while it has one. */
  get slot(): number {
    return this.reservation!.slot
  }

  get pages(): number[] {
    return this.reservation!.pages
  }

  /** Tokens drawn before the next one. */
  get step(): number {
    return this.asked
  }

  get inPrompt(): boolean {
    return this.past < this.request.prompt.length
  }

  get paused(): boolean {
    return this.asked - this.taken >= maxUnread
  }

  get askedAll(): boolean {
    return this.asked >= this.request.maxTokens
  }

  add(id: number, logprobs: TokenLogprobs | undefined): void {
    this.firstTokenMs ??= performance.now()
    this.generated++
    if (this.#unread) this.#unread.push(id)
    else this.#unread = [id]
    if (logprobs) this.logprobs?.push(logprobs)
    if (this.request.endIds.includes(id)) this.end('stop')
    else if (this.generated >= this.request.maxTokens) this.end('length')
    else this.#changed()
  }

  /** Ends it, giving its room back at once; what it has generated can still be taken. */
  end(finish?: 'stop' | 'length'): void {
    if (this.ended) return
    this.ended = true
    this.endedMs = performance.now()
    this.finish = finish
    this.scheduler.leave(this)
    this.#changed()
  }

  /** Ends it; from here on the reader gets `failure` and no token. */
  fail(failure: unknown): void {
    this.failure ??= failure
    this.end()
  }

  /** There are tokens to take, or it has ended. */
  get ready(): boolean {
    return this.#unread !== undefined || this.ended
  }

  /** For its reader, while it is not ready. The sequence holds the reader no longer than it waits. */
  wait(reader: Reader): void {
    this.#reader = reader
  }

  #changed(): void {
    const reader = this.#reader
    this.#reader = undefined
    reader?.wake()
  }

  /** Tokens not taken yet, at most `count`. */
  take(count: number): number[] {
    if (this.failure !== undefined) throw this.failure
    const ids = this.#unread ?? []
    this.#unread = ids.length > count ? ids.splice(count) : undefined
    this.taken += ids.length
    this.scheduler.wake()
    return ids
  }
}

export interface SchedulerOptions {
  /** Sequences at a time; more wait their turn. */
  sequences: number
  /** Tokens of keys and values, of all sequences together. */
  cacheTokens: number
  /** Tokens that one sequence may have. */
  context: number
  /** Prompt tokens in one batch, at least the model's chunk. */
  prefillTokens: number
  /** No sequence decodes while another has some of its prompt left. */
  prefillFirst: boolean
}

/** A batch that is queued. */
interface Step {
  sequences: readonly Sequence[]
  /** Those of them that it draws a token for. */
  sampling: readonly Sequence[]
  tokens: Promise<Tokens>
}

export class Scheduler {
  readonly #pools: Pools
  readonly #decoder: Decoder
  readonly #firstTokens: SamplingBatch
  readonly #waiting: Sequence[] = []
  readonly #prefilling = new Set<Sequence>()
  readonly #decoding = new Set<Sequence>()
  #history: Tensor<'i32'> | undefined // [Slots,V], made when first needed
  #running = false
  /** Why it takes no more sequences, once it is disposed. */
  failure: Error | undefined

  constructor(
    private readonly model: NemotronH,
    private readonly options: SchedulerOptions,
  ) {
    const { sequences: slots, cacheTokens, context } = options
    this.#pools = new Pools(model, slots, pagesFor(cacheTokens))
    this.#decoder = new Decoder(model, this.#pools.layers, { slots, maxPages: pagesFor(context) })
    this.#firstTokens = new SamplingBatch(slots, model.device)
  }

  start(request: SequenceRequest): Sequence {
    if (this.failure) throw this.failure
    const sequence = new Sequence(request, this)
    if (request.maxTokens === 0) sequence.end('length')
    else this.#waiting.push(sequence)
    this.wake()
    return sequence
  }

  /** Goes on if there is something to do; called whenever that may have changed. */
  wake(): void {
    if (this.#running) return
    if (this.#waiting.length + this.#prefilling.size + this.#decoding.size > 0) void this.#run()
  }

  /** Takes an ended sequence out. Work already queued still uses its room, and comes before any that is given it. */
  leave(sequence: Sequence): void {
    const place = this.#waiting.indexOf(sequence)
    if (place >= 0) this.#waiting.splice(place, 1)
    this.#prefilling.delete(sequence)
    this.#decoding.delete(sequence)
    if (sequence.reservation) this.#pools.release(sequence.reservation)
    sequence.reservation = undefined
    this.wake()
  }

  dispose(): void {
    if (this.failure) return
    this.failure = new Error('generate: the model is disposed')
    this.#failAll(this.failure)
    this.#pools.dispose()
    this.#decoder.dispose()
    this.#firstTokens.dispose()
    this.#history?.dispose()
  }

  async #run(): Promise<void> {
    this.#running = true
    try {
      await undefined // those who start in the same turn share the first batch
      let before: Step[] = []
      for (;;) {
        this.#admit()
        const queued = [this.#prefill(), this.#decode()].filter((step) => step !== undefined)
        // Nothing to do, or all that decodes is paused. No await from here to the flag: no call of wake() is lost.
        if (queued.length + before.length === 0) return
        for (const step of before) await this.#deliver(step)
        before = queued
      }
    } catch (error) {
      this.#failAll(error)
    } finally {
      this.#running = false
    }
  }

  #failAll(failure: unknown): void {
    for (const sequence of [...this.#prefilling, ...this.#decoding, ...this.#waiting]) sequence.fail(failure)
  }

  #admit(): void {
    for (let sequence = this.#waiting[0]; sequence; sequence = this.#waiting[0]) {
      const { prompt, maxTokens } = sequence.request
      sequence.reservation = this.#pools.reserve(prompt.length + maxTokens)
      if (!sequence.reservation) return
      this.#waiting.shift()
      sequence.startedMs = performance.now()
      this.#prefilling.add(sequence)
    }
  }

  /** Queues the next piece of each prompt, first come first served, within the budget of a batch. */
  #prefill(): Step | undefined {
    const chunk = this.model.config.mamba?.chunkSize ?? 1
    let budget = this.options.prefillTokens
    const pieces: [Sequence, Segment][] = []
    for (const sequence of this.#prefilling) {
      const { past, request, reservation } = sequence
      const length = segmentLength(past, request.prompt.length - past, budget, chunk)
      if (length === 0) continue
      const ids = Array.prototype.slice.call(request.prompt, past, past + length)
      pieces.push([sequence, { ...reservation!, ids, past }])
      budget -= length
    }
    if (pieces.length === 0) return undefined
    for (const [sequence, { ids }] of pieces) sequence.past += ids.length
    // Those that reach the end of their prompt first: their last rows are the ones that sample.
    pieces.sort(([a], [b]) => Number(a.inPrompt) - Number(b.inPrompt))
    const sequences = pieces.map(([sequence]) => sequence)
    const sampling = sequences.filter((sequence) => !sequence.inPrompt)
    for (const sequence of sampling) {
      this.#prefilling.delete(sequence)
      this.#decoding.add(sequence)
    }
    const segments = pieces.map(([, segment]) => segment)
    return this.#queue('prompts', sequences, sampling, () =>
      this.#runPrompts(segments, sampling, this.#historyOf(sequences)),
    )
  }

  /** Queues one token more for each sequence whose prompt is done and whose reader keeps up. */
  #decode(): Step | undefined {
    if (this.options.prefillFirst && this.#prefilling.size > 0) return undefined
    const sequences = [...this.#decoding].filter((sequence) => !sequence.paused && !sequence.askedAll)
    if (sequences.length === 0) return undefined
    const step = this.#queue('step', sequences, sequences, () =>
      this.#decoder.step(sequences, this.#historyOf(sequences)),
    )
    for (const sequence of sequences) sequence.past++
    return step
  }

  /** `run` queues a batch of `sequences`, and gives the tokens of `sampling`. */
  #queue(
    name: string,
    sequences: readonly Sequence[],
    sampling: readonly Sequence[],
    run: () => Promise<Tokens>,
  ): Step {
    let tokens: Promise<Tokens>
    try {
      tokens = traced(name, run)
    } catch (error) {
      for (const sequence of sequences) sequence.fail(error) // at once: it has no token for a step to go on from
      tokens = Promise.reject(error)
    }
    tokens.catch(() => {}) // until it is delivered
    for (const sequence of sampling) sequence.asked++
    return { sequences, sampling, tokens }
  }

  /** Adds the tokens of a batch to its sequences, when the device has them. */
  async #deliver({ sequences, sampling, tokens }: Step): Promise<void> {
    try {
      const { ids, logprobs } = await tokens
      traced('tokens', () => {
        sampling.forEach((sequence, i) => {
          if (!sequence.ended) sequence.add(ids[i]!, logprobs?.[i])
        })
      })
    } catch (error) {
      for (const sequence of sequences) sequence.fail(error)
    }
  }

  /** Counts of tokens, where one of these has penalties. */
  #historyOf(sequences: readonly Sequence[]): Tensor<'i32'> | undefined {
    if (!sequences.some(({ counted }) => counted)) return undefined
    this.#history ??= empty('i32', [this.options.sequences, this.model.config.vocabSize], this.model.device)
    return this.#history
  }

  /** Queues pieces of prompts, of which the first ones, as many as `rows`, end and draw a token. */
  #runPrompts(segments: Segment[], rows: readonly Sequence[], history: Tensor<'i32'> | undefined): Promise<Tokens> {
    const { model } = this
    if (rows.length > 0) this.#firstTokens.set(rows)
    const sampled = scope(() => {
      const batch = packBatch(segments, model.device)
      if (history) ops.countTokens(batch.ids, batch.offsets, batch.past, batch.slots, false, history)
      const hidden = model.forward(batch, this.#pools.layers)
      if (rows.length === 0) return { ids: empty('i32', [0], model.device) } // to wait for
      const logits = model.logits(ops.lastRows(hidden, batch.offsets).rows(0, rows.length), true)
      const drawn = this.#firstTokens.sample(logits, history)
      ops.nextStep(drawn.ids, this.#firstTokens.slots, this.#decoder.last)
      return drawn
    })
    const tokens = readTokens(sampled, rows)
    disposeSampled(sampled)
    return tokens
  }
}
