/**
 * Many sequences on one model. One loop packs what they need next into batches: pieces of prompts, then one token for
 * each sequence that has begun. It runs while there is work, and only ever waits for the device.
 */
import type { NemotronH } from './model/nemotron-h.js'
import { Pools, packBatch, type Reservation, type Segment, segmentLength } from './model/pools.js'
import { ops } from './ops.js'
import { type SampledToken, type Sampling, sampleTokens, usesHistory } from './sampling.js'
import { scope } from './scope.js'
import { empty, type Tensor, tensor } from './tensor.js'

/** Tokens that a sequence may be ahead of whoever reads them; then it pauses. */
const maxUnread = 64

export interface SequenceRequest {
  prompt: ArrayLike<number>
  maxTokens: number
  endIds: ReadonlySet<number>
  sampling: Sampling
  signal: AbortSignal | undefined
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
  readonly createdMs = performance.now()
  startedMs: number | undefined
  firstTokenMs: number | undefined
  endedMs: number | undefined
  #unread: SampledToken[] = []
  #failure: unknown
  #ended = false
  #changed: (() => void) | undefined

  constructor(
    readonly request: SequenceRequest,
    private readonly scheduler: Scheduler,
  ) {}

  get ended(): boolean {
    return this.#ended
  }

  get paused(): boolean {
    return this.#unread.length >= maxUnread
  }

  /** Segment of the prompt or the last token, at most `budget` long; undefined when the sequence waits. */
  next(budget: number, chunk: number): Segment | undefined {
    const { prompt } = this.request
    if (!this.reservation) return undefined
    if (this.past >= prompt.length) {
      return { ...this.reservation, ids: [this.last!], past: this.past }
    }
    const length = segmentLength(this.past, prompt.length - this.past, budget, chunk)
    if (length === 0) return undefined
    const ids = Array.prototype.slice.call(prompt, this.past, this.past + length)
    return { ...this.reservation, ids, past: this.past }
  }

  get inPrompt(): boolean {
    return this.past < this.request.prompt.length
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

  /** Ends it, giving its room back at once; no token follows. */
  end(finish?: 'stop' | 'length', failure?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.endedMs = performance.now()
    this.finish = finish
    this.#failure = failure
    this.scheduler.leave(this)
    this.#changed?.()
  }

  /** All tokens not taken yet, once there are some; none when the sequence has ended. Rejects with what ended it. */
  async take(): Promise<SampledToken[]> {
    while (this.#unread.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve
      })
    }
    if (this.#unread.length === 0 && this.#failure !== undefined) throw this.#failure
    const tokens = this.#unread
    this.#unread = []
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
  #running: Promise<void> | undefined
  #disposed = false

  constructor(
    private readonly model: NemotronH,
    private readonly options: SchedulerOptions,
  ) {
    this.#pools = new Pools(model, options.sequences, options.cacheTokens)
  }

  start(request: SequenceRequest): Sequence {
    const sequence = new Sequence(request, this)
    if (request.maxTokens === 0) sequence.end('length')
    else this.#waiting.push(sequence)
    this.wake()
    return sequence
  }

  /** Goes on if there is something to do; called whenever that may have changed. */
  wake(): void {
    if (this.#disposed || this.#running || (this.#waiting.length === 0 && this.#active.size === 0)) return
    this.#running = this.#run()
      .catch((error) => this.#endAll(error))
      .finally(() => {
        this.#running = undefined
      })
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
    if (this.#disposed) return
    this.#disposed = true
    this.#endAll(new Error('generate: the model is disposed'))
    this.#pools.dispose()
    this.#history?.dispose()
  }

  async #run(): Promise<void> {
    await undefined // those who start in the same turn share the first batch
    while (!this.#disposed) {
      this.#endAborted()
      this.#admit()
      const prompts = this.#promptSegments()
      const prompted = await this.#step(prompts, false)
      const decoding = [...this.#active].filter((s) => !s.inPrompt && !s.paused && !prompts.some(([p]) => p === s))
      const decoded = await this.#step(
        decoding.map((s) => [s, s.next(1, 1)!]),
        true,
      )
      if (!prompted && !decoded) return // all that is active is paused; taking tokens wakes
    }
  }

  #endAll(failure: unknown): void {
    for (const sequence of [...this.#active, ...this.#waiting]) sequence.end(undefined, failure)
  }

  #endAborted(): void {
    for (const sequence of [...this.#active, ...this.#waiting]) {
      const { signal } = sequence.request
      if (signal?.aborted) sequence.end(undefined, signal.reason)
    }
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
      const segment = sequence.next(budget, chunk)
      if (!segment) continue
      segments.push([sequence, segment])
      budget -= segment.ids.length
    }
    // Those that reach the end of their prompt first: their last rows are the ones that sample.
    const reachesEnd = ([s, segment]: [Sequence, Segment]) => segment.past + segment.ids.length >= s.request.prompt.length
    return segments.sort((a, b) => Number(reachesEnd(b)) - Number(reachesEnd(a)))
  }

  /** One batch through the model; adds a token to every sequence that it brought to the end of what is known. */
  async #step(segments: [Sequence, Segment][], decode: boolean): Promise<boolean> {
    if (segments.length === 0) return false
    try {
      const sampling = segments
        .filter(([s, segment]) => decode || segment.past + segment.ids.length >= s.request.prompt.length)
        .map(([sequence]) => sequence)
      const output = scope(() => this.#forward(segments, sampling.length, decode))
      for (const [sequence, segment] of segments) sequence.past += segment.ids.length
      try {
        if (sampling.length === 0) {
          await output.read() // nothing of it: waits for the batch, so that an abort can act before the next
          return true
        }
        const rows = sampling.map((s) => ({
          sampling: s.request.sampling,
          slot: s.reservation!.slot,
          step: s.generated,
        }))
        const tokens = await sampleTokens(output, rows, this.#history)
        sampling.forEach((sequence, i) => {
          if (!sequence.ended) sequence.add(tokens[i]!)
        })
      } finally {
        output.dispose()
      }
    } catch (error) {
      for (const [sequence] of segments) sequence.end(undefined, error)
    }
    return true
  }

  /** Logits [S,V] of the first `count` sequences' last tokens. */
  #forward(segments: [Sequence, Segment][], count: number, decode: boolean): Tensor<'f32'> {
    const { model } = this
    const batch = packBatch(
      segments.map(([, segment]) => segment),
      decode,
    )
    if (!decode && segments.some(([s]) => usesHistory(s.request.sampling))) {
      this.#history ??= empty('i32', [this.#pools.slots, model.config.vocabSize])
      ops.countTokens(batch.ids, batch.offsets, batch.past, batch.slots, false, this.#history)
    }
    const hidden = model.forward(batch, this.#pools.layers)
    if (count === 0) return tensor(new Float32Array(0), 'f32', [0])
    const last = decode ? hidden : ops.lastRows(hidden, batch.offsets)
    return model.logits(last.rows(0, count))
  }
}
