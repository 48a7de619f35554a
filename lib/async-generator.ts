/**
 * Async generators over sources that mostly need not wait. `async function*` awaits each value it yields, and once more
 * whatever it waits for; this makes one promise for each value, and decoding gives one to each reader at every step.
 */

/** The source has no value now. */
export const waiting = Symbol('waiting')

/** A value, `waiting`, or undefined: there are no more. */
export type Next<T> = T | typeof waiting | undefined

/** Gives values one at a time. */
export interface Source<T> {
  /** Where it gives `waiting` it keeps the reader, and wakes it, once, when it can be asked again. */
  next(reader: Reader): Next<T> | Promise<Next<T>>
  /** Called once, at the end: next() said so or threw, or nobody wants more. */
  end(): void
}

export interface Reader {
  wake(): void
}

/**
 * The values of the source that `begin` makes. As with `async function*`, nothing happens before the first value is asked
 * for, and requests are answered in their order.
 */
export function asyncGenerator<T extends object>(begin: () => Promise<Source<T>>): AsyncGenerator<T, void, void> {
  return new Driver(begin)
}

interface Request<T> {
  resolve: (result: IteratorResult<T, void>) => void
  reject: (error: unknown) => void
  /** What to end with; undefined: it asks for a value. */
  end: 'return' | { error: unknown } | undefined
  /** The one asked after it. */
  later: Request<T> | undefined
}

/** What settles the promise made last. One function takes it from all of them, as a closure for each costs more. */
let resolveLast: (result: never) => void
let rejectLast: (error: unknown) => void
const keepSettlers = (resolve: typeof resolveLast, reject: typeof rejectLast) => {
  resolveLast = resolve
  rejectLast = reject
}

class Driver<T extends object> implements AsyncGenerator<T, void, void>, Reader {
  #source: Source<T> | undefined // once begun
  #request: Request<T> | undefined // the one to answer
  #asking = false // the source, which has not answered
  #ended = false

  constructor(private readonly begin: () => Promise<Source<T>>) {}

  next(): Promise<IteratorResult<T, void>> {
    return this.#ask()
  }

  return(): Promise<IteratorResult<T, void>> {
    return this.#ask('return')
  }

  throw(error: unknown): Promise<IteratorResult<T, void>> {
    return this.#ask({ error })
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  wake(): void {
    this.#asking = false
    this.#answer()
  }

  #ask(end?: Request<T>['end']): Promise<IteratorResult<T, void>> {
    const promise = new Promise<IteratorResult<T, void>>(keepSettlers)
    const resolve = resolveLast as Request<T>['resolve']
    const request: Request<T> = { resolve, reject: rejectLast, end, later: undefined }
    let last = this.#request
    while (last?.later) last = last.later
    if (last) last.later = request
    else {
      this.#request = request
      this.#answer()
    }
    return promise
  }

  /** Answers requests until the source lets it wait, or all are answered. */
  #answer(): void {
    while (this.#request && !this.#asking) {
      const { end } = this.#request
      try {
        if (end) this.#end()
        if (typeof end === 'object') throw end.error
        this.#asking = true
        this.#give(this.#ended ? undefined : this.#next())
      } catch (error) {
        this.#fail(error)
      }
    }
  }

  #next(): Next<T> | Promise<Next<T>> {
    if (this.#source) return this.#source.next(this)
    return this.begin().then((source) => {
      this.#source = source
      return source.next(this)
    })
  }

  #give(next: Next<T> | Promise<Next<T>>): void {
    if (next === waiting) return
    if (next instanceof Promise) {
      next.then(this.#settled, this.#failed)
      return
    }
    if (next === undefined) this.#end()
    this.#take().resolve(next === undefined ? { value: undefined, done: true } : { value: next, done: false })
  }

  #fail(error: unknown): void {
    this.#end()
    this.#take().reject(error)
  }

  /** The request that is answered now. */
  #take(): Request<T> {
    const request = this.#request!
    this.#request = request.later
    this.#asking = false
    return request
  }

  #end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#source?.end()
  }

  readonly #settled = (next: Next<T>) => {
    this.#give(next)
    this.#answer()
  }

  readonly #failed = (error: unknown) => {
    this.#fail(error)
    this.#answer()
  }
}
