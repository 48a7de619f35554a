// The public devices: their names, their memory, recorded work. What lies beneath is test/device.test.ts's.
import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { type Device, device, devices, empty, ops, tensor } from '../dist/index.js'
import { collect, goldenFolder, load } from './demo.js'
import { missing, device as name } from './device.ts'

test('the CPU comes first, and all have the names that tensors tell', () => {
  const names = devices().map((device) => device.name)
  expect(names[0]).toBe('cpu')
  for (const name of names) {
    using t = empty('f32', [1], name)
    expect(t.device).toBe(name)
    expect(device(name).name).toBe(name)
  }
  expect(inspect(device('cpu'))).toBe('Device cpu')
})

test.each([
  ['gpu', TypeError, /^device is 'gpu', expected /],
  [missing, Error, new RegExp(`^device ${missing}: `)],
])('%s is refused', (name, Fault, message) => {
  expect(() => device(name)).toThrow(Fault)
  expect(() => device(name)).toThrow(message)
})

test('memory that tensors held is kept, then given back', async () => {
  const on = device(name)
  on.releaseCached()
  const before = on.memory()
  const t = tensor(new Float32Array(1 << 20), 'f32', [1 << 20], on.name)
  expect(on.memory().used - before.used).toBeGreaterThanOrEqual(1 << 22)
  await t.read()
  t.dispose()
  expect(on.memory().used).toBe(before.used)
  expect(on.memory().cached).toBeGreaterThanOrEqual(1 << 22)
  on.releaseCached()
  expect(on.memory().cached).toBeLessThan(1 << 22)
  expect(on.memory().free).toBeGreaterThan(0)
})

// Of several GPUs, each in turn.
test('a model is on its device whole, and leaves nothing there', async () => {
  const kind = (device: Device) => device.name.split(':')[0]
  const alike = devices().filter((other) => kind(other) === kind(device(name)))
  const used = () => alike.map((device) => device.memory().used)
  const before = used()
  const tokens: number[][] = []
  for (const [i, on] of alike.entries()) {
    const model = await load(goldenFolder('nemotron-h-hybrid'), { device: on.name })
    const { ids } = await collect(model.generate([1, 5, 9], { maxTokens: 4, temperature: 1, seed: 1, ignoreEos: true }))
    tokens.push(ids)
    expect(model.device.name).toBe(on.name)
    expect(used().map((bytes, j) => bytes > before[j]!)).toEqual(alike.map((_, j) => j === i))
    model.dispose()
    await expect.poll(() => on.memory()).toMatchObject({ used: before[i], cached: 0 })
  }
  expect(new Set(tokens.map(String)).size).toBe(1)
})

test('recorded ops run again, on what their tensors hold then', async () => {
  const on = device(name)
  const x = tensor(Float32Array.of(1, -2, 3, -4), 'f32', [1, 4], on.name)
  const y = empty('f32', [1, 4], on.name)
  const square = on.capture(() => void ops.relu2(x, y))
  square.replay()
  expect(await y.read()).toEqual(Float32Array.of(1, 0, 9, 0))
  x.write(Float32Array.of(-1, 2, -3, 4))
  square.replay()
  expect(await y.read()).toEqual(Float32Array.of(0, 4, 0, 16))
  square.dispose()
  expect(() => square.replay()).toThrow('disposed')
  expect(() => on.capture(() => void x.read())).toThrow(/^capture: /)
})
