// safetensors files, written and read; damaged ones are refused.
import { mkdir, readdir, readFile, rmdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect } from 'vitest'
import { dtypeBytes, readHeader, type StoredDtype, writeSafetensors } from '../../dist/checkpoint/safetensors.js'
import { test, zeros } from './fixtures.ts'

/** A file of that header, its length field and `data` bytes. */
function file(header: string | Buffer | object, data: number, length?: number): Buffer {
  const json = Buffer.isBuffer(header)
    ? header
    : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(length ?? json.length))
  return Buffer.concat([prefix, json, Buffer.alloc(data)])
}

const entry = (begin: number, end: number, dtype = 'U8', shape: unknown = [end - begin]) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
})

describe('reads', () => {
  test('names, dtypes, shapes and absolute offsets', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    const header = {
      __metadata__: { format: 'pt' },
      b: { dtype: 'BF16', shape: [2, 3], data_offsets: [4, 16] },
      a: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
      none: { dtype: 'I64', shape: [0, 5], data_offsets: [4, 4] },
    }
    const bytes = file(header, 16)
    await writeFile(path, bytes)
    const start = bytes.length - 16
    expect(await readHeader(path)).toEqual({
      path,
      bytes: bytes.length,
      dataStart: start,
      tensors: new Map([
        ['b', { dtype: 'BF16', shape: [2, 3], start: start + 4, end: start + 16 }],
        ['a', { dtype: 'F32', shape: [], start, end: start + 4 }],
        ['none', { dtype: 'I64', shape: [0, 5], start: start + 4, end: start + 4 }],
      ]),
    })
  })

  test('a padded header, and one without tensors', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeFile(path, file('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   ', 1))
    expect((await readHeader(path)).tensors.size).toBe(1)
    await writeFile(path, file('{}', 0))
    expect((await readHeader(path)).tensors.size).toBe(0)
  })

  test('the demo model', async () => {
    const { tensors } = await readHeader('demo/model/model.safetensors')
    expect(tensors.get('backbone.layers.0.mixer.in_proj.weight')).toMatchObject({ dtype: 'BF16', shape: [1296, 256] })
  })

  test('nothing once aborted', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeFile(path, file('{}', 0))
    await expect(readHeader(path, { signal: AbortSignal.abort() })).rejects.toThrow(
      expect.objectContaining({ name: 'AbortError' }),
    )
  })
})

