/**
 * Many sequences on one model. One loop packs what they need next into batches: pieces of prompts, then one token for
 * each sequence that has begun. It runs while there is work, and only ever waits for the device.
 */
import type { NemotronH } from './model/nemotron-h.js'
import { Pools, packBatch, pagesFor, type Reservation, type Segment, segmentLength } from './model/pools.js'
import { ops } from './ops.js'
import { type SampledToken, type Sampling, sampleTokens, usesHistory } from './sampling.js'
import { scope } from './scope.js'
import { empty, type Tensor } from './tensor.js'

/** Tokens that a sequence may be ahead of whoever reads them; then it pauses. */
const maxUnread = 64

export interface SequenceRequest {
  prompt: ArrayLike<number>
  maxTokens: number
  endIds: ReadonlySet<number>
  sampling: Sampling
}

/** One sequence: the scheduler adds tokens, one reader takes them. */
export class Sequence {
  /** Tokens in the model's state. */
  past = 0
  generated = 0
  /** The last token, which the state does not hold yet. */
  last: number | undefined
  reservation: Reservation | undefined
  finish: 'stop' | 'length' | undefined
  failure: unknown
  ended = false
  readonly createdMs = performance.now()
  startedMs: number | undefined
  firstTokenMs: number | undefined
  endedMs: number | undefined
  #unread: SampledToken[] = []
  #changed: (() => void) | undefined

  constructor(
    readonly request: SequenceRequest,
    private readonly scheduler: Scheduler,
  ) {}

  get inPrompt(): boolean {
    return this.past < this.request.prompt.length
  }

  get paused(): boolean {
    return this.#unread.length >= maxUnread
  }

  add(token: SampledToken): void {
    this.firstTokenMs ??= performance.now()
    this.last = token.id
    this.generated++
    this.#unread.push(token)
    if (this.request.endIds.has(token.id)) this.end('stop')
    else if (this.generated >= this.request.maxTokens) this.end('length')
    else this.#changed?.()
  }

  /** Ends it, giving its room back at once; what it has generated can still be taken. */
  end(finish?: 'stop' | 'length'): void {
    if (this.ended) return
    this.ended = true
    this.endedMs = performance.now()
    this.finish = finish
    this.scheduler.leave(this)
    this.#changed?.()
  }

  /** Ends it; from here on the reader gets `failure` and no token. */
  fail(failure: unknown): void {
    this.failure ??= failure
    this.end()
  }

  /** Tokens not taken yet, at most `count`, once there are some; none when the sequence has ended. */
  async take(count: number): Promise<SampledToken[]> {
    while (this.#unread.length === 0 && !this.ended) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
    if (this.failure !== undefined) throw this.failure
    const tokens = this.#unread.splice(0, count)
    this.scheduler.wake()
    return tokens
  }
}

export interface SchedulerOptions {
  /** Sequences at a time; more wait their turn. */
  sequences: number
  /** Tokens of keys and values, of all sequences together. */
  cacheTokens: number
  /** Prompt tokens in one batch, at least the model's chunk. */
  prefillTokens: number
}

export class Scheduler {
  readonly #pools: Pools
  readonly #waiting: Sequence[] = []
  readonly #active = new Set<Sequence>()
  #history: Tensor<'i32'> | undefined // [Slots,V], made when first needed
  #running = false
  /** Why it takes no more sequences, once it is disposed. */
  failure: Error | undefined

  constructor(
    private readonly model: NemotronH,
    private readonly options: SchedulerOptions,
  ) {
    this.#pools = new Pools(model, options.sequences, pagesFor(options.cacheTokens))
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
    if (!this.#running && this.#waiting.length + this.#active.size > 0) void this.#run()
  }

  /** Takes an ended sequence out. Work already queued still uses its room, and comes before any that is given it. */
  leave(sequence: Sequence): void {
    const place = this.#waiting.indexOf(sequence)
    if (place >= 0) this.#waiting.splice(place, 1)
    this.#active.delete(sequence)
    if (sequence.reservation) this.#pools.release(sequence.reservation)
    sequence.reservation = undefined
    this.wake()
  }

  dispose(): void {
    if (this.failure) return
    this.failure = new Error('generate: the model is disposed')
    this.#failAll(this.failure)
    this.#pools.dispose()
    this.#history?.dispose()
  }

  async #run(): Promise<void> {
    this.#running = true
    try {
      await undefined // those who start in the same turn share the first batch
      for (;;) {
        this.#admit()
        const prompts = this.#promptSegments()
        if (prompts.length > 0) await this.#step(prompts, false)
        const decoding = this.#decodeSegments()
        if (decoding.length > 0) await this.#step(decoding, true)
        // Nothing to do, or all that is active is paused. No await from here to the flag: no call of wake() is lost.
        if (prompts.length + decoding.length === 0) return
      }
    } catch (error) {
      this.#failAll(error)
    } finally {
      this.#running = false
    }
  }

