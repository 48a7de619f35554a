// What attention promises beyond its values: the same bits however a sequence is computed, nothing read that is not
// its own, and words for what cannot be.
import { describe, expect, test } from 'vitest'
import type { Act, DType, Kv, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { device, empty, implementations, kernels, onCpu, schedules, simt, tensor } from '../device.ts'
import { attentionSpecs } from './attention.ts'
import { afterOne, columns, expectSame, poisoned, run } from './run.ts'
import { nd, Random } from './spec.ts'

const ints = (...values: number[]) => tensor(Int32Array.from(values), 'i32', [values.length])
const table = (rows: number[][]) => tensor(Int32Array.from(rows.flat()), 'i32', [rows.length, rows[0]!.length])
const floats = <A extends Kv>(act: A, shape: number[], random: Random, scale = 1) =>
  tensor(Float32Array.from(random.normal(shape, scale).data), act, shape)
const nans = (kv: Kv, shape: number[]) =>
  tensor(new Float32Array(shape.reduce((n, size) => n * size, 1)).fill(Number.NaN), kv, shape)

/** Keys that are not rotated and caches without scales, for kvAppend; caches without scales, for attention. */
const asIs = [undefined, undefined, undefined] as const
const unscaled = [undefined, undefined] as const

interface Sequence {
  q: Tensor<Act> // [T,H,P]
  k: Tensor<Act> // [T,G,P]
  v: Tensor<Act> // [T,G,P]
  scale?: Tensor<'f32'> // [G]: of caches of e4m3
}

/** Attention of a sequence, its tokens given in chunks that end at `ends`, beside another sequence in every call. */
async function bitsInChunks(
  { q, k, v, scale }: Sequence,
  ends: number[],
  pageSize: number,
  random: Random,
  { beside = false, decode = false } = {},
) {
  const [T, H, P] = q.shape as [number, number, number]
  const G = k.shape[1]!
  const own = Math.ceil(T / pageSize)
  const order = Array.from(random.distinct(own + 1, own + 3).data)
  const spare = order.pop()!
  const cache = () => nans(scale ? 'e4m3' : q.dtype, [own + 3, pageSize, G, P])
  const caches = [cache(), cache()] as const
  const parts: Uint8Array[] = []
  let begin = 0
  for (const end of ends) {
    const n = end - begin
    const chunk = [q, k, v].map((t) => t.rows(begin, end)) as [Tensor<Act>, Tensor<Act>, Tensor<Act>]
    if (!beside) {
      const where = [table([order]), ints(0, n), ints(begin)] as const
      binding.kvAppend(chunk[1], chunk[2], undefined, scale, scale, ...where, ...caches)
      parts.push(await binding.attention(chunk[0], ...caches, scale, scale, ...where, 0.3, decode).readBytes())
    } else {
      // One token of another sequence before this one's, as rows of one packed batch.
      const packed = await Promise.all(
        chunk.map(async (t) => {
          const [, heads, width] = t.shape as [number, number, number]
          const other = random.normal([heads * width]).data
          const data = Float32Array.from([...other, ...(await t.read())])
          return tensor(data, t.dtype, [n + 1, heads, width])
        }),
      )
      const where = [table([order.map((_, i) => (i ? -1 : spare)), order]), ints(0, 1, n + 1), ints(0, begin)] as const
      binding.kvAppend(packed[1]!, packed[2]!, undefined, scale, scale, ...where, ...caches)
      parts.push(
        await binding
          .attention(packed[0]!, ...caches, scale, scale, ...where, 0.3, decode)
          .rows(1, n + 1)
          .readBytes(),
      )
    }
    begin = end
  }
  expect(parts.reduce((sum, part) => sum + part.length, 0)).toBe(T * H * P * (q.dtype === 'f32' ? 4 : 2))
  return Buffer.concat(parts)
}

describe.each(implementations)('the same bits, $name', ({ use }) => {
  for (const act of ['f32', 'bf16'] as const) {
    for (const [G, heads] of [
      [2, 1],
      [1, 3],
      [2, 8],
    ] as const) {
      test(`${act}, ${heads} query heads to a key head`, async () => {
        use()
        const random = new Random(7)
        const [T, P] = [simt ? 70 : 150, 24]
        const sequence = {
          q: floats(act, [T, G * heads, P], random, 3),
          k: floats(act, [T, G, P], random, 3),
          v: floats(act, [T, G, P], random),
        }
        const whole = await bitsInChunks(sequence, [T], 64, random)
        const each = (n: number) => Array.from({ length: Math.ceil(T / n) }, (_, i) => Math.min(T, (i + 1) * n))
        expect((await bitsInChunks(sequence, each(1), 16, random, { decode: true })).equals(whole), 'decode').toBe(true)
        for (const n of [7, 64, 65]) {
          expect((await bitsInChunks(sequence, each(n), 64, random)).equals(whole), `chunks of ${n}`).toBe(true)
        }
        for (const pageSize of [1, 16, 100, 256]) {
          expect((await bitsInChunks(sequence, [T], pageSize, random)).equals(whole), `pages of ${pageSize}`).toBe(true)
        }
        expect((await bitsInChunks(sequence, each(40), 32, random, { beside: true })).equals(whole), 'in a batch').toBe(
          true,
        )
      })
    }
  }
})

// Without decoding Hopper has a kernel of its own, whose tiles are 128 tokens by 128 keys.
describe.each(kernels.slice(0, 1))('the same bits of chunks, $name', ({ use }) => {
  test.each([64, 128])('heads of %i', async (P) => {
    use()
    const random = new Random(11)
    const T = 300
    const sequence = {
      q: floats('bf16', [T, 8, P], random, 2),
      k: floats('bf16', [T, 1, P], random, 2),
      v: floats('bf16', [T, 1, P], random),
    }
    const whole = await bitsInChunks(sequence, [T], 64, random)
    const ends = [3, 16, 143, 160, 161, 288, T]
    expect((await bitsInChunks(sequence, ends, 16, random)).equals(whole), 'in chunks').toBe(true)
    for (const pageSize of [8, 128, 256]) {
      expect((await bitsInChunks(sequence, [T], pageSize, random)).equals(whole), `pages of ${pageSize}`).toBe(true)
    }
    expect((await bitsInChunks(sequence, [20, 150, T], 64, random, { beside: true })).equals(whole), 'in a batch').toBe(
      true,
    )
  })

  test('a token that is decoded beside them', async () => {
    use()
    const random = new Random(13)
    const [q, k, v] = [
      [41, 8, 64],
      [3, 64, 1, 64],
      [3, 64, 1, 64],
    ].map((shape) => floats('bf16', shape, random, 2))
    const attend = (rows: number, pages: number[][], ends: number[], past: number[]) =>
      binding
        .attention(
          q!.rows(0, rows),
          k!,
          v!,
          undefined,
          undefined,
          table(pages),
          ints(0, ...ends),
          ints(...past),
          0.3,
          true,
        )
        .rows(0, 1)
        .readBytes()
    const pages = [
      [2, -1],
      [0, 1],
    ]
    expectSame(
      { y: { bits: await attend(41, pages, [1, 41], [50, 60]) } },
      { y: { bits: await attend(1, [[2]], [1], [50]) } },
      'beside',
    )
  })

  test('wherever queries and results lie', async () => {
    use()
    const op = binding.ops.find(({ name }) => name === 'attention')!
    const inputs = attentionSpecs.attention.special!['tiles: several items for a block']!(new Random(1))
    const { written: want } = await run(op, inputs, { act: 'bf16' })
    for (const q of [columns(8, 16), columns(2, 3), afterOne]) {
      expectSame((await run(op, inputs, { act: 'bf16', places: { q } })).written, want, 'q')
    }
    const given = poisoned(op, want, { y: afterOne })
    expectSame((await run(op, inputs, { act: 'bf16', given })).written, want, 'y')
  })
})

// A GPU splits keys there, in bf16.
test.each(onCpu ? (['f32', 'bf16'] as const) : (['bf16'] as const))(
  'the same bits past 512 and 1024 keys, %s',
  async (act) => {
    const random = new Random(9)
    const [T, P] = [1030, 8]
    const sequence = {
      q: floats(act, [T, 4, P], random, 3),
      k: floats(act, [T, 2, P], random, 3),
      v: floats(act, [T, 2, P], random),
    }
    const whole = await bitsInChunks(sequence, [T], 64, random)
    expect((await bitsInChunks(sequence, [512, 1024, 1025, T], 64, random)).equals(whole), 'in chunks').toBe(true)
    const ends = [500, 520, 1022, 1023, 1024, T]
    expect((await bitsInChunks(sequence, ends, 48, random, { beside: true })).equals(whole), 'in a batch').toBe(true)
  },
)

// One token, up to eight, and more are different kernels on a GPU; so are caches of e4m3.
test.each([
  [8, 64, false],
  [4, 128, false],
  [4, 64, true],
  [2, 128, true],
] as const)('the same bits past 512 keys, %i query heads of %i to a key head, e4m3 %j', async (heads, P, quantised) => {
  const random = new Random(13)
  const T = 533
  const sequence = {
    q: floats('bf16', [T, heads, P], random, 3),
    k: floats('bf16', [T, 1, P], random, 3),
    v: floats('bf16', [T, 1, P], random),
    ...(quantised ? { scale: tensor(Float32Array.of(0.37), 'f32', [1]) } : {}),
  }
  const whole = await bitsInChunks(sequence, [T], 64, random)
  const ends = [500, 501, 503, 511, 512, 513, 521, 529, 532, T]
  expect((await bitsInChunks(sequence, ends, 64, random)).equals(whole), 'in chunks').toBe(true)
  expect((await bitsInChunks(sequence, ends, 16, random, { beside: true })).equals(whole), 'in a batch').toBe(true)
})

describe('decoding', () => {
  const [G, heads, P, pageSize, pool] = [2, 4, 32, 16, 400]
  const random = new Random(17)
  const cache = () => floats('bf16', [pool, pageSize, G, P], random)
  const where = (list: { tokens: number; past: number; pages: number[] }[], width: number) => {
    let sum = 0
    return [
      table(list.map(({ pages }) => Array.from({ length: width }, (_, i) => pages[i] ?? -1))),
      ints(0, ...list.map(({ tokens }) => (sum += tokens))),
      ints(...list.map(({ past }) => past)),
    ] as const
  }

  test.each([1, 8])('alone and in a batch, with any table: the same bits, up to %i tokens', async (most) => {
    const [k, v] = [cache(), cache()]
    const order = Array.from(random.distinct(pool, pool).data)
    const list = Array.from({ length: 9 }, () => {
      const [tokens, past] = [random.integer(1, most), random.integer(0, 600)]
      return { tokens, past, pages: order.splice(0, Math.ceil((tokens + past) / pageSize)) }
    })
    const T = list.reduce((sum, { tokens }) => sum + tokens, 0)
    const q = floats('bf16', [T, G * heads, P], random, 3)
    const together = binding.attention(q, k, v, ...unscaled, ...where(list, 40), 0.3, true)
    let first = 0
    for (const sequence of list) {
      const rows = [first, first + sequence.tokens] as const
      first += sequence.tokens
      const alone = binding.attention(q.rows(...rows), k, v, ...unscaled, ...where([sequence], 77), 0.3, true)
      expect(await alone.readBytes()).toEqual(await together.rows(...rows).readBytes())
    }
  })

  // A graph knows the sizes of its tensors only.
  test('replayed with other lengths', async () => {
    const [k, v] = [cache(), cache()]
    const pages = [0, 1, 2].map((s) => Array.from({ length: 100 }, (_, i) => 100 * s + ((i * 37) % 100)))
    const q = floats('bf16', [8, G * heads, P], random, 3)
    const [T, H] = [8, G * heads]
    const lengths = (tokens: number[], past: number[]) =>
      where(
        tokens.map((n, s) => ({ tokens: n, past: past[s]!, pages: pages[s]! })),
        100,
      )
    const [table, offsets, past] = lengths([1, 1, 6], [0, 0, 0])
    const [y, lse] = [empty('bf16', [T, H, P]), empty('f32', [T, H])]
    const graph = binding.capture(
      device,
      () => void binding.attention(q, k, v, ...unscaled, table, offsets, past, 0.3, true, lse, y),
    )
    for (const [tokens, before] of [
      [
        [1, 1, 6],
        [0, 511, 900],
      ],
      [
        [0, 8, 0],
        [0, 1500, 77],
      ],
      [
        [3, 2, 3],
        [1590, 509, 0],
      ],
    ] as const) {
      const [other, bounds, pasts] = lengths([...tokens], [...before])
      const lse2 = empty('f32', [T, H])
      const want = binding.attention(q, k, v, ...unscaled, other, bounds, pasts, 0.3, true, lse2)
      offsets.write(await bounds.read())
      past.write(await pasts.read())
      for (const { use } of schedules.slice(0, 2)) {
        use()
        graph.replay()
        expect(await y.readBytes()).toEqual(await want.readBytes())
        expect(await lse.readBytes()).toEqual(await lse2.readBytes())
      }
    }
    graph.dispose()
  })
})

test('a token does not see what comes after it, even if that is NaN', async () => {
  const random = new Random(3)
  const sequence = (T: number, until: number) => {
    const rows = (heads: number, salt: number) => {
      const x = nd([T, heads, 4], (i) => (i < until * heads * 4 ? Math.sin(i * salt) : Number.NaN))
      return tensor(Float32Array.from(x.data), 'f32', x.shape)
    }
    return { q: rows(2, 1), k: rows(1, 2), v: rows(1, 3) }
  }
  const poisoned = await bitsInChunks(sequence(90, 70), [90], 16, random)
  const short = await bitsInChunks(sequence(70, 70), [70], 16, random)
  expect(poisoned.subarray(0, short.length).equals(short)).toBe(true)
})

// Keys and values as three steps leave them: rope, then scales, then the cache.
describe.each(['f32', 'bf16'] as const)('rotated and quantised on their way into the cache, %s', (act) => {
  const [T, G, P] = [5, 3, 32]
  const random = new Random(11)
  const [k, v] = [floats(act, [T, G, P], random, 3), floats(act, [T, G, P], random, 3)]
  const invFreq = tensor(
    Float32Array.from({ length: P / 2 }, (_, i) => 3 ** -i),
    'f32',
    [P / 2],
  )
  const [kScale, vScale] = [0.03, 0.7].map((scale) => {
    return tensor(
      Float32Array.from({ length: G }, (_, g) => scale * (g + 1)),
      'f32',
      [G],
    )
  }) as [Tensor<'f32'>, Tensor<'f32'>]
  const where = [table([[2, 0, 1]]), ints(0, T), ints(6)] as const
  const caches = (kv: Kv) => [empty(kv, [3, 4, G, P]), empty(kv, [3, 4, G, P])] as [Tensor<Kv>, Tensor<Kv>]
  /** The elements of positions 6 to 6 + T. */
  const stored = async (cache: Tensor<Kv>) => {
    const rows = await cache.read()
    return Float32Array.from({ length: T * G * P }, (_, i) => {
      const position = 6 + Math.floor(i / (G * P))
      return rows[([2, 0, 1][position >> 2]! * 4 + (position & 3)) * G * P + (i % (G * P))]!
    })
  }
  const turned = async () => {
    const x = tensor(await k.read(), act, [T, G, P])
    binding.rope(x, invFreq, where[1], where[2])
    return x
  }

  test('the same bits as rope first', async () => {
    for (const [kv, ofKeys, ofValues] of [[act], ['e4m3', kScale, vScale]] as const) {
      const [once, twice] = [caches(kv), caches(kv)]
      binding.kvAppend(k, v, invFreq, ofKeys, ofValues, ...where, ...once)
      binding.kvAppend(await turned(), v, undefined, ofKeys, ofValues, ...where, ...twice)
      for (const i of [0, 1]) expect(await stored(once[i]!)).toEqual(await stored(twice[i]!))
    }
  })

  test('the same bits as one product and one rounding', async () => {
    const [kCache, vCache] = caches('e4m3')
    binding.kvAppend(k, v, undefined, kScale, vScale, ...where, kCache, vCache)
    for (const [x, scale, cache] of [
      [k, kScale, kCache],
      [v, vScale, vCache],
    ] as const) {
      const [values, scales] = [await x.read(), await scale.read()]
      const scaled = values.map((value, i) => value * Math.fround(1 / scales[Math.floor(i / P) % G]!))
      expect(await stored(cache)).toEqual(await binding.cast(tensor(scaled, 'f32', [1, scaled.length]), 'e4m3').read())
    }
  })

  test('wherever tensors begin', async () => {
    const later = <D extends DType>(t: Tensor<D>, data: Float32Array) =>
      tensor(Float32Array.of(0, ...data), t.dtype, [1 + data.length])
        .rows(1, 1 + data.length)
        .reshape(t.shape)
    const want = caches('e4m3')
    binding.kvAppend(k, v, invFreq, kScale, vScale, ...where, ...want)
    const [keys, values] = [later(k, await k.read()), later(v, await v.read())]
    const [kCache, vCache] = caches('e4m3').map((t) => later(t, new Float32Array(t.shape.reduce((a, b) => a * b))))
    for (const given of [
      [keys, v, want[0], want[1]],
      [k, values, want[0], want[1]],
      [k, v, kCache!, want[1]],
      [k, v, want[0], vCache!],
    ] as const) {
      const before = [await stored(want[0]), await stored(want[1])]
      binding.kvAppend(given[0], given[1], invFreq, kScale, vScale, ...where, given[2], given[3])
      expect([await stored(given[2]), await stored(given[3])]).toEqual(before)
    }
  })

  test('and read times their scales, the same bits where these are powers of 2', async () => {
    const [kCache, vCache] = [floats('e4m3', [3, 4, G, P], random), floats('e4m3', [3, 4, G, P], random)]
    const ones = tensor(new Float32Array(G).fill(1), 'f32', [G])
    const q = floats(act, [T, G, P], random)
    // A power of two as scale changes exponents only.
    const twos = tensor(new Float32Array(G).fill(2), 'f32', [G])
    const y = await binding.attention(q, kCache, vCache, twos, twos, ...where, 0.25, true).read()
    const same = await binding.attention(q, kCache, vCache, ones, twos, ...where, 0.5, true).read()
    const half = await binding.attention(q, kCache, vCache, ones, ones, ...where, 0.5, true).read()
    expect(y).toEqual(same)
    expect(y).toEqual(half.map((x) => 2 * x))
  })
})

describe('refuses', () => {
  const rows = (T: number, heads: number) => empty('f32', [T, heads, 4])
  const caches = () => [empty('f32', [5, 4, 2, 4]), empty('f32', [5, 4, 2, 4])] as const

  test.each([
    [[[0, 5]], [0, 7], [0], 'pages[0,1] is 5, expected 0 to 4'],
    [[[0, -1]], [0, 7], [0], 'pages[0,1] is -1, expected 0 to 4'],
    [[[0, 1]], [0, 7], [2], 'sequence 0 is 9 tokens with its past, expected at most 8, 2 pages of 4'],
    [[[0, 1]], [0, 7], [-1], 'past[0] is -1, expected at least 0'],
    [[[0, 1]], [0, 6], [0], 'offsets[1] is 6, expected 7, the number of tokens'],
    [
      [
        [0, 1],
        [2, 3],
      ],
      [0, 8, 7],
      [0, 0],
      'offsets[2] is 7, expected at least 8',
    ],
  ])('pages %j, offsets %j, past %j', async (pages, offsets, past, message) => {
    const where = [table(pages), ints(...offsets), ints(...past)] as const
    const [k, v] = caches()
    binding.kvAppend(rows(7, 2), rows(7, 2), ...asIs, ...where, k, v)
    await expect(k.read()).rejects.toThrow(`kvAppend: ${message}`)
    await expect(binding.attention(rows(7, 4), k, v, ...unscaled, ...where, 1, true).read()).rejects.toThrow(
      `attention: ${message}`,
    )
  })

  test.each([
    [
      'of two sequences',
      [
        [3, 1],
        [4, 1],
      ],
      [0, 3, 6],
      [3, 3],
      1,
    ],
    ['of one', [[2, 2]], [0, 6], [0], 2],
  ])('to write one page for two, %s', async (_, pages, offsets, past, page) => {
    const [k, v] = caches()
    binding.kvAppend(rows(6, 2), rows(6, 2), ...asIs, table(pages), ints(...offsets), ints(...past), k, v)
    await expect(v.read()).rejects.toThrow(`kvAppend: pages names ${page} twice, expected a page of its own`)
  })

  test('query heads that the key heads do not divide', async () => {
    const y = binding.attention(rows(1, 3), ...caches(), ...unscaled, table([[0]]), ints(0, 1), ints(0), 1, true)
    await expect(y.read()).rejects.toThrow('attention: q has 3 heads, expected a multiple of 2, the heads of kCache')
  })

  test.runIf(!onCpu)('heads wider than a tile on a GPU', async () => {
    const [q, cache] = [empty('bf16', [1, 2, 264]), empty('bf16', [1, 4, 2, 264])]
    const y = binding.attention(q, cache, cache, ...unscaled, table([[0]]), ints(0, 1), ints(0), 1, true)
    await expect(y.read()).rejects.toThrow('attention: q has heads of 264 elements, expected at most 256 on a GPU')
  })

  test('to rotate heads of odd width', async () => {
    const x = empty('f32', [1, 2, 5])
    binding.rope(x, empty('f32', [3]), ints(0, 1), ints(0))
    await expect(x.read()).rejects.toThrow('rope: x has heads of 5 elements, expected an even number')
    const cache = empty('f32', [1, 4, 2, 5])
    const other = empty('f32', [1, 4, 2, 5])
    binding.kvAppend(x, x, empty('f32', [3]), undefined, undefined, table([[0]]), ints(0, 1), ints(0), cache, other)
    await expect(cache.read()).rejects.toThrow('kvAppend: k has heads of 5 elements, expected an even number')
  })

  test.each([
    ['f32', 'bf16', 'bf16', false, false, 'kCache is bf16, expected f32 or e4m3'],
    ['bf16', 'f32', 'f32', false, false, 'kCache is f32, expected bf16 or e4m3'],
    ['f32', 'e4m3', 'f32', true, true, 'vCache is f32, expected e4m3, as kCache is'],
    ['bf16', 'bf16', 'e4m3', false, false, 'vCache is e4m3, expected bf16, as kCache is'],
    ['f32', 'e4m3', 'e4m3', false, true, 'kScale is left out, expected a scale for each head of e4m3'],
    ['f32', 'e4m3', 'e4m3', true, false, 'vScale is left out, expected a scale for each head of e4m3'],
    ['bf16', 'bf16', 'bf16', true, false, 'kScale is given, expected none, as caches are bf16'],
    ['f32', 'f32', 'f32', false, true, 'vScale is given, expected none, as caches are f32'],
  ] as const)(
    '%s beside caches of %s and %s, scales %j and %j',
    async (act, kKind, vKind, kScaled, vScaled, message) => {
      const [x, q] = [empty(act, [1, 2, 4]), empty(act, [1, 4, 4])]
      const [k, v] = [empty(kKind, [1, 4, 2, 4]), empty(vKind, [1, 4, 2, 4])]
      const scales = [kScaled, vScaled].map((scaled) => (scaled ? empty('f32', [2]) : undefined))
      const where = [table([[0]]), ints(0, 1), ints(0)] as const
      binding.kvAppend(x, x, undefined, scales[0], scales[1], ...where, k, v)
      await expect(k.read()).rejects.toThrow(`kvAppend: ${message}`)
      const y = binding.attention(q, k, v, scales[0], scales[1], ...where, 1, true)
      await expect(y.read()).rejects.toThrow(`attention: ${message}`)
    },
  )

  test('a scale for other heads', () => {
    const [q, cache, scale] = [empty('f32', [1, 4, 4]), empty('e4m3', [1, 4, 2, 4]), empty('f32', [4])]
    const where = [table([[0]]), ints(0, 1), ints(0)] as const
    expect(() => binding.attention(q, cache, cache, scale, scale, ...where, 1, true)).toThrow(
      'attention: kScale is [4], expected [G=2]',
    )
  })

  test('before anything is written', async () => {
    const k = tensor(new Float32Array(160).fill(7), 'f32', [5, 4, 2, 4])
    const v = tensor(new Float32Array(160).fill(7), 'f32', [5, 4, 2, 4])
    binding.kvAppend(rows(7, 2), rows(7, 2), ...asIs, table([[0, 9]]), ints(0, 7), ints(0), k, v)
    await expect(k.read()).rejects.toThrow('pages[0,1] is 9')
    expect(new Set([...(await k.read()), ...(await v.read())])).toEqual(new Set([7]))
  })
})

test('pages that several sequences read are fine: a shared prefix', async () => {
  const random = new Random(5)
  const [k, v] = [floats('f32', [2, 4, 1, 4], random), floats('f32', [2, 4, 1, 4], random)]
  const q = floats('f32', [1, 2, 4], random)
  const twice = tensor(Float32Array.from([...(await q.read()), ...(await q.read())]), 'f32', [2, 2, 4])
  const both = [
    table([
      [1, -1],
      [1, 0],
    ]),
    ints(0, 1, 2),
    ints(2, 2),
  ] as const
  const y = await binding.attention(twice, k, v, ...unscaled, ...both, 1, true).read()
  const alone = await binding.attention(q, k, v, ...unscaled, table([[1]]), ints(0, 1), ints(2), 1, true).read()
  expect(Array.from(y)).toEqual([...alone, ...alone])
})