describe('refuses', () => {
  const listed = Object.keys(dtypeBytes)
    .join(', ')
    .replace(/, (\w+)$/, ' or $1')
  const cases: [name: string, Buffer, ErrorConstructor, string][] = [
    ['a file too short', Buffer.alloc(7), RangeError, "file is 7 bytes, expected at least 8 for the header's length"],
    ['a header cut off', file('{}', 0, 3), RangeError, 'header length is 3 bytes, expected at most 2'],
    [
      'an absurd header length',
      Buffer.concat([Buffer.alloc(8, 0xff), Buffer.from('{}')]),
      RangeError,
      'header length is 18446744073709552000 bytes, expected at most 2',
    ],
    ['a list', file('[]', 0), TypeError, 'header is [], expected an object'],
    ['a number for a tensor', file({ a: 1 }, 0), TypeError, 'a is 1, expected an object'],
    ['an unknown dtype', file({ a: entry(0, 1, 'F4') }, 1), TypeError, `a has dtype 'F4', expected ${listed}`],
    [
      'a negative size',
      file({ a: entry(0, 1, 'U8', [-1]) }, 1),
      RangeError,
      'a has shape [-1], expected a list of integers >= 0',
    ],
    [
      'no shape',
      file({ a: { dtype: 'U8', data_offsets: [0, 1] } }, 1),
      RangeError,
      'a has shape undefined, expected a list of integers >= 0',
    ],
    [
      'offsets backwards',
      file({ a: entry(1, 0, 'U8', [1]) }, 1),
      RangeError,
      'a has data_offsets [1,0], expected [begin, end]',
    ],
    [
      'three offsets',
      file({ a: { dtype: 'U8', shape: [1], data_offsets: [0, 1, 2] } }, 1),
      RangeError,
      'a has data_offsets [0,1,2], expected [begin, end]',
    ],
    [
      'a size that differs',
      file({ a: entry(0, 4, 'F32', [2]) }, 4),
      RangeError,
      'a is 4 bytes, expected 8 for F32 [2]',
    ],
    [
      'a product past 2^64',
      // 4194305 * 4194305 * 211106198978564 is 4 modulo 2^64.
      file({ a: entry(0, 16, 'F32', [4194305, 4194305, 211106198978564]) }, 16),
      RangeError,
      'a is 16 bytes, expected 1.4855285193791046e+28 for F32 [4194305,4194305,211106198978564]',
    ],
    ['an overlap', file({ a: entry(0, 3), b: entry(2, 4) }, 4), RangeError, 'b overlaps a'],
    ['the same range twice', file({ a: entry(0, 4), b: entry(0, 4) }, 4), RangeError, 'b overlaps a'],
    ['a hole', file({ b: entry(3, 4), a: entry(0, 1) }, 4), RangeError, '2 bytes between a and b, expected none'],
    ['a hole at the start', file({ a: entry(1, 2) }, 2), RangeError, '1 bytes between the header and a, expected none'],
    ['bytes at the end', file({ a: entry(0, 1) }, 4), RangeError, '3 bytes after a, expected none'],
    [
      'a name twice',
      file(
        '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\\u0061":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
        1,
      ),
      Error,
      "header has the key 'a' twice, expected it once",
    ],
    [
      'a dtype twice',
      file('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"dtype":"I8"}}', 1),
      Error,
      "header has the key 'dtype' twice, expected it once",
    ],
    [
      'bytes that are not UTF-8',
      file(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 0),
      Error,
      'header is not JSON in UTF-8: The encoded data was not valid for encoding utf-8',
    ],
  ]
  test.for(cases)('%s', async ([, bytes, Fault, message], { folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeFile(path, bytes)
    const error = await readHeader(path).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(Fault)
    expect((error as Error).message).toBe(`${path}: ${message}`)
  })

  test('a file cut off', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeSafetensors(path, { weight: zeros('F32', [4]) })
    const { bytes } = await readHeader(path)
    await truncate(path, bytes - 1)
    await expect(readHeader(path)).rejects.toThrow(
      new RangeError(`${path}: weight ends at byte ${bytes}, expected at most ${bytes - 1}, the end of the file`),
    )
  })

  test('text that is not JSON, a folder, nothing at all', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeFile(path, file('{"a":', 0))
    await expect(readHeader(path)).rejects.toThrow(/x\.safetensors: header is not JSON in UTF-8: /)
    await expect(readHeader(folder)).rejects.toThrow(new TypeError(`${folder}: is not a file, expected safetensors`))
    await expect(readHeader(join(folder, 'y'))).rejects.toThrow(/ENOENT: no such file or directory, open '.*y'/)
  })
})

