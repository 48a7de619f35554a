/** From logits to tokens: each sequence's settings, packed for the ops that read them. */
import { ops } from './ops.js'
import { type DType, empty, type Tensor, tensor } from './tensor.js'

/** How one sequence draws its tokens. Neutral values leave the distribution as it is. */
export interface Sampling {
  temperature: number // 0: always the likeliest
  topK: number // 0: all
  topP: number
  minP: number
  repetitionPenalty: number
  frequencyPenalty: number
  presencePenalty: number
  logitBias: ReadonlyMap<number, number>
  seed: number // an integer from 0 to 2^53 - 1
  logprobs: number | undefined // how many alternatives to report; undefined: no log-probabilities
}

/** One row of a batch that samples. */
export interface SamplingRow {
  sampling: Sampling
  slot: number
  /** Tokens already generated: the draw is a function of seed and step. */
  step: number
}

export interface TokenLogprobs {
  id: number
  logprob: number
  /** The likeliest tokens in falling order. */
  top: { id: number; logprob: number }[]
}

/** What was drawn for each row of a batch. */
export interface Tokens {
  ids: Int32Array
  /** Where some rows ask for them; undefined for the others. */
  logprobs?: (TokenLogprobs | undefined)[]
}

export const usesHistory = ({ repetitionPenalty, frequencyPenalty, presencePenalty }: Sampling) =>
  repetitionPenalty !== 1 || frequencyPenalty !== 0 || presencePenalty !== 0

/** What is drawn for each of S rows, on the device. */
export interface Sampled {
  ids: Tensor<'i32'> // [S]
  logprobs?: Tensor<'f32'> // [S]
  top?: [ids: Tensor<'i32'>, values: Tensor<'f32'>] // [S,count] each
}

type Settings = Pick<
  Sampling,
  'temperature' | 'topP' | 'minP' | 'repetitionPenalty' | 'frequencyPenalty' | 'presencePenalty'
>
const floats = ['temperature', 'topP', 'minP', 'repetitionPenalty', 'frequencyPenalty', 'presencePenalty'] as const

/** Rows that sample: their settings on a device, written when rows change, and read there by every step. */
export class SamplingBatch {
  #count = 0 // of rows
  /** The most log-probabilities that a row asks for; -1: none asks. */
  logprobs = -1
  readonly #floats: Record<keyof Settings, Tensor<'f32'>> // [capacity] each
  readonly #slots: Tensor<'i32'> // [capacity]
  readonly #topK: Tensor<'i32'> // [capacity]
  readonly #step: Tensor<'i32'> // [capacity]
  readonly #seed: Tensor<'i32'> // [capacity,2], low word and high word
  readonly #counting: Tensor<'i32'> // [capacity+1], from 0: offsets of one token each
  readonly #ones: Tensor<'i32'> // [capacity]: as `past`, that tokens went before
  #bias: Bias | undefined

