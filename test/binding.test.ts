// Tensors as JavaScript sees them: element types, views, lifetimes, errors of the queue, mapped files, and every
// message for what is not one. The ops have test/ops.test.ts; threads, test/worker.test.ts.
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DType, Tensor as TensorOf } from '../binding.js'
import { binding } from '../dist/binding.js'
import { empty, ops, scope, split, Tensor, tensor } from '../dist/index.js'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

const f32 = (values: number[], shape: number[] = [values.length]) => tensor(Float32Array.from(values), 'f32', shape)
const i32 = (values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
/** 0, 1, 2 ... in a shape. */
const counting = (...shape: number[]) =>
  f32(
    Array.from({ length: shape.reduce((n, size) => n * size, 1) }, (_, i) => i),
    shape,
  )

// Whatever a test makes is gone after it, and so is its memory.
let usedBefore: number
beforeEach(() => {
  usedBefore = binding.memory().used
  binding.enterScope()
})
afterEach(() => {
  binding.leaveScope([])
  expect(binding.memory().used).toBe(usedBefore)
})

/** What a script prints in a process of its own with less of something than it asks for. */
async function printedUnder(limit: string, script: string): Promise<string> {
  const index = JSON.stringify(new URL('../dist/binding.js', import.meta.url).href)
  const args = [limit, process.execPath, '--input-type=module', '-e', `import { binding } from ${index}\n${script}`]
  return (await promisify(execFile)('prlimit', args, { timeout: 60_000 })).stdout
}

/** Bits of exponent and of mantissa; ieee: the top exponent means infinity and NaN, else all ones alone means NaN. */
const formats = {
  bf16: { exponent: 8, mantissa: 7, ieee: true },
  f16: { exponent: 5, mantissa: 10, ieee: true },
  e4m3: { exponent: 4, mantissa: 3, ieee: false },
  e5m2: { exponent: 5, mantissa: 2, ieee: true },
} as const
type Small = keyof typeof formats

function floatOf(format: Small, bits: number): number {
  const { exponent, mantissa, ieee } = formats[format]
  const sign = bits >> (exponent + mantissa) ? -1 : 1
  const e = (bits >> mantissa) & (2 ** exponent - 1)
  const m = bits & (2 ** mantissa - 1)
  const top = e === 2 ** exponent - 1
  if (top && ieee) return m === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  if (top && m === 2 ** mantissa - 1) return Number.NaN
  const bias = 2 ** (exponent - 1) - 1
  return sign * (e === 0 ? m * 2 ** (1 - bias - mantissa) : (1 + m / 2 ** mantissa) * 2 ** (e - bias))
}

const bytesOf = (format: Small, bits: readonly number[]) =>
  format === 'bf16' || format === 'f16' ? new Uint8Array(Uint16Array.from(bits).buffer) : Uint8Array.from(bits)
const bitsOf = (format: Small, bytes: Uint8Array): number[] =>
  Array.from(format === 'bf16' || format === 'f16' ? new Uint16Array(bytes.buffer) : bytes)

describe.each(Object.keys(formats) as Small[])('%s', (format) => {
  const width = format === 'bf16' || format === 'f16' ? 16 : 8
  const all = Array.from({ length: 2 ** width }, (_, i) => i)
  const values = Float32Array.from(all, (bits) => floatOf(format, bits))

  test('every bit pattern has its value', async () => {
    const t = tensor(bytesOf(format, all), format, [all.length])
    expect(t.bytes).toBe((all.length * width) / 8)
    expect(await t.read()).toEqual(values)
    expect(bitsOf(format, await t.readBytes())).toEqual(all)
  })

  test('every value has its bit pattern', async () => {
    const bits = bitsOf(format, await tensor(values, format, [all.length]).readBytes())
    const saturates = format === 'e5m2' // has infinities, and does not make them
    const want = all.map((i) => {
      if (Number.isNaN(values[i])) return 'NaN'
      return saturates && !Number.isFinite(values[i]) ? (i & 0x80) | 0x7b : i
    })
    expect(bits.map((b) => (Number.isNaN(floatOf(format, b)) ? 'NaN' : b))).toEqual(want)
  })

  test('rounds as PyTorch does, ties and the ends of the range too', async () => {
    const casts = JSON.parse(await readFile(join(import.meta.dirname, 'golden/casts.json'), 'utf8'))
    const x = new Float32Array(Uint32Array.from(casts.f32).buffer)
    for (const simd of ['portable', 'avx2', 'avx512'] as const) {
      if (!binding.useSimd(simd)) continue
      const got = bitsOf(format, await tensor(x, format, [x.length]).readBytes())
      casts[format].forEach((want: number, i: number) => {
        if (Number.isNaN(x[i])) expect(floatOf(format, got[i]!), `${simd}: NaN`).toBeNaN()
        else expect(got[i], `${simd}: ${x[i]}`).toBe(want)
      })
    }
  })
})

describe('data', () => {
  test('f32, i32 and u8 keep their bits', async () => {
    const floats = new Float32Array(
      Uint32Array.of(0, 0x80000000, 1, 0x7f7fffff, 0x7f800000, 0x7fc00001, 0xffffffff).buffer,
    )
    const t = tensor(floats, 'f32', [7])
    expect(new Uint32Array((await t.read()).buffer)).toEqual(new Uint32Array(floats.buffer))
    const integers = Int32Array.of(-(2 ** 31), -1, 0, 2 ** 31 - 1)
    expect(await tensor(integers, 'i32', [2, 2]).read()).toEqual(integers)
    const bytes = Uint8Array.of(0, 127, 128, 255)
    expect(await tensor(bytes, 'u8', [4]).read()).toEqual(bytes)
  })

  test('bits come as Uint8Array, Buffer, a part of a buffer, or shared memory', async () => {
    const buffer = Buffer.alloc(17)
    buffer.writeFloatLE(1.5, 1)
    buffer.writeFloatLE(-2, 5)
    expect(await tensor(buffer.subarray(1, 9), 'f32', [2]).read()).toEqual(Float32Array.of(1.5, -2))
    expect(await tensor(Uint8Array.of(0x80, 0x3f), 'bf16', [1]).read()).toEqual(Float32Array.of(1))
    const shared = new Float32Array(new SharedArrayBuffer(16), 8)
    shared.set([3, 4])
    expect(await tensor(shared, 'bf16', [2]).read()).toEqual(Float32Array.of(3, 4))
    const end = new Float32Array([9, 9, 5, 6]).subarray(2)
    expect(await tensor(end, 'f32', [2]).read()).toEqual(Float32Array.of(5, 6))
  })

  test('is copied at the call', async () => {
    const data = Float32Array.of(1, 2)
    const t = tensor(data, 'f32', [2])
    data.fill(9)
    expect(await t.read()).toEqual(Float32Array.of(1, 2))
    t.write(data)
    data.fill(7)
    expect(await t.read()).toEqual(Float32Array.of(9, 9))
  })

  test('large ones, by several threads', async () => {
    const data = Float32Array.from({ length: 1_000_003 }, (_, i) => i % 251)
    expect(await tensor(data, 'bf16', [data.length]).read()).toEqual(data)
  })

  test('none at all', async () => {
    const t = tensor(new Float32Array(0), 'f32', [0, 3])
    expect([t.shape, t.bytes, await t.read()]).toEqual([[0, 3], 0, new Float32Array(0)])
    expect(await t.rows(0, 0).columns(1, 3).read()).toEqual(new Float32Array(0))
    expect(await counting(2, 3).columns(1, 1).read()).toEqual(new Float32Array(0))
  })

  test('a tensor says what it is', () => {
    const t = empty('e4m3', [2, 3, 4])
    expect(t).toMatchObject({ dtype: 'e4m3', shape: [2, 3, 4], bytes: 24, device: 'cpu', disposed: false })
    t.shape[0] = 7 // a copy
    expect(t.shape).toEqual([2, 3, 4])
    expect(t).toBeInstanceOf(Tensor)
  })
})

describe('views', () => {
  test('rows, columns and shapes, and views of those', async () => {
    const t = counting(4, 6)
    expect(await t.rows(1, 3).read()).toEqual(Float32Array.from({ length: 12 }, (_, i) => i + 6))
    expect(await t.columns(4, 6).read()).toEqual(Float32Array.of(4, 5, 10, 11, 16, 17, 22, 23))
    expect(await t.rows(2, 4).columns(1, 5).rows(1, 2).columns(1, 3).read()).toEqual(Float32Array.of(20, 21))
    expect(await t.reshape([2, 12]).columns(5, 7).read()).toEqual(Float32Array.of(5, 6, 17, 18))
    const heads = t.columns(2, 6).reshape([4, 2, 2])
    expect(heads.shape).toEqual([4, 2, 2])
    expect(await heads.rows(3, 4).reshape([4]).read()).toEqual(Float32Array.of(20, 21, 22, 23))
    expect(t.columns(2, 4)).toMatchObject({ shape: [4, 2], bytes: 32 })
  })

  test('share memory', async () => {
    const t = counting(3, 4)
    t.columns(1, 3)
      .rows(1, 3)
      .write(Float32Array.of(50, 60, 90, 100))
    expect(await t.read()).toEqual(Float32Array.of(0, 1, 2, 3, 4, 50, 60, 7, 8, 90, 100, 11))
    t.reshape([12]).rows(0, 1).write(Float32Array.of(-1))
    expect((await t.read())[0]).toBe(-1)
  })

  test('outlive the tensor they look at', async () => {
    const t = counting(2, 3)
    const row = t.rows(1, 2)
    t.dispose()
    expect(await row.read()).toEqual(Float32Array.of(3, 4, 5))
  })

  test('wide columns, row by row and by several threads', async () => {
    const t = counting(300, 700)
    const want = Float32Array.from({ length: 300 * 500 }, (_, i) => Math.floor(i / 500) * 700 + 100 + (i % 500))
    expect(await t.columns(100, 600).read()).toEqual(want)
  })

  test('split gives all columns in turn', async () => {
    const [a, b, c] = split(counting(2, 6), [1, 3, 2])
    expect(await a.read()).toEqual(Float32Array.of(0, 6))
    expect(await b.read()).toEqual(Float32Array.of(1, 2, 3, 7, 8, 9))
    expect(await c.read()).toEqual(Float32Array.of(4, 5, 10, 11))
    expect(() => split(counting(2, 6), [1, 3])).toThrow(new RangeError('split: widths add up to 4, expected 6'))
  })
})

describe('lifetime', () => {
  test('dispose twice is fine, use afterwards is not', () => {
    const t = f32([1, 2])
    t.dispose()
    t.dispose()
    expect(t.disposed).toBe(true)
    const message = (method: string) => new Error(`${method}: the tensor is disposed`)
    expect(() => t.read()).toThrow(message('read'))
    expect(() => t.readBytes()).toThrow(message('readBytes'))
    expect(() => t.write(Float32Array.of(1, 2))).toThrow(message('write'))
    expect(() => t.reshape([2])).toThrow(message('reshape'))
    expect(() => t.rows(0, 1)).toThrow(message('rows'))
    expect(() => t.columns(0, 1)).toThrow(message('columns'))
    expect(() => ops.rmsNorm(f32([1, 2], [1, 2]), t, 0)).toThrow(new Error('rmsNorm: weight is disposed'))
    expect(t).toMatchObject({ dtype: 'f32', shape: [2], bytes: 8 })
  })

  test('work already queued keeps its share', async () => {
    const x = counting(64, 64)
    const y = ops.cast(x, 'bf16')
    const reading = y.read()
    x.dispose()
    y.dispose()
    counting(64, 64).write(new Float32Array(4096).fill(-1)) // takes the memory of x, or of y
    expect(await reading).toEqual(Float32Array.from({ length: 4096 }, (_, i) => floatOf('bf16', nearestBf16(i))))
  })

  test('using', () => {
    let kept: TensorOf
    {
      using t = f32([1])
      kept = t
      expect(t.disposed).toBe(false)
    }
    expect(kept.disposed).toBe(true)
  })

  test('a scope disposes what was made in it but its result', () => {
    const before = f32([0])
    const made: TensorOf[] = []
    const make = () => made[made.push(f32([1])) - 1]!
    const result = scope(() => {
      make()
      make().rows(0, 1)
      return {
        one: make(),
        more: [make(), { deep: make() }],
        view: make().rows(0, 1),
        number: 1,
        nothing: null,
        before,
      }
    })
    expect(made.map((t) => t.disposed)).toEqual([true, true, false, false, false, true])
    expect([result.view.disposed, result.before.disposed]).toEqual([false, false])
    expect(scope(() => f32([1])).disposed).toBe(false)
    expect(scope(() => 5)).toBe(5)
    class Holder {
      t = make()
    }
    expect(scope(() => new Holder()).t.disposed, 'a class of the caller is not looked into').toBe(true)
  })

  test('scopes nest: what an inner one gives belongs to the outer one', () => {
    let inner: TensorOf | undefined
    const outer = scope(() => {
      inner = scope(() => f32([1]))
      expect(inner.disposed).toBe(false)
      return scope(() => f32([2]))
    })
    expect([inner!.disposed, outer.disposed]).toEqual([true, false])
  })

  test('a scope that throws disposes all', () => {
    let made: TensorOf | undefined
    const fails = () =>
      scope(() => {
        made = scope(() => f32([1]))
        throw new Error('mine')
      })
    expect(fails).toThrow(new Error('mine'))
    expect(made!.disposed).toBe(true)
    const t = f32([1])
    expect(t.disposed, 'the scope has ended').toBe(false)
  })

  test('a scope refuses a promise', () => {
    let made: TensorOf | undefined
    const later = async () => {
      made = f32([1])
      throw new Error('nobody waits for this')
    }
    expect(() => scope(later)).toThrow(new TypeError('scope: fn gave a promise, expected a synchronous function'))
    expect(made!.disposed).toBe(true)
  })

  test('the garbage collector is the net for what was forgotten', async () => {
    const forget = () => void Array.from({ length: 8 }, () => empty('u8', [1 << 20]).rows(0, 1))
    forget()
    expect(binding.memory().used - usedBefore).toBe(8 << 20)
    for (let i = 0; i < 10 && binding.memory().used > usedBefore; i++) {
      collectGarbage()
      await turn()
    }
    expect(binding.memory().used).toBe(usedBefore)
  })

  test('and hears of the memory, so that it comes in time', async () => {
    const count = 400
    let most = 0
    for (let i = 0; i < count; i++) {
      empty('u8', [1 << 26])
      most = Math.max(most, binding.memory().used)
      await turn() // finalizers run between two tasks
    }
    expect(most).toBeLessThan((count / 4) * 2 ** 26) // 400 small objects alone are no reason to collect
    collectGarbage()
    await turn()
  })

  test('memory comes back to be given again, and goes when asked', async () => {
    binding.releaseCached()
    empty('u8', [1 << 20]).dispose()
    const { cached } = binding.memory()
    expect(cached).toBe(1 << 20)
    const t = empty('f32', [1 << 18])
    expect(binding.memory().cached).toBe(0)
    t.dispose()
    binding.releaseCached()
    expect(binding.memory().cached).toBe(0)
  })
})

describe('errors', () => {
  const wrong = (value: unknown) => value as never
  const refused = (error: Error, call: () => unknown) => test(error.message, () => void expect(call).toThrow(error))
  const type = (message: string, call: () => unknown) => refused(new TypeError(message), call)
  const range = (message: string, call: () => unknown) => refused(new RangeError(message), call)

  type('tensor: data is an array, expected a typed array', () => tensor(wrong([1]), 'f32', [1]))
  type('tensor: data is undefined, expected a typed array', () => Reflect.apply(tensor, undefined, []))
  type("tensor: dtype is 'f64', expected one of f32, bf16, f16, e4m3, e5m2, i32, u8", () =>
    tensor(Float32Array.of(1), wrong('f64'), [1]),
  )
  type('tensor: data is a Float64Array, expected a Float32Array, or a Uint8Array of f32 bits', () =>
    tensor(wrong(new Float64Array(1)), 'f32', [1]),
  )
  type('tensor: data is a Uint16Array, expected a Float32Array, or a Uint8Array of bf16 bits', () =>
    tensor(wrong(new Uint16Array(1)), 'bf16', [1]),
  )
  type('tensor: data is a Float32Array, expected an Int32Array, or a Uint8Array of i32 bits', () =>
    tensor(new Float32Array(1), 'i32', [1]),
  )
  type('tensor: data is an Int32Array, expected a Uint8Array', () => tensor(new Int32Array(1), 'u8', [1]))
  range('tensor: data is 12 bytes, expected 16 for [2,2]', () => tensor(new Float32Array(3), 'bf16', [2, 2]))
  range('tensor: data is 3 bytes, expected 2 for [1]', () => tensor(new Uint8Array(3), 'bf16', [1]))
  range('empty: shape is 3, expected an array of 1 to 5 sizes', () => empty('f32', wrong(3)))
  range('empty: shape is of rank 0, expected an array of 1 to 5 sizes', () => empty('f32', []))
  range('empty: shape is of rank 6, expected an array of 1 to 5 sizes', () => empty('f32', [1, 1, 1, 1, 1, 1]))
  range('empty: shape is an array with -1, expected an array of 1 to 5 sizes', () => empty('f32', [-1]))
  range('empty: shape is an array with 1.5, expected an array of 1 to 5 sizes', () => empty('f32', [2, 1.5]))
  range("empty: shape is an array with '2', expected an array of 1 to 5 sizes", () => empty('f32', [wrong('2')]))
  range('empty: shape is an array with NaN, expected an array of 1 to 5 sizes', () => empty('f32', [Number.NaN]))
  range('empty: shape is [67108864,134217729], too many elements, expected an array of 1 to 5 sizes', () =>
    empty('f32', [2 ** 26, 2 ** 27 + 1]),
  )
  range(
    'empty: shape is [0,4503599627370496,4503599627370496], too many elements, expected an array of 1 to 5 sizes',
    () => empty('f32', [0, 2 ** 52, 2 ** 52]),
  )
  type("device is 'gpu', expected cpu, cuda or cuda:N", () => empty('f32', [1], 'gpu'))
  type('device is 1, expected cpu, cuda or cuda:N', () => empty('f32', [1], wrong(1)))
  range('reshape: shape is [4], expected 6 elements', () => counting(2, 3).reshape([4]))
  range('reshape: shape is [4], expected 2 rows, as the view has', () => counting(2, 3).columns(0, 2).reshape([4]))
  range('rows: start is -1, expected an integer from 0 to 2', () => counting(2, 3).rows(-1, 1))
  range('rows: end is 3, expected an integer from 0 to 2', () => counting(2, 3).rows(0, 3))
  range('rows: end is 0, expected an integer from 1 to 2', () => counting(2, 3).rows(1, 0))
  range('rows: start is 0.5, expected an integer from 0 to 2', () => counting(2, 3).rows(0.5, 1))
  range('columns: end is undefined, expected an integer from 1 to 3', () => counting(2, 3).columns(1, wrong(undefined)))
  range('columns: the tensor is [3], expected 2 dimensions', () => counting(3).columns(0, 1))
  test('a shape whose sizes dispose the tensor as they are read', async () => {
    const x = counting(2, 2)
    const view = x.reshape(
      Object.defineProperty([0, 4], 0, {
        get() {
          x.dispose()
          return 1
        },
      }),
    )
    expect(x.disposed).toBe(true)
    expect(await view.read()).toEqual(Float32Array.of(0, 1, 2, 3))
  })
  range('rows: start is NaN, expected an integer from 0 to 2', () => counting(2, 3).rows(Number.NaN, 1))
  range('rows: end is Infinity, expected an integer from 0 to 2', () =>
    counting(2, 3).rows(0, Number.POSITIVE_INFINITY),
  )
  // Their number of elements is 0 modulo 2^64.
  range('linear: y is [4294967296,4294967296], expected at most 9007199254740991 elements', () => {
    const x = empty('f32', [2 ** 32, 0])
    ops.linear(x, x, undefined, undefined, false, 'f32')
  })
  range('topLogProbs: ids is [4096,4503599627370496], expected at most 9007199254740991 elements', () =>
    ops.topLogProbs(counting(4096, 1), 2 ** 52),
  )
  type('write: data is null, expected a typed array', () => counting(3).write(wrong(null)))
  range('write: data is 8 bytes, expected 12 for [3]', () => counting(3).write(new Float32Array(2)))
  type('Tensor: make one with tensor() or empty()', () => Reflect.construct(Tensor, []))
  type("Class constructors cannot be invoked without 'new'", () => Reflect.apply(Tensor, undefined, []))
  type('rmsNorm: weight is bf16, expected f32', () => ops.rmsNorm(counting(2, 3), wrong(empty('bf16', [3])), 0))
  range('rmsNorm: weight is [4], expected [D=3]', () => ops.rmsNorm(counting(2, 3), counting(4), 0))
  refused(new Error('leaveScope: no scope is open'), () => {
    binding.leaveScope([])
    try {
      binding.leaveScope([])
    } finally {
      binding.enterScope()
    }
  })

  test('an element type, by the name of its argument', () => {
    const [ids, weight] = [tensor(Int32Array.of(0), 'i32', [1]), tensor(Float32Array.of(1), 'f32', [1, 1])]
    for (const [to, found] of [
      ['f64', "'f64'"],
      [undefined, 'undefined'],
      ['e4m3', 'e4m3'],
    ]) {
      expect(() => binding.embedding(ids, weight, to as never)).toThrow(
        new TypeError(`embedding: to is ${found}, expected f32 or bf16`),
      )
    }
  })

  test('what ops kept of a matrix is let go with what the pool keeps', async () => {
    const rss = () => process.memoryUsage().rss / 2 ** 20
    using a = empty('bf16', [1, 4096])
    using b = tensor(new Uint8Array(2 * 4096 * 8192), 'bf16', [4096, 8192]) // 64 MiB
    using done = empty('u8', [0])
    binding.releaseCached('cpu')
    await done.read()
    const before = rss()
    binding.matmulNn(a, b, 'f32').dispose() // converts it to f32
    await done.read()
    expect(rss() - before).toBeGreaterThan(100)
    binding.releaseCached('cpu')
    await done.read()
    expect(rss() - before).toBeLessThan(30)
  })

  test('a device that is not there', () => {
    expect(() => empty('f32', [1], 'cuda')).toThrow(
      binding.buildInfo().cuda ? /^device cuda:0: / : new Error('device cuda: built without CUDA'),
    )
  })

  test('no memory: asked and free', () => {
    const message = /^cpu: out of memory: asked for 4096\.00 GiB, \d+\.\d\d GiB free$/
    expect(() => empty('f32', [1 << 20, 1 << 20])).toThrow(message)
    expect(() => tensor(new Uint8Array(1), 'u8', [2 ** 42])).toThrow('tensor: data is 1 bytes, expected 4398046511104')
    const long = counting(1 << 20)
    const x = ops.cast(long.reshape([1 << 20, 1]), 'f32')
    expect(() => ops.linear(x, empty('u8', [1]) as never, undefined, undefined, false, 'f32')).toThrow(TypeError)
    expect(() => ops.linear(x, x, undefined, undefined, false, 'f32')).toThrow(
      /^linear: y is \[1048576,1048576\]: cpu: out of memory: asked for 4096\.00 GiB, \d+\.\d\d GiB free$/,
    )
  })

  test('no memory to read into', async () => {
    const printed = printedUnder(
      `--as=${5 * 2 ** 30}`,
      `const x = binding.empty('e4m3', [2 ** 30])
      try { x.read() } catch (error) { console.log(error.name, error.message) }
      console.log((await x.rows(0, 3).read()).length)`,
    )
    expect(await printed).toMatch(
      /^RangeError read: the tensor is \[1073741824\], expected one that fits a Float32Array \(.*\)\n3\n$/,
    )
  })

  // A check of the type tag, not of the prototype or the shape.
  const imitations: [string, (t: TensorOf<'f32'>) => unknown][] = [
    ['a plain object', (t) => ({ dtype: 'f32', shape: t.shape, disposed: false })],
    ['Object.create(tensor)', (t) => Object.create(t)],
    ['an object with its prototype', () => Object.setPrototypeOf({}, Tensor.prototype)],
    ['a Proxy', (t) => new Proxy(t, {})],
    ['a structured clone', (t) => structuredClone(t)],
    ['the prototype', () => Tensor.prototype],
  ]
  test.each(imitations)('%s is no tensor', (_, imitate) => {
    const like = wrong(imitate(f32([1, 2])))
    expect(() => ops.rmsNorm(f32([1, 2], [1, 2]), like, 0)).toThrow(
      new TypeError('rmsNorm: weight is an object, expected a tensor'),
    )
    expect(() => Tensor.prototype.read.call(like)).toThrow()
    binding.leaveScope([like]) // which keeps nothing
    binding.enterScope()
  })

  test('methods refuse another object of the addon', () => {
    const file = new binding.MappedFile(import.meta.filename)
    const { get } = Object.getOwnPropertyDescriptor(Tensor.prototype, 'device')!
    for (const other of [file, {}, Tensor.prototype]) {
      expect(() => get!.call(other)).toThrow(new TypeError('Tensor: this is an object, expected a tensor'))
    }
    expect(() => Tensor.prototype.read.call(wrong(file))).toThrow(new TypeError('Illegal invocation'))
    expect(() => Tensor.prototype.rows.call(wrong({}), 0, 1)).toThrow(new TypeError('Illegal invocation'))
    file.close()
  })
})

describe('the queue', () => {
  const table = () => counting(4, 2)

  test('an error rejects the next read with the name of its op, and that one alone', async () => {
    const good = f32([1, 2])
    const bad = ops.embedding(i32([0, 4]), table(), 'f32')
    const first = bad.read()
    const second = good.read()
    await expect(first).rejects.toThrow(new Error('embedding: ids[1] is 4, expected 0 to 3'))
    expect(await second).toEqual(Float32Array.of(1, 2))
    expect(await good.read()).toEqual(Float32Array.of(1, 2))
  })

  test('of several errors the first is told', async () => {
    ops.embedding(i32([-1]), table(), 'f32')
    const y = ops.embedding(i32([7]), table(), 'f32')
    await expect(y.read()).rejects.toThrow('embedding: ids[0] is -1')
    expect(await f32([3]).read()).toEqual(Float32Array.of(3))
  })

  test('readBytes tells errors too', async () => {
    await expect(ops.embedding(i32([9]), table(), 'f32').readBytes()).rejects.toThrow('embedding: ids[0] is 9')
  })

  test('work goes in order, and nothing waits for it', { retry: 2 }, async () => {
    const t = f32([0])
    const reads = [1, 2, 3, 4, 5].map((i) => t.write(Float32Array.of(i)).read())
    expect(await Promise.all(reads)).toEqual([1, 2, 3, 4, 5].map((i) => Float32Array.of(i)))
    // Some 0.2 s of work or more, beside which a busy machine's pauses are short.
    const [x, w, y] = [empty('f32', [512, 4096]), empty('f32', [2048, 4096]), empty('f32', [512, 2048])]
    const began = performance.now()
    for (let i = 0; i < 4; i++) ops.linear(x, w, undefined, undefined, false, 'f32', y)
    const queued = performance.now() - began
    await y.rows(0, 1).read()
    expect(queued).toBeLessThan((performance.now() - began) / 2)
  })
})

describe('MappedFile', () => {
  let folder: string
  let path: string
  const contents = Uint8Array.from({ length: 20 }, (_, i) => i + 1)
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mapped-'))
    path = join(folder, 'twenty')
    await writeFile(path, contents)
  })
  afterAll(() => rm(folder, { recursive: true }))
  const wrong = (value: unknown) => value as never

  test('gives tensors, from any offset', async () => {
    const file = new binding.MappedFile(path)
    expect(await file.tensor(0, 'u8', [4, 5]).readBytes()).toEqual(contents)
    for (const [start, dtype, size] of [
      [3, 'f32', 4],
      [1, 'bf16', 2],
      [13, 'i32', 4],
    ] as [number, DType, number][]) {
      expect(await file.tensor(start, dtype, [1]).readBytes()).toEqual(contents.slice(start, start + size))
    }
    expect(await file.tensor(20, 'f32', [0]).read()).toEqual(new Float32Array(0))
    file.close()
  })

  test('close leaves what was asked for', async () => {
    const file = new binding.MappedFile(path)
    const t = file.tensor(4, 'u8', [16])
    file.close()
    file.close()
    expect(await t.readBytes()).toEqual(contents.slice(4))
    expect(() => file.tensor(0, 'u8', [1])).toThrow(new Error('MappedFile: the file is closed'))
  })

  test('a shape whose getter closes it', async () => {
    const file = new binding.MappedFile(path)
    const shape = Object.defineProperty([0], 0, {
      get() {
        file.close()
        return 20
      },
    })
    expect(await file.tensor(0, 'u8', shape).readBytes()).toEqual(contents)
    expect(() => file.tensor(0, 'u8', [1])).toThrow(new Error('MappedFile: the file is closed'))
  })

  test('an empty file', async () => {
    const none = join(folder, 'none')
    await writeFile(none, '')
    const file = new binding.MappedFile(none)
    expect(await file.tensor(0, 'f32', [0]).read()).toEqual(new Float32Array(0))
    expect(() => file.tensor(0, 'u8', [1])).toThrow(RangeError)
  })

  test('errors name the file, or what lies outside it', () => {
    const open = (path: unknown) => () => new binding.MappedFile(wrong(path))
    expect(open('/nowhere/at/all')).toThrow(new Error('MappedFile: /nowhere/at/all: No such file or directory'))
    expect(open(folder)).toThrow(new Error(`MappedFile: ${folder}: Is a directory`))
    expect(open(3)).toThrow(new TypeError('MappedFile: path is 3, expected a string'))
    const file = new binding.MappedFile(path)
    const at = (start: unknown) => () => file.tensor(wrong(start), 'f32', [2, 2])
    const message = (start: unknown) =>
      new RangeError(
        `MappedFile: start is ${start}, expected an integer at which [2,2] of f32 lies within the file's 20 bytes`,
      )
    for (const start of [5, 20, 2 ** 53, -1, 0.5, Number.NaN, undefined]) expect(at(start)).toThrow(message(start))
    expect(() => file.tensor(0, wrong('f64'), [1])).toThrow("MappedFile: dtype is 'f64', expected one of")
    expect(() => file.tensor(0, 'f32', [2 ** 50])).toThrow(RangeError)
    file.close()
  })
})