describe('fuzz', () => {
  const shape = fc.array(fc.nat(3), { maxLength: 3 })
  const tensor = fc.record({ dtype: fc.constantFrom(...(Object.keys(dtypeBytes) as StoredDtype[])), shape })
  const tensors = fc.dictionary(fc.string({ minLength: 1 }), tensor, { maxKeys: 5, noNullPrototype: true })

  test('a tensor may have any name', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    const names = ['__proto__', 'constructor', '', '\u0000"\\', '漢字']
    await writeSafetensors(path, Object.fromEntries(names.map((name) => [name, zeros('U8', [1])])))
    expect([...(await readHeader(path)).tensors.keys()].sort()).toEqual(names.sort())
  })

  test('what is written is read', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await fc.assert(
      fc.asyncProperty(tensors, fc.integer({ min: 1, max: 255 }), async (specs, fill) => {
        const data = Object.fromEntries(
          Object.entries(specs).map(([name, { dtype, shape }], i) => {
            const made = zeros(dtype, shape)
            return [name, { ...made, data: made.data.fill((fill + i) % 256) }]
          }),
        )
        await writeSafetensors(path, data)
        const header = await readHeader(path)
        const bytes = await readFile(path)
        expect(header.dataStart % 8).toBe(0)
        expect([...header.tensors.keys()].sort()).toEqual(Object.keys(data).sort())
        for (const [name, { dtype, shape, start, end }] of header.tensors) {
          expect({ dtype, shape, data: new Uint8Array(bytes.subarray(start, end)) }).toEqual(data[name])
          expect(start % dtypeBytes[dtype]).toBe(0)
        }
      }),
      { numRuns: 100 },
    )
  })

  // Whatever is done to a header: an error that names the file, or disjoint ranges inside the file, gapless to its end.
  test('a corrupted file is refused or harmless', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await writeSafetensors(path, { a: zeros('F32', [2, 3]), b: zeros('BF16', [5]), c: zeros('U8', []) })
    const whole = await readFile(path)
    const header = whole.readUInt32LE(0)
    const byte = fc.constantFrom(...Buffer.from('0123456789[]{},:"-.eFUB \xff\x00', 'latin1'))
    const edits = fc.array(fc.tuple(fc.nat(8 + header - 1), byte), { minLength: 1, maxLength: 4 })
    let refused = 0
    await fc.assert(
      fc.asyncProperty(edits, fc.nat(4), async (changes, cut) => {
        const bytes = Buffer.from(whole.subarray(0, whole.length - (cut === 4 ? 3 : 0)))
        for (const [at, value] of changes) bytes[at] = value
        await writeFile(path, bytes)
        try {
          const read = await readHeader(path)
          let end = read.dataStart
          for (const tensor of [...read.tensors.values()].sort((x, y) => x.start - y.start || x.end - y.end)) {
            expect(tensor.start).toBe(end)
            const size = tensor.shape.reduce((x, y) => x * y, dtypeBytes[tensor.dtype] as number)
            expect(tensor.end - tensor.start).toBe(size)
            end = tensor.end
          }
          expect(end).toBe(bytes.length)
        } catch (error) {
          refused++
          expect((error as Error).message.startsWith(`${path}: `)).toBe(true)
        }
      }),
      { numRuns: 1000 },
    )
    expect(refused).toBeGreaterThan(500)
  })

  test('random offsets pass only when they tile the data', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    const range = fc.tuple(fc.nat(8), fc.nat(8))
    await fc.assert(
      fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 3 }), fc.nat(8), async (ranges, size) => {
        const entries = ranges.map(([begin, end], i) => [`t${i}`, entry(begin, end, 'U8', [Math.max(0, end - begin)])])
        await writeFile(path, file(Object.fromEntries(entries), size))
        const sorted = [...ranges].sort(([a, b], [c, d]) => a - c || b - d)
        const tiles =
          sorted.every(([begin, end], i) => begin === (i > 0 ? sorted[i - 1]![1] : 0) && begin <= end) &&
          sorted.at(-1)![1] === size
        const accepted = await readHeader(path).then(
          () => true,
          () => false,
        )
        expect(accepted).toBe(tiles)
      }),
      { numRuns: 500 },
    )
  })
})

describe('writes', () => {
  test('a whole file or none', async ({ folder }) => {
    const path = join(folder, 'x.safetensors')
    await expect(writeSafetensors(path, { a: { ...zeros('F32', [2]), shape: [3] } })).rejects.toThrow(
      new RangeError('writeSafetensors: a is 8 bytes, expected 12 for F32 [3]'),
    )
    const aborted = writeSafetensors(path, { a: zeros('F32', [2]) }, { signal: AbortSignal.abort() })
    await expect(aborted).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }))
    await expect(writeSafetensors(join(folder, 'none', 'x'), {})).rejects.toThrow(
      /\/none\/x: cannot be written \(ENOENT\)$/,
    )
    expect(await readdir(folder)).toEqual([])

    await mkdir(path)
    await expect(writeSafetensors(path, { a: zeros('F32', [2]) })).rejects.toThrow(/EISDIR/) // at the renaming
    await rmdir(path)
    expect(await readdir(folder)).toEqual([])

    await writeSafetensors(path, { a: zeros('F32', [2]) })
    expect(await readdir(folder)).toEqual(['x.safetensors'])
  })
})