  constructor(
    capacity: number,
    private readonly device: string,
  ) {
    const i32 = (shape: number[]) => empty('i32', shape, device)
    const entries = floats.map((name) => [name, empty('f32', [capacity], device)])
    this.#floats = Object.fromEntries(entries) as Record<keyof Settings, Tensor<'f32'>>
    this.#slots = i32([capacity])
    this.#topK = i32([capacity])
    this.#step = i32([capacity])
    this.#seed = i32([capacity, 2])
    this.#counting = tensor(
      Int32Array.from({ length: capacity + 1 }, (_, s) => s),
      'i32',
      [capacity + 1],
      device,
    )
    this.#ones = tensor(new Int32Array(capacity).fill(1), 'i32', [capacity], device)
  }

  /** The rows to sample from here on. */
  set(rows: readonly SamplingRow[]): void {
    this.#count = rows.length
    this.logprobs = Math.max(-1, ...rows.map(({ sampling }) => sampling.logprobs ?? -1))
    this.#bias?.dispose()
    this.#bias = undefined
    const write = (t: Tensor, values: Float32Array | Int32Array) => {
      using head = t.rows(0, rows.length)
      head.write(values)
    }
    for (const name of floats)
      write(
        this.#floats[name],
        Float32Array.from(rows, ({ sampling }) => sampling[name]),
      )
    write(
      this.#slots,
      Int32Array.from(rows, ({ slot }) => slot),
    )
    write(
      this.#topK,
      Int32Array.from(rows, ({ sampling }) => sampling.topK),
    )
    write(
      this.#step,
      Int32Array.from(rows, ({ step }) => step),
    )
    write(this.#seed, Int32Array.from(rows.flatMap(({ sampling: { seed } }) => [seed | 0, Math.floor(seed / 2 ** 32)])))
    if (rows.some(({ sampling }) => sampling.logitBias.size > 0)) this.#bias = new Bias(rows, this.device)
  }

  /** Some row has biases: lists whose lengths differ from batch to batch. */
  get biased(): boolean {
    return this.#bias !== undefined
  }

  /** A view [S]: call it in a scope. */
  get slots(): Tensor<'i32'> {
    return this.#head(this.#slots)
  }

  /** A view [S]: call it in a scope. */
  get step(): Tensor<'i32'> {
    return this.#head(this.#step)
  }

  /**
   * Draws a token for each row of logits[S,V], which are used up. `history` [Slots,V] counts tokens for the penalties, if
   * any row has some, and is moved on. Log-probabilities are those of the model, before any setting. Call it in a scope.
   */
  sample(logits: Tensor<'f32'>, history: Tensor<'i32'> | undefined): Sampled {
    const [S, V] = logits.shape as [number, number]
    const widest = this.logprobs
    const [slots, step] = [this.slots, this.step]
    const { temperature, topP, minP, repetitionPenalty, frequencyPenalty, presencePenalty } = this.#floats
    const original = widest >= 0 ? ops.cast(logits, 'f32') : undefined
    if (history) {
      const penalties = [repetitionPenalty, frequencyPenalty, presencePenalty].map((t) => this.#head(t))
      ops.penalize(logits, history, slots, ...(penalties as [Tensor<'f32'>, Tensor<'f32'>, Tensor<'f32'>]))
    }
    this.#bias?.addTo(logits)
    const ids = ops.sample(
      logits,
      this.#head(temperature),
      this.#head(this.#topK),
      this.#head(topP),
      this.#head(minP),
      this.#head(this.#seed),
      step,
    )
    if (history) ops.countTokens(ids, this.#counting.rows(0, S + 1), this.#head(this.#ones), slots, true, history)
    if (!original) return { ids }
    return { ids, logprobs: ops.logProbs(original, ids), top: ops.topLogProbs(original, Math.min(widest, V)) }
  }

  dispose(): void {
    const all = [this.#slots, this.#topK, this.#step, this.#seed, this.#counting, this.#ones]
    for (const t of [...all, ...Object.values(this.#floats)]) t.dispose()
    this.#bias?.dispose()
  }

  #head<D extends DType>(t: Tensor<D>): Tensor<D> {
    return t.rows(0, this.#count)
  }
}

/** The tokens of `rows` when the device has them. */
export async function readTokens(sampled: Sampled, rows: readonly SamplingRow[]): Promise<Tokens> {
  if (!sampled.logprobs || !sampled.top) return { ids: await sampled.ids.read() }
  const [topIds, topValues] = sampled.top
  const reads = [sampled.ids.read(), sampled.logprobs.read(), topIds.read(), topValues.read()] as const
  const [ids, chosen, likeliest, values] = await Promise.all(reads)
  const count = likeliest.length / rows.length
  const logprobs = rows.map(({ sampling: { logprobs: wanted } }, s) => {
    if (wanted === undefined) return undefined
    const top = Array.from({ length: Math.min(wanted, count) }, (_, i) => ({
      id: likeliest[s * count + i]!,
      logprob: values[s * count + i]!,
    }))
    return { id: ids[s]!, logprob: chosen[s]!, top }
  })
  return { ids, logprobs }
}

export function disposeSampled({ ids, logprobs, top }: Sampled): void {
  for (const t of [ids, logprobs, ...(top ?? [])]) t?.dispose()
}

/** What is added to logits: for each row its list of tokens. */
class Bias {
  readonly #offsets: Tensor<'i32'> // [S+1]
  readonly #ids: Tensor<'i32'> // [E]
  readonly #values: Tensor<'f32'> // [E]

  constructor(rows: readonly SamplingRow[], device: string) {
    const offsets = [0]
    const entries: [number, number][] = []
    for (const { sampling } of rows) {
      for (const entry of sampling.logitBias) entries.push(entry)
      offsets.push(entries.length)
    }
    const [ids, values] = [Int32Array.from(entries, ([id]) => id), Float32Array.from(entries, ([, value]) => value)]
    this.#offsets = tensor(Int32Array.from(offsets), 'i32', [offsets.length], device)
    this.#ids = tensor(ids, 'i32', [ids.length], device)
    this.#values = tensor(values, 'f32', [values.length], device)
  }

  addTo(logits: Tensor<'f32'>): void {
    ops.biasLogits(logits, this.#offsets, this.#ids, this.#values)
  }

  dispose(): void {
    for (const t of [this.#offsets, this.#ids, this.#values]) t.dispose()
  }
}