describe('instruction sets and threads', () => {
  test('what the processor lacks is refused, and what it has is told', () => {
    const { simd, threads } = binding.buildInfo()
    expect(binding.useSimd('portable')).toBe(true)
    expect(binding.buildInfo().simd).toBe('portable')
    expect(binding.useSimd('sse9' as never)).toBe(false)
    expect(binding.buildInfo().simd).toBe('portable')
    binding.useSimd(simd)
    binding.setThreads(threads + 1)
    expect(binding.buildInfo().threads).toBe(threads + 1)
    binding.setThreads(threads)
  })

  // Root's threads are not counted, so the process stops being root's when it has those that Node needs.
  test.skipIf(process.getuid?.() !== 0)('an op makes do with the threads that the system gives', async () => {
    const printed = printedUnder(
      '--nproc=1',
      `process.setuid(65534)
      binding.setThreads(64)
      console.log((await binding.relu2(binding.empty('f32', [4096, 64])).read()).length, binding.buildInfo().threads)`,
    )
    expect(await printed).toBe('262144 1\n')
  })
})

/** x rounded to bf16, ties to even: x is an integer of at most 24 bits. */
function nearestBf16(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!
  const up = bits + 0x7fff + ((bits >> 16) & 1)
  return up >>> 16
}

test('the compiler refuses', () => {
  // For it alone: this is not called.
  const never = () => {
    const x = empty('bf16', [1, 2])
    const y = empty('f32', [1, 2])
    ops.siluMul(x, x)
    // @ts-expect-error an f32 beside a bf16
    ops.siluMul(x, y)
    // @ts-expect-error a result of another type
    ops.siluMul(x, x, y)
    // @ts-expect-error norm weights are f32
    ops.rmsNorm(x, x, 1e-5)
    // @ts-expect-error activations are f32 or bf16
    ops.relu2(empty('f16', [1, 2]))
    // @ts-expect-error ids are i32
    ops.embedding(y, y, 'f32')
    // @ts-expect-error i32 is no activation
    ops.embedding(empty('i32', [1]), y, 'i32')
    const out: TensorOf<'bf16'> = ops.linear(x, y, undefined, undefined, false, 'bf16')
    // @ts-expect-error linear gives what `to` says
    const other: TensorOf<'f32'> = ops.linear(x, y, undefined, undefined, false, 'bf16')
    // @ts-expect-error only tensor() and empty() make one
    new Tensor()
    const values: Promise<Float32Array> = x.read()
    // @ts-expect-error i32 reads as Int32Array
    const integers: Promise<Float32Array> = empty('i32', [1]).read()
    return [out, other, values, integers]
  }
  expect(never).toBeTypeOf('function')
})
