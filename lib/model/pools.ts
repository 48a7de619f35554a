/**
 * The memory of all sequences: a slot in each layer's pool for convolution and SSM state, and pages for keys and
 * values. A sequence reserves all it may need when it starts, so none is ever put out half way.
 */
import { scope } from '../scope.js'
import { tensor } from '../tensor.js'
import { pageSize, pagesFor } from './config.js'
import type { Batch, LayerState } from './layer.js'
import type { NemotronH } from './nemotron-h.js'

export interface Reservation {
  slot: number
  pages: number[]
}

/** The next tokens of one sequence, of which `past` went before. */
export interface Segment extends Reservation {
  ids: ArrayLike<number>
  past: number
}

export class Pools {
  readonly layers: LayerState[]
  readonly #freeSlots: number[]
  readonly #freePages: number[]

  /** Room for `slots` sequences and, in all of them together, for `pages` pages of keys and values. */
  constructor(model: NemotronH, slots: number, pages: number) {
    this.layers = scope(() => model.makeState({ device: model.device, slots, pages, pageSize }))
    this.#freeSlots = countdown(slots)
    this.#freePages = countdown(pages)
  }

  /** Room for one sequence of at most `tokens` tokens; undefined while there is none. */
  reserve(tokens: number): Reservation | undefined {
    const pages = pagesFor(tokens)
    if (this.#freeSlots.length === 0 || this.#freePages.length < pages) return undefined
    return { slot: this.#freeSlots.pop()!, pages: this.#freePages.splice(this.#freePages.length - pages) }
  }

  release({ slot, pages }: Reservation): void {
    this.#freeSlots.push(slot)
    for (const page of pages) this.#freePages.push(page)
  }

  dispose(): void {
    for (const layer of this.layers) for (const t of Object.values(layer)) t.dispose()
  }
}

/** The pages of each sequence as a row [S,width]; -1 where it has no more. */
export function pageTable(places: readonly Reservation[], width: number): Int32Array {
  const table = new Int32Array(places.length * width).fill(-1)
  places.forEach(({ pages }, s) => {
    table.set(pages, s * width)
  })
  return table
}

/** Packs the segments of several prompts into one batch on `device`. */
export function packBatch(segments: readonly Segment[], device: string): Batch {
  const S = segments.length
  const widest = Math.max(1, ...segments.map(({ pages }) => pages.length))
  const offsets = new Int32Array(S + 1)
  segments.forEach((segment, s) => {
    offsets[s + 1] = offsets[s]! + segment.ids.length
  })
  const ids = new Int32Array(offsets[S]!)
  segments.forEach((segment, s) => {
    ids.set(segment.ids, offsets[s]!)
  })
  const integers = (values: Int32Array, shape = [values.length]) => tensor(values, 'i32', shape, device)
  return {
    ids: integers(ids),
    offsets: integers(offsets),
    past: integers(Int32Array.from(segments, ({ past }) => past)),
    slots: integers(Int32Array.from(segments, ({ slot }) => slot)),
    pages: integers(pageTable(segments, widest), [S, widest]),
    decode: false,
  }
}

/**
 * How many of the tokens that follow `past` to take next: at most `budget`, and unless that is all of them, up to a
 * multiple of `chunk`, so that the scan has the same chunks however a prompt is cut.
 */
export function segmentLength(past: number, remaining: number, budget: number, chunk: number): number {
  if (remaining <= budget) return remaining
  return Math.max(0, Math.floor((past + budget) / chunk) * chunk - past)
}

/** n-1 down to 0: pop() gives the smallest first. */
const countdown = (n: number) => Array.from({ length: n }, (_, i) => n - 1 - i)
