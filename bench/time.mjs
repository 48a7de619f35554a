// How long a call takes on a device, without JavaScript's part in it and without a warm cache: replays of a captured
// graph of many calls, which rotate through tensors that together exceed the caches.
import { Bench } from 'tinybench'
import { device as deviceOf, empty } from '../dist/index.js'

/**
 * A function that gives the seconds of one call, the median: of `entry.make()`'s, which moves entry.bytes. cacheBytes:
 * what the tensors of the calls must exceed together; seconds: of measuring.
 */
export function timer(entry, { device, cacheBytes, seconds }) {
  const target = deviceOf(device)
  const done = empty('u8', [0], device)
  const sets = Math.max(1, Math.min(16, Math.ceil(cacheBytes / entry.bytes)))
  const calls = Array.from({ length: sets }, () => entry.make())
  const measure = async (count) => {
    const graph = target.capture(() => {
      for (let i = 0; i < count; i++) calls[i % sets]()
    })
    try {
      const bench = new Bench({ time: 1000 * seconds, warmupTime: 20, iterations: 5, warmupIterations: 2 })
      bench.add('call', async () => {
        graph.replay()
        await done.read() // all that was queued before it
      })
      await bench.run()
      const { result } = bench.tasks[0]
      if (result.error) throw result.error
      return result.latency.p50 / 1000 / count
    } finally {
      graph.dispose()
    }
  }
  return async () => {
    const once = await measure(sets)
    // Enough calls that the wait at the end is no more than a hundredth.
    return once * sets > 0.01 ? once : measure(sets * Math.ceil(Math.min(1000, 0.01 / once) / sets))
  }
}

/** Several times the L2 of any GPU; the CPU's caches are left warm. */
export const cacheBytes = (device) => (device === 'cpu' ? 0 : 256 << 20)
