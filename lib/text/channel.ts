// Calls into a tokenizer's worker thread: one promise per call. The thread keeps the process alive exactly while
// a call is pending, and its end, wanted or not, rejects what is pending and everything after.

import { Worker } from 'node:worker_threads'
import type { Answer, Call, Operations } from './worker.js'

interface Pending {
  operation: keyof Operations
  resolve(value: unknown): void
  reject(error: Error): void
}

export class Channel {
  readonly #folder: string
  readonly #worker: Worker
  readonly #pending = new Map<number, Pending>()
  #calls = 0
  /** Why calls are refused; undefined while the thread runs. */
  #ended: { how: string; options: ErrorOptions | undefined } | undefined

  constructor(folder: string) {
    this.#folder = folder
    // Flags of the application are not the thread's: with --input-type=module, for one, no file would load.
    const options = { name: 'nemotron-h tokenizer', execArgv: [] }
    this.#worker = new Worker(new URL('./worker.js', import.meta.url), options)
    this.#worker.unref()
    this.#worker.on('message', (answer: Answer) => this.#settle(answer))
    this.#worker.on('error', (error) => this.#end(`crashed (${error.message})`, error))
    this.#worker.on('exit', (code) => this.#end(`crashed (its thread exited with code ${code})`))
  }

  call<K extends keyof Operations>(
    operation: K,
    argument: Parameters<Operations[K]>[0],
  ): Promise<Awaited<ReturnType<Operations[K]>>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#refusal(operation))
      const call = this.#calls++
      this.#worker.postMessage({ call, operation, argument } as Call[K])
      if (this.#pending.size === 0) this.#worker.ref()
      this.#pending.set(call, { operation, resolve: resolve as Pending['resolve'], reject })
    })
  }

  /** Ends the thread; resolves when it has ended. `how` continues the sentence "the tokenizer of FOLDER ...". */
  async close(how: string): Promise<void> {
    this.#end(how)
    await this.#worker.terminate()
  }

  #settle(answer: Answer): void {
    const pending = this.#pending.get(answer.call)
    if (!pending) return
    this.#pending.delete(answer.call)
    if (this.#pending.size === 0) this.#worker.unref()
    if ('error' in answer) pending.reject(answer.error)
    else pending.resolve(answer.value)
  }

  #end(how: string, cause?: Error): void {
    if (this.#ended) return
    this.#ended = { how, options: cause && { cause } }
    for (const { operation, reject } of this.#pending.values()) reject(this.#refusal(operation))
    this.#pending.clear()
    this.#worker.unref()
  }

  #refusal(operation: keyof Operations): Error {
    const { how, options } = this.#ended!
    return new Error(`Tokenizer.${operation}: the tokenizer of ${this.#folder} ${how}`, options)
  }
}
