// While the model works the event loop of the application goes on: the 99th percentile of its delay is under 20 ms.
// Measured in a process of its own. What else the machine does can delay it too, so a run may be repeated; a loop that
// something blocks is late each time.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { device } from './device.ts'

const bench = fileURLToPath(new URL('../bench/event-loop.mjs', import.meta.url))

test('the event loop is free while loading, encoding, prefilling and decoding', { retry: 2 }, async () => {
  const { stdout } = await promisify(execFile)(process.execPath, [bench, '--device', device, '--json'])
  const phases: { phase: string; samples: number; p99: number }[] = JSON.parse(stdout)
  expect(phases.map(({ phase }) => phase)).toEqual(['load', 'encode', 'prefill', 'decode'])
  for (const { phase, samples, p99 } of phases) {
    expect(samples, phase).toBeGreaterThan(50)
    expect(p99, `${phase}: ms`).toBeLessThan(20)
  }
})
