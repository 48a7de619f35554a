// asyncGenerator() against `async function*`: the same values, ends and errors for the same requests in any order.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { asyncGenerator, type Next, type Reader, type Source, waiting } from '../dist/async-generator.js'
import { sleep } from './demo.js'

type Value = { value: number }
const steps = [
  'value',
  'later',
  'waits',
  'woken',
  'later waits',
  'later woken',
  'later ends',
  'rejects',
  'throws',
] as const
type Step = (typeof steps)[number]

type Log = string[]

/** A source that takes these steps, each to a value, an error or the end. */
class Steps implements Source<Value> {
  #at = 0
  #waited = false

  constructor(
    private readonly steps: readonly Step[],
    private readonly log: Log,
  ) {}

  next(reader: Reader): Next<Value> | Promise<Next<Value>> {
    const value = this.#at
    const step = this.steps[value]
    const later = <T>(result: T) => sleep(1).then(() => result)
    if (!this.#waited && step?.startsWith('later w')) return later(this.#wait(step === 'later waits', reader))
    if (!this.#waited && step?.startsWith('w')) return this.#wait(step === 'waits', reader)
    this.#waited = false
    this.#at++
    if (step === 'throws') throw new Error(`thrown at ${value}`)
    if (step === 'rejects') return later(undefined).then(() => Promise.reject(new Error(`rejected at ${value}`)))
    if (step === 'later') return later({ value })
    if (step === 'later ends') return later(undefined)
    return step && { value }
  }

  end(): void {
    this.log.push('ends')
  }

  #wait(asleep: boolean, reader: Reader): typeof waiting {
    this.#waited = true
    if (asleep) setTimeout(() => reader.wake())
    else reader.wake()
    return waiting
  }
}

const driven = (steps: readonly Step[], log: Log, refused = false) =>
  asyncGenerator(async () => {
    log.push('begins')
    if (refused) throw new Error('refused')
    return new Steps(steps, log)
  })

async function* awaited(steps: readonly Step[], log: Log, refused: boolean): AsyncGenerator<Value, void, void> {
  log.push('begins')
  if (refused) throw new Error('refused')
  try {
    for (const [value, step] of steps.entries()) {
      if (step !== 'value' && step !== 'throws') await sleep(1)
      if (step === 'rejects') throw new Error(`rejected at ${value}`)
      if (step === 'throws') throw new Error(`thrown at ${value}`)
      if (step === 'later ends') return
      yield { value }
    }
  } finally {
    log.push('ends')
  }
}

type Ask = 'next' | 'return' | 'throw' | 'turn'

/** What each request came to, in the order they did. */
async function outcomes(generator: AsyncGenerator<Value>, asks: readonly Ask[]): Promise<Log> {
  const log: Log = []
  const pending: Promise<unknown>[] = []
  for (const [i, ask] of asks.entries()) {
    if (ask === 'turn') {
      await sleep(2)
      continue
    }
    const request = {
      next: () => generator.next(),
      return: () => generator.return(undefined),
      throw: () => generator.throw(i),
    }
    const settledAs = (outcome: unknown) => log.push(`${ask} ${i}: ${JSON.stringify(outcome)}`)
    pending.push(request[ask]().then(settledAs, (error) => settledAs(String(error))))
  }
  await Promise.all(pending)
  return log
}

test('random sources and requests', async () => {
  const step = fc.constantFrom(...steps, 'value' as const)
  const ask = fc.constantFrom<Ask>('next', 'next', 'next', 'turn', 'return', 'throw')
  const refused = fc.nat(9).map((n) => n === 0)
  const property = fc.asyncProperty(
    fc.array(step, { maxLength: 5 }),
    fc.array(ask, { maxLength: 8 }),
    refused,
    async (steps, asks, refused) => {
      const [ran, expected]: [Log, Log] = [[], []]
      const outcome = await outcomes(driven(steps, ran, refused), asks)
      expect(outcome).toEqual(await outcomes(awaited(steps, expected, refused), asks))
      expect(ran).toEqual(expected)
    },
  )
  await fc.assert(property, { numRuns: 200 })
})

test('leaving for await, and disposing, end the source', async () => {
  const log: Log = []
  for await (const { value } of driven(['value', 'later'], log)) {
    log.push(`read ${value}`)
    break
  }
  {
    await using generator = driven(['value'], log)
    await generator.next()
  }
  expect(log).toEqual(['begins', 'read 0', 'ends', 'begins', 'ends'])
})