  #failAll(failure: unknown): void {
    for (const sequence of [...this.#active, ...this.#waiting]) sequence.fail(failure)
  }

  #admit(): void {
    for (let sequence = this.#waiting[0]; sequence; sequence = this.#waiting[0]) {
      const { prompt, maxTokens } = sequence.request
      sequence.reservation = this.#pools.reserve(prompt.length + maxTokens)
      if (!sequence.reservation) return
      this.#waiting.shift()
      sequence.startedMs = performance.now()
      this.#active.add(sequence)
    }
  }

  /** The next piece of each prompt, first come first served, within the budget of a batch. */
  #promptSegments(): [Sequence, Segment][] {
    const chunk = this.model.config.mamba?.chunkSize ?? 1
    let budget = this.options.prefillTokens
    const segments: [Sequence, Segment][] = []
    for (const sequence of this.#active) {
      if (!sequence.inPrompt) continue
      const { past, request, reservation } = sequence
      const length = segmentLength(past, request.prompt.length - past, budget, chunk)
      if (length === 0) continue
      const ids = Array.prototype.slice.call(request.prompt, past, past + length)
      segments.push([sequence, { ...reservation!, ids, past }])
      budget -= length
    }
    // Those that reach the end of their prompt first: their last rows are the ones that sample.
    return segments.sort((a, b) => Number(reachesEnd(b)) - Number(reachesEnd(a)))
  }

  /** The last token of each sequence whose prompt is done and whose reader keeps up. */
  #decodeSegments(): [Sequence, Segment][] {
    return [...this.#active]
      .filter((sequence) => !sequence.inPrompt && !sequence.paused)
      .map((sequence) => [sequence, { ...sequence.reservation!, ids: [sequence.last!], past: sequence.past }])
  }

  /** One batch through the model; adds a token to every sequence that it brought to the end of what is known. */
  async #step(segments: [Sequence, Segment][], decode: boolean): Promise<void> {
    try {
      const sampling = segments.filter(reachesEnd).map(([sequence]) => sequence)
      const rows = sampling.map((s) => ({
        sampling: s.request.sampling,
        slot: s.reservation!.slot,
        step: s.generated,
      }))
      const history = segments.some(([s]) => usesHistory(s.request.sampling)) ? this.#countedTokens() : undefined
      using logits = scope(() => this.#forward(segments, rows.length, decode, history))
      for (const [sequence, segment] of segments) sequence.past += segment.ids.length
      if (rows.length === 0) {
        await logits.read() // of nothing: waits for the batch, so that an abort can act before the next
        return
      }
      const tokens = await sampleTokens(logits, rows, history)
      sampling.forEach((sequence, i) => {
        if (!sequence.ended) sequence.add(tokens[i]!)
      })
    } catch (error) {
      for (const [sequence] of segments) sequence.fail(error)
    }
  }

  #countedTokens(): Tensor<'i32'> {
    this.#history ??= empty('i32', [this.options.sequences, this.model.config.vocabSize], this.model.device)
    return this.#history
  }

  /** Logits [S,V] of the first `count` sequences' last tokens. */
  #forward(segments: [Sequence, Segment][], count: number, decode: boolean, history?: Tensor<'i32'>): Tensor<'f32'> {
    const { model } = this
    const batch = packBatch(
      segments.map(([, segment]) => segment),
      decode,
      model.device,
    )
    if (history && !decode) ops.countTokens(batch.ids, batch.offsets, batch.past, batch.slots, false, history)
    const hidden = model.forward(batch, this.#pools.layers)
    if (count === 0) return empty('f32', [0], model.device)
    const last = decode ? hidden : ops.lastRows(hidden, batch.offsets)
    return model.logits(last.rows(0, count), true)
  }
}

const reachesEnd = ([{ request }, { past, ids }]: [Sequence, Segment]) => past + ids.length >= request.prompt.length
