/**
 * Async generators for sources that mostly need not wait. `async function*` awaits each value it yields, and once more
 * whatever it waits for; this makes one promise for each value, and decoding gives one to each reader at every step.
 */

/** What a source yields to wait: the function is given what to call, once, when the source can go on. */
export type Wait = (wake: () => void) => void

type Source<T> = Generator<T | Wait, void, void>

/**
 * The values of `source`, in which `yield` gives a value (no function) or a Wait. As with `async function*`, it runs only
 * while asked for a value, and requests are answered in their order.
 */
export function asyncGenerator<T extends object>(source: Source<T>): AsyncGenerator<T, void, void> {
  return new Driven(source)
}

/** In a source, `yield* settled(promise)`: waits for what it gives or throws. */
export function* settled<T>(promise: Promise<T>): Generator<Wait, T, void> {
  let outcome: PromiseSettledResult<T> | undefined
  yield (wake) => {
    void Promise.allSettled([promise]).then(([result]) => {
      outcome = result
      wake()
    })
  }
  if (outcome!.status === 'rejected') throw outcome!.reason
  return outcome!.value
}

interface Request<T> {
  /** Goes on with the source: as next(), return() or throw() do, and as next() once it has waited. */
  resume: (source: Source<T>) => IteratorResult<T | Wait, void>
  resolve: (result: IteratorResult<T, void>) => void
  reject: (error: unknown) => void
}

class Driven<T extends object> implements AsyncGenerator<T, void, void> {
  #request: Request<T> | undefined
  readonly #later: Request<T>[] = [] // asked while that one is not answered
  #waiting = false

  constructor(private readonly source: Source<T>) {}

  next(): Promise<IteratorResult<T, void>> {
    return this.#ask(next)
  }

  return(): Promise<IteratorResult<T, void>> {
    return this.#ask((source) => source.return())
  }

  throw(error: unknown): Promise<IteratorResult<T, void>> {
    return this.#ask((source) => source.throw(error))
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return()
  }

  #ask(resume: Request<T>['resume']): Promise<IteratorResult<T, void>> {
    return new Promise((resolve, reject) => {
      const request = { resume, resolve, reject }
      if (this.#request) this.#later.push(request)
      else {
        this.#request = request
        this.#answer()
      }
    })
  }

  readonly #wake = () => {
    this.#waiting = false
    this.#answer()
  }

  /** Goes on with the source until it waits, or nothing is asked. */
  #answer(): void {
    for (let request = this.#request; request && !this.#waiting; request = this.#request) {
      try {
        const result = request.resume(this.source)
        if (typeof result.value === 'function') {
          request.resume = next
          this.#waiting = true
          result.value(this.#wake)
          continue
        }
        request.resolve(result as IteratorResult<T, void>)
      } catch (error) {
        request.reject(error)
      }
      this.#request = this.#later.shift()
    }
  }
}

const next = <T>(source: Source<T>) => source.next()
