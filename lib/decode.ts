/**
 * One token more for each sequence, again and again, without the host between two steps: tokens, positions and draws go
 * on where they are, and a step is recorded once for each size of the batch and replayed. The host writes only when
 * other sequences take part, and reads tokens while the next step runs.
 */
import { device, type Graph } from './device.js'
import { maxGraphs } from './model/config.js'
import type { LayerState } from './model/layer.js'
import type { NemotronH } from './model/nemotron-h.js'
import { pageTable, type Reservation } from './model/pools.js'
import { ops } from './ops.js'
import { disposeSampled, readTokens, type Sampled, SamplingBatch, type SamplingRow, type Tokens } from './sampling.js'
import { scope } from './scope.js'
import { empty, type Tensor, tensor } from './tensor.js'

/** A sequence that goes on: the same object at every step. */
export interface DecodeRow extends SamplingRow, Reservation {
  /** Tokens in its state. */
  past: number
}

export interface DecoderSizes {
  /** Sequences at a time. */
  slots: number
  /** Pages that one sequence may have. */
  maxPages: number
}

interface RecordedStep {
  graph: Graph
  sampled: Sampled
}

export class Decoder {
  /** The last token of every slot, [Slots]: what its sequence goes on with. */
  readonly last: Tensor<'i32'>
  readonly #sampling: SamplingBatch
  readonly #offsets: Tensor<'i32'> // [Slots+1], one token a sequence
  readonly #past: Tensor<'i32'> // [Slots]
  readonly #pages: Tensor<'i32'> // [Slots,MaxPages]
  readonly #logits: Tensor<'f32'> // [Slots,V], of all recorded steps
  readonly #graphs = new Map<string, RecordedStep>() // the last used last
  #rows: readonly DecodeRow[] = [] // the batch as the device has it
  #recorded: RecordedStep | undefined // its step; none where a row has biases

  constructor(
    private readonly model: NemotronH,
    private readonly state: LayerState[],
    private readonly sizes: DecoderSizes,
  ) {
    const { slots, maxPages } = sizes
    const { device: on, config } = model
    this.#sampling = new SamplingBatch(slots, on)
    this.#offsets = tensor(
      Int32Array.from({ length: slots + 1 }, (_, s) => s),
      'i32',
      [slots + 1],
      on,
    )
    this.#past = empty('i32', [slots], on)
    this.#pages = empty('i32', [slots, maxPages], on)
    this.#logits = empty('f32', [slots, config.vocabSize], on)
    this.last = empty('i32', [slots], on)
  }

  /**
   * Queues a step of these sequences, whose last tokens are in `last`, and gives their next ones when the device has them.
   * `history` [Slots,V] counts tokens where some have penalties.
   */
  step(rows: readonly DecodeRow[], history: Tensor<'i32'> | undefined): Promise<Tokens> {
    const same = rows.length === this.#rows.length && rows.every((row, s) => row === this.#rows[s])
    if (!same) this.#place(rows, history)
    if (this.#recorded) {
      this.#recorded.graph.replay()
      return readTokens(this.#recorded.sampled, rows)
    }
    const sampled = scope(() => this.#queue(rows.length, history))
    const tokens = readTokens(sampled, rows)
    disposeSampled(sampled)
    return tokens
  }

  dispose(): void {
    for (const key of [...this.#graphs.keys()]) this.#forget(key)
    for (const t of [this.last, this.#offsets, this.#past, this.#pages, this.#logits]) t.dispose()
    this.#sampling.dispose()
  }

  /** Writes what the device does not have yet, and finds the step of this batch. */
  #place(rows: readonly DecodeRow[], history: Tensor<'i32'> | undefined): void {
    this.#rows = []
    this.#sampling.set(rows)
    using past = this.#past.rows(0, rows.length)
    using pages = this.#pages.rows(0, rows.length)
    past.write(Int32Array.from(rows, (row) => row.past))
    pages.write(pageTable(rows, this.sizes.maxPages))
    this.#recorded = this.#sampling.biased ? undefined : this.#stepOf(rows.length, history)
    this.#rows = rows
  }

  #stepOf(count: number, history: Tensor<'i32'> | undefined): RecordedStep {
    const key = `${count} ${this.#sampling.logprobs} ${history !== undefined}`
    const recorded = this.#graphs.get(key) ?? this.#record(count, history)
    this.#graphs.delete(key)
    this.#graphs.set(key, recorded)
    if (this.#graphs.size > maxGraphs) this.#forget(this.#graphs.keys().next().value!)
    return recorded
  }

  #record(count: number, history: Tensor<'i32'> | undefined): RecordedStep {
    let sampled: Sampled | undefined
    const graph = device(this.model.device).capture(() => {
      sampled = scope(() => this.#queue(count, history))
    })
    return { graph, sampled: sampled! }
  }

  #forget(key: string): void {
    const { graph, sampled } = this.#graphs.get(key)!
    this.#graphs.delete(key)
    graph.dispose()
    disposeSampled(sampled)
  }

  /** The step itself. Call it in a scope. */
  #queue(count: number, history: Tensor<'i32'> | undefined): Sampled {
    const past = this.#past.rows(0, count)
    const slots = this.#sampling.slots
    const batch = {
      ids: ops.takeIds(this.last, slots),
      offsets: this.#offsets.rows(0, count + 1),
      past,
      slots,
      pages: this.#pages.rows(0, count),
      decode: true,
    }
    const hidden = this.model.forward(batch, this.state)
    const logits = this.model.logits(hidden, true, this.#logits.rows(0, count))
    const sampled = this.#sampling.sample(logits, history)
    ops.nextStep(sampled.ids, slots, this.last, past, this.#sampling.step)
    return sampled
  }
}
