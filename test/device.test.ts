// What a device does beside its ops, on the device under test: memory that comes and goes, copies of every size,
// errors, graphs, several devices, and its end with work pending.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { DType, Tensor } from '../binding.js'
import { binding } from '../dist/binding.js'
import { device, empty, memory, onCpu, schedules, simt, tensor } from './device.ts'

const f32 = (values: ArrayLike<number>, shape: number[] = [values.length]) =>
  tensor(Float32Array.from(values), 'f32', shape)
const i32 = (values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
/** 0, 1, 2 ... up to 2^24, where floats still tell them apart. */
const counting = (length: number) => Float32Array.from({ length }, (_, i) => i % 2 ** 24)
const nothing = empty('u8', [0])
const name = nothing.device
nothing.dispose()
const other = binding.devices().find((each) => each !== name && each !== 'cpu')

// Whatever a test makes is gone after it, and so is its memory.
let usedBefore: number
beforeEach(() => {
  usedBefore = memory().used
  binding.enterScope()
})
afterEach(() => {
  binding.leaveScope([])
  expect(memory().used).toBe(usedBefore)
})

describe('memory', () => {
  const mebibyte = 2 ** 20
  // More than is kept: 256 MiB for tensors on the CPU, a sixteenth of a GPU's memory, of which the emulator has 256 MiB.
  const large = (onCpu ? 80 : 20) * mebibyte

  test('is counted', () => {
    const before = memory()
    const t = empty('u8', [8 * mebibyte])
    expect(memory().used - before.used).toBe(8 * mebibyte)
    t.dispose()
    expect(memory().used).toBe(before.used)
  })

  test('is kept for the next tensors, and goes when asked', async () => {
    binding.releaseCached(device)
    await empty('u8', [1]).read()
    const { free } = memory()
    const t = empty('u8', [8 * mebibyte])
    t.dispose()
    expect(memory().cached).toBe(8 * mebibyte)
    const smaller = empty('u8', [7 * mebibyte]) // a block may be somewhat larger than its tensor
    expect(memory().cached).toBe(0)
    smaller.dispose()
    expect(memory().cached).toBe(8 * mebibyte)
    binding.releaseCached(device)
    expect(memory().cached).toBe(0)
    if (!onCpu) await expect.poll(() => memory().free).toBe(free)
  })

  test.runIf(onCpu || simt)('what is too much to be kept goes back by itself', async () => {
    const { free } = memory()
    for (const t of Array.from({ length: 5 }, () => empty('u8', [large]))) t.dispose()
    expect(memory().cached).toBeLessThan(5 * large)
    binding.releaseCached(device)
    if (!onCpu) await expect.poll(() => memory().free).toBeGreaterThanOrEqual(free)
  })

  test('goes to tensors made later, whose work comes later', async () => {
    const reads: Promise<Float32Array>[] = []
    for (let i = 0; i < 50; i++) {
      const x = f32(Array(4096).fill(i), [64, 64])
      const y = binding.cast(x, 'f32')
      reads.push(y.read())
      x.dispose()
      y.dispose()
    }
    for (const [i, values] of (await Promise.all(reads)).entries()) expect(new Set(values)).toEqual(new Set([i]))
    expect(memory().used - usedBefore).toBe(0)
  })

  test('goes back to the system after the work that uses it', async () => {
    const bytes = new Uint8Array(large).fill(7)
    const reads = [1, 2].map(() => {
      const t = tensor(bytes, 'u8', [large])
      const read = t.rows(large - 5, large).read()
      t.dispose()
      return read
    })
    for (const values of await Promise.all(reads)) expect(values).toEqual(bytes.subarray(large - 5))
  })

  test('where there is none: asked and free', () => {
    expect(() => empty('u8', [2 ** 42])).toThrow(
      new RegExp(`^${name}: out of memory: asked for 4096\\.00 GiB, \\d+\\.\\d\\d GiB free$`),
    )
  })

  test.runIf(simt)('what is kept is let go before a tensor fails', () => {
    binding.releaseCached(device)
    const { free } = memory()
    for (const t of Array.from({ length: 6 }, () => empty('u8', [2 * mebibyte]))) t.dispose()
    expect(memory().cached).toBe(12 * mebibyte)
    const most = empty('u8', [free - 8 * mebibyte])
    expect(memory().cached).toBe(0)
    most.dispose()
  })
})

describe('copies', () => {
  // Pinned buffers hold 16 KiB or 8 MiB.
  const sizes = [0, 1, 4095, 4096, 4097, 2 ** 21 - 1, 2 ** 21, 2 ** 21 + 1, 7 * 2 ** 20 + 3]
  test.each(sizes)('of %i floats', async (length) => {
    const values = counting(length)
    const t = tensor(values, 'f32', [length])
    expect(Buffer.compare(new Uint8Array((await t.read()).buffer), new Uint8Array(values.buffer))).toBe(0)
    const bits = await t.readBytes()
    expect(Buffer.compare(bits, new Uint8Array(values.buffer))).toBe(0)
  })

  const views: [number, number, number, number][] = [
    [3, 5, 1, 4],
    [1000, 40, 7, 19], // several rows a small buffer
    [5000, 900, 100, 700], // several rows a large one
    [3, 2 ** 21 + 100, 50, 2 ** 21 + 60], // rows longer than that
    [4, 8, 3, 3],
  ]
  test.each(views)('of a view: %i rows of %i, columns %i to %i', async (rows, width, start, end) => {
    const values = counting(rows * width)
    const view = tensor(values, 'f32', [rows, width]).columns(start, end)
    const expected = new Float32Array(rows * (end - start))
    for (let r = 0; r < rows; r++) expected.set(values.subarray(r * width + start, r * width + end), r * (end - start))
    expect(Buffer.compare(await view.readBytes(), new Uint8Array(expected.buffer))).toBe(0)
    view.write(expected.map((v) => -v))
    expect(Buffer.compare(await view.readBytes(), new Uint8Array(expected.map((v) => -v).buffer))).toBe(0)
  })

  test('beside a view nothing is written', async () => {
    const x = f32(Array(40).fill(1), [4, 10])
    x.columns(2, 5).write(new Float32Array(12).fill(2))
    expect([...(await x.read())]).toEqual(Array.from({ length: 40 }, (_, i) => (i % 10 >= 2 && i % 10 < 5 ? 2 : 1)))
  })

  test.each(['bf16', 'f16', 'e4m3', 'e5m2'] as DType[])('convert as the CPU does: %s', async (dtype) => {
    const values = Float32Array.from({ length: 70_000 }, (_, i) => (i - 35_000) / 64)
    values.set([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 1e-40, 3e38])
    const reference = binding.tensor(values, dtype, [values.length])
    const t = tensor(values, dtype, [values.length])
    expect(Buffer.compare(await t.readBytes(), await reference.readBytes())).toBe(0)
    expect(await t.read()).toEqual(await reference.read())
    reference.dispose()
  })

  test('of a file: large, from an odd place, and closed at once', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'device-'))
    try {
      const contents = Uint8Array.from({ length: 20 * 2 ** 20 + 5 }, (_, i) => (i * 7) % 251)
      await writeFile(join(folder, 'weights'), contents)
      const file = new binding.MappedFile(join(folder, 'weights'))
      const t = file.tensor(3, 'u8', [2, 10 * 2 ** 20 + 1], device)
      file.close()
      expect(Buffer.compare(await t.readBytes(), contents.subarray(3, 20 * 2 ** 20 + 5))).toBe(0)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('in order, hundreds at once', async () => {
    const t = f32([0])
    const reads = Array.from({ length: 300 }, (_, i) => t.write(Float32Array.of(i)).read())
    expect((await Promise.all(reads)).map(([value]) => value)).toEqual(Array.from({ length: 300 }, (_, i) => i))
  })
})

describe('errors', () => {
  const table = () => f32([0, 1, 2, 3, 4, 5, 6, 7], [4, 2])

  test('an index in a tensor: told by the next read, once', async () => {
    const bad = binding.embedding(i32([0, 4]), table(), 'f32')
    const good = f32([1, 2])
    const [first, second] = [bad.read(), good.read()]
    await expect(first).rejects.toThrow(new Error('embedding: ids[1] is 4, expected 0 to 3'))
    expect(await second).toEqual(Float32Array.of(1, 2))
  })

  test('of several the first is told, wherever it was found', async () => {
    const groups = (count: number) =>
      binding.gatedRmsNorm(f32([1, 2], [1, 2]), f32([1, 2], [1, 2]), f32([1, 1]), count, 0)
    binding.embedding(i32([-1]), table(), 'f32') // by the kernel
    binding.embedding(i32([7]), table(), 'f32')
    groups(3) // at the launch
    await expect(f32([0]).read()).rejects.toThrow(new Error('embedding: ids[0] is -1, expected 0 to 3'))
    groups(3)
    binding.embedding(i32([7]), table(), 'f32')
    await expect(f32([0]).readBytes()).rejects.toThrow(
      new Error('gatedRmsNorm: groups is 3, expected a divisor of D=2'),
    )
    expect(await f32([3]).read()).toEqual(Float32Array.of(3))
  })

  test('a name that is none', () => {
    const kind = onCpu ? 'cuda' : name.split(':')[0]
    for (const wrong of ['gpu', `${kind}:`, `${kind}:-1`, `${kind}:x`, `${kind}:0x`, `${kind}0`, 'CPU'])
      expect(() => binding.empty('f32', [1], wrong)).toThrow(
        new TypeError(`device is '${wrong}', expected cpu, ${kind} or ${kind}:N`),
      )
  })

  test.skipIf(onCpu)('an index that is none', () => {
    expect(() => binding.empty('f32', [1], `${name.split(':')[0]}:99`)).toThrow(
      /^device \w+:99: the CUDA runtime sees \d+ GPUs?$/,
    )
  })
})

describe('a graph', () => {
  const [rows, width] = [3, 40]
  const weight = () => f32(Array.from({ length: width }, (_, i) => 1 + i / 64))
  const input = () =>
    tensor(
      Float32Array.from({ length: rows * width }, (_, i) => (i % 17) - 8),
      'f32',
      [rows, width],
    )

  /** A step that changes `state`, and makes and drops tensors between. */
  const step = (state: Tensor<'f32'>, w: Tensor<'f32'>) => {
    const halved = binding.rmsNorm(state, w, 1e-5)
    const more = binding.relu2(halved)
    halved.dispose()
    const y = binding.addRmsNorm(state, more, w, 1e-5)
    more.dispose()
    return y
  }

  test.each(schedules)('replayed: the same bits as run each time, $name', async ({ use }) => {
    use()
    const w = weight()
    const eager = input()
    const expected: Uint8Array[] = []
    for (let i = 0; i < 5; i++) expected.push(await step(eager, w).readBytes())

    const state = input()
    let y!: Tensor<'f32'>
    const graph = binding.capture(device, () => {
      y = step(state, w)
    })
    expect(await state.readBytes(), 'recording runs nothing').toEqual(await input().readBytes())
    for (const bits of expected) {
      graph.replay()
      expect(await y.readBytes()).toEqual(bits)
    }
    expect(await state.readBytes()).toEqual(await eager.readBytes())
    graph.dispose()
  })

  test('replayed without waiting', async () => {
    const w = weight()
    const [eager, state] = [input(), input()]
    const graph = binding.capture(device, () => void step(state, w))
    for (let i = 0; i < 20; i++) {
      step(eager, w).dispose()
      graph.replay()
    }
    expect(await state.readBytes()).toEqual(await eager.readBytes())
    graph.dispose()
  })

  test('keeps the memory it uses, whatever is disposed, until it is disposed itself', async () => {
    const w = weight()
    const x = input()
    const z = empty('f32', [rows, width])
    const before = memory().used
    const graph = binding.capture(device, () => {
      const y = binding.relu2(x)
      binding.rmsNorm(y, w, 1e-5, z)
      y.dispose()
    })
    const expected = await binding.rmsNorm(binding.relu2(x), w, 1e-5).readBytes()
    for (const t of [x, w]) t.dispose()
    // Where x and the first result were, if they were let go.
    const others = Array.from({ length: 8 }, () => f32(Array(rows * width).fill(99)))
    graph.replay()
    expect(await z.readBytes()).toEqual(expected)
    for (const t of others) expect(new Set(await t.read())).toEqual(new Set([99]))
    expect(memory().used).toBeGreaterThan(before)
    graph.dispose()
    graph.dispose()
    expect(graph.disposed).toBe(true)
    expect(() => graph.replay()).toThrow(new Error('replay: the graph is disposed'))
  })

  test('uses memory again within itself', () => {
    const x = input()
    const { used } = memory()
    const graph = binding.capture(device, () => {
      let y = binding.relu2(x)
      for (let i = 0; i < 100; i++) {
        const next = binding.relu2(y)
        y.dispose()
        y = next
      }
    })
    expect(memory().used - used).toBeLessThan(4 * x.bytes)
    graph.dispose()
  })

  test('disposed: its results stay, and the rest of its memory goes', async () => {
    const x = input()
    const { used } = memory()
    let y!: Tensor<'f32'>
    const graph = binding.capture(device, () => {
      y = binding.relu2(x)
      binding.relu2(y).dispose()
    })
    graph.replay()
    graph.dispose()
    expect(await y.readBytes()).toEqual(await binding.relu2(x).readBytes())
    const one = memory().used - used
    y.dispose()
    expect(memory().used - used).toBeLessThan(one)
  })

  test('takes new contents of the tensors it reads', async () => {
    const x = input()
    let y!: Tensor<'f32'>
    const graph = binding.capture(device, () => {
      y = binding.relu2(x)
    })
    for (let i = 1; i < 4; i++) {
      x.write(new Float32Array(rows * width).fill(i))
      graph.replay()
      expect(new Set(await y.read())).toEqual(new Set([i * i]))
    }
    graph.dispose()
  })

  test('tells errors as its ops would, at each replay', async () => {
    const ids = i32([0, 9])
    const table = f32([1, 2, 3, 4], [2, 2])
    const x = f32([1, 2], [1, 2])
    const ones = f32([1, 1])
    const checked = binding.capture(device, () => void binding.embedding(ids, table, 'f32'))
    const thrown = binding.capture(device, () => {
      binding.relu2(x)
      binding.gatedRmsNorm(x, x, ones, 3, 0)
    })
    expect(await x.read(), 'recording tells nothing').toEqual(Float32Array.of(1, 2))
    for (let i = 0; i < 2; i++) {
      checked.replay()
      await expect(x.read()).rejects.toThrow(new Error('embedding: ids[1] is 9, expected 0 to 1'))
      thrown.replay()
      await expect(x.read()).rejects.toThrow(new Error('gatedRmsNorm: groups is 3, expected a divisor of D=2'))
    }
    ids.write(Int32Array.of(1, 0))
    checked.replay()
    expect(await x.read()).toEqual(Float32Array.of(1, 2))
    checked.dispose()
    thrown.dispose()
  })

  test('records ops only', async () => {
    const t = f32([1])
    const calls: [string, () => unknown][] = [
      ['read', () => t.read()],
      ['readBytes', () => t.readBytes()],
      ['write', () => t.write(Float32Array.of(2))],
      ['tensor', () => f32([1])],
      ['MappedFile', () => new binding.MappedFile(import.meta.filename).tensor(0, 'u8', [1], device)],
      ['capture', () => binding.capture(device, () => {})],
    ]
    for (const [call, fn] of calls)
      expect(() => binding.capture(device, () => void fn())).toThrow(
        new Error(`capture: fn calls ${call}, expected ops only`),
      )
    const nothing = binding.capture(device, () => {})
    expect(() => binding.capture(device, () => nothing.replay())).toThrow('capture: fn calls replay, expected ops only')
    nothing.replay()
    nothing.dispose()
    expect(await t.read()).toEqual(Float32Array.of(1))
  })

  test('is none where fn throws, gives a promise or is none', async () => {
    const t = f32([3])
    const fails = () => {
      binding.relu2(t.reshape([1, 1]))
      throw new Error('mine')
    }
    expect(() => binding.capture(device, fails)).toThrow(new Error('mine'))
    expect(() => binding.capture(device, (async () => {}) as () => void)).toThrow(
      new TypeError('capture: fn gave a promise, expected a synchronous function'),
    )
    expect(() => binding.capture(device, 1 as never)).toThrow(new TypeError('capture: fn is 1, expected a function'))
    expect(await binding.cast(t.reshape([1, 1]), 'f32').read(), 'ops run again').toEqual(Float32Array.of(3))
  })

  test.skipIf(onCpu)('leaves other devices alone', async () => {
    const here = binding.tensor(Float32Array.of(2), 'f32', [1], 'cpu')
    let y!: Tensor<'f32'>
    let reading!: Promise<Float32Array>
    const graph = binding.capture(device, () => {
      y = binding.cast(here.reshape([1, 1]), 'f32')
      reading = y.read()
    })
    expect(await reading).toEqual(Float32Array.of(2))
    graph.dispose()
  })
})

describe.runIf(other)('another device', () => {
  const there = (values: number[]) => binding.tensor(Float32Array.from(values), 'f32', [1, values.length], other)

  test('has memory, work and errors of its own', async () => {
    const { used } = memory()
    const x = there([1, 2])
    expect(x.device).toBe(other)
    expect(memory().used).toBe(used)
    expect(binding.memory(other).used).toBeGreaterThan(0)
    const y = binding.relu2(x)
    binding.embedding(i32([5]), f32([1, 2], [1, 2]), 'f32')
    expect(await y.read()).toEqual(Float32Array.of(1, 4))
    await expect(f32([1]).read()).rejects.toThrow('embedding: ids[0] is 5, expected 0 to 0')
  })

  test('an op has its tensors on one', () => {
    expect(() => binding.rmsNorm(there([1, 2]), f32([1, 1]), 0)).toThrow(
      new TypeError(`rmsNorm: weight is on ${name}, expected a tensor on ${other}`),
    )
  })
})

// Each in a thread of its own, whose device is new; what is short is so for the whole emulated machine.
describe.runIf(simt)('where memory is short', () => {
  const inThread = async (script: string): Promise<unknown> => {
    const prelude = `
      const { parentPort } = require('node:worker_threads')
      const path = ${JSON.stringify(join(import.meta.dirname, '../dist/binding.js'))}
      const on = ${JSON.stringify(device)}
      const message = (promise) => promise.then(String, ({ message }) => message)`
    const run = `import(path).then(async ({ binding }) => parentPort.postMessage(await (async () => {${script}})()))`
    const worker = new Worker(`${prelude}\n${run}`, { eval: true })
    const [given] = await once(worker, 'message')
    await worker.terminate()
    return given
  }

  test('a device that cannot be opened leaves nothing behind', async () => {
    binding.releaseCached(device)
    await empty('u8', [1]).read()
    const { free } = memory()
    const most = empty('u8', [free - 16 * 2 ** 20]) // room for a device's small parts, not for its workspace
    const opened = inThread(`
      const opened = () => message(Promise.resolve().then(() => binding.memory(on).used))
      return [await opened(), await opened()]`)
    expect(await opened).toEqual(Array(2).fill(expect.stringMatching(/^device \S+: .*out of memory/)))
    most.dispose()
    binding.releaseCached(device)
    await empty('u8', [1]).read()
    expect(memory().free).toBe(free)
  })

  test('a read that cannot copy tells of it, and the next one gives what is there', async () => {
    const told = inThread(`
      const large = binding.tensor(new Float32Array(2 ** 16).fill(3), 'f32', [2 ** 8, 2 ** 8], on)
      await binding.tensor(Float32Array.of(1), 'f32', [1], on).read()
      binding.simt.pinned(2 ** 20)
      const short = await message(large.read())
      binding.fillNormal(large, -1, 1)
      const both = await message(large.read())
      binding.simt.pinned(2 ** 53 - 1)
      const ints = (...values) => binding.tensor(Int32Array.from(values), 'i32', [values.length], on)
      const logits = binding.tensor(Float32Array.of(1, 2), 'f32', [1, 2], on)
      // Its kernel does nothing where the device has a fault that no read has told of.
      binding.biasLogits(logits, ints(0, 1), ints(1), binding.tensor(Float32Array.of(5), 'f32', [1], on))
      return [short, both, [...(await logits.read())]]`)
    expect(await told).toEqual([
      expect.stringMatching(/^read: .*cudaErrorMemoryAllocation/),
      'fillNormal: std is -1, expected a finite number, at least 0',
      [1, 7],
    ])
  })
})

describe('its end', () => {
  const path = JSON.stringify(join(import.meta.dirname, '../dist/binding.js'))
  /** Queues work and reads that nobody has waited for. */
  const busy = `
    const { parentPort } = require('node:worker_threads')
    const started = import(${path}).then(({ binding }) => {
      const data = Float32Array.from({ length: 3 << 20 }, (_, i) => i)
      const x = binding.tensor(data, 'f32', [3, 1 << 20], ${JSON.stringify(device)})
      const graph = binding.capture(x.device, () => binding.relu2(x.rows(0, 1).columns(0, 1000).reshape([1, 1000])))
      const reads = []
      for (let i = 0; i < 6; i++) {
        x.write(data)
        graph.replay()
        reads.push(x.read(), binding.relu2(x.rows(0, 1).columns(0, 1000).reshape([1, 1000])).read())
      }
      return Promise.all(reads)
    })
  `
  const alone = (script: string) =>
    promisify(execFile)(process.execPath, ['--input-type=commonjs', '--eval', busy + script], { timeout: 60_000 })

  test('of a thread: with work and reads pending', async () => {
    for (let i = 0; i < 4; i++) {
      const script = `${busy}; setInterval(() => {}, 1000); setTimeout(() => parentPort.postMessage('busy'), ${i * 20})`
      const worker = new Worker(script, { eval: true })
      await once(worker, 'message')
      expect(await worker.terminate()).toBe(1)
    }
    expect(await f32([1]).read()).toEqual(Float32Array.of(1))
  })

  test('of a thread: by itself, when the reads are done', async () => {
    const worker = new Worker(`${busy}; started.then((r) => parentPort.postMessage(r.length))`, { eval: true })
    expect(await once(worker, 'message')).toEqual([12])
    expect(await once(worker, 'exit')).toEqual([0])
  })

  test('of the process: by itself, at exit(), by an error', async () => {
    await alone('')
    await alone(`started.catch(() => {}); import(${path}).then(() => setTimeout(() => process.exit(0), 30))`)
    await expect(alone(`import(${path}).then(() => { throw new Error('mine') })`)).rejects.toThrow('mine')
  })
})
