// asyncGenerator() against `async function*`: the same values, ends and errors for the same requests in any order.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { asyncGenerator, settled, type Wait } from '../dist/async-generator.js'
import { sleep } from './demo.js'

type Value = { value: number }
type Step = 'value' | 'later' | 'waits' | 'rejects' | 'throws'

type Log = string[]

function* driven(steps: readonly Step[], log: Log): Generator<Value | Wait, void, void> {
  try {
    log.push('begins')
    for (const [value, step] of steps.entries()) {
      if (step === 'waits') yield (wake) => setTimeout(wake)
      if (step === 'later') yield* settled(sleep(1))
      if (step === 'rejects') yield* settled(Promise.reject(new Error(`rejected at ${value}`)))
      if (step === 'throws') throw new Error(`thrown at ${value}`)
      yield { value }
    }
  } finally {
    log.push('ends')
  }
}

async function* awaited(steps: readonly Step[], log: Log): AsyncGenerator<Value, void, void> {
  try {
    log.push('begins')
    for (const [value, step] of steps.entries()) {
      if (step === 'waits' || step === 'later') await sleep(1)
      if (step === 'rejects') await Promise.reject(new Error(`rejected at ${value}`))
      if (step === 'throws') throw new Error(`thrown at ${value}`)
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
  const steps = fc.array(fc.constantFrom<Step>('value', 'value', 'later', 'waits', 'rejects', 'throws'), {
    maxLength: 5,
  })
  const asks = fc.array(fc.constantFrom<Ask>('next', 'next', 'next', 'turn', 'return', 'throw'), { maxLength: 8 })
  const property = fc.asyncProperty(steps, asks, async (steps, asks) => {
    const [ran, expected]: [Log, Log] = [[], []]
    const outcome = await outcomes(asyncGenerator(driven(steps, ran)), asks)
    expect(outcome).toEqual(await outcomes(awaited(steps, expected), asks))
    expect(ran).toEqual(expected)
  })
  await fc.assert(property, { numRuns: 200 })
})

describe('waiting', () => {
  test('ends where the source is woken at once', async () => {
    const generator = asyncGenerator<Value>(
      (function* () {
        yield (wake: () => void) => wake()
        yield { value: 1 }
      })(),
    )
    expect(await generator.next()).toEqual({ done: false, value: { value: 1 } })
  })

  test('in a finally block holds return() back', async () => {
    const log: Log = []
    let wake = () => {}
    const generator = asyncGenerator<Value>(
      (function* () {
        try {
          yield { value: 1 }
        } finally {
          yield (call: () => void) => {
            wake = call
          }
          log.push('ends')
        }
      })(),
    )
    await generator.next()
    const returned = generator.return(undefined).then((result) => log.push(`return: ${JSON.stringify(result)}`))
    await sleep(1)
    expect(log).toEqual([])
    wake()
    await returned
    expect(log).toEqual(['ends', 'return: {"done":true}'])
  })
})

test('leaving for await, and disposing, end the source', async () => {
  const log: Log = []
  for await (const { value } of asyncGenerator(driven(['value', 'later'], log))) {
    log.push(`read ${value}`)
    break
  }
  {
    await using generator = asyncGenerator(driven(['value'], log))
    await generator.next()
  }
  expect(log).toEqual(['begins', 'read 0', 'ends', 'begins', 'ends'])
})
