// The safetensors file format (https://github.com/huggingface/safetensors#format): 8 bytes of header length,
// little-endian; a JSON header of names, dtypes, shapes and offsets; then the data, gapless to the end of the file.
// Reading stops at the header, and a header that passes here has no range outside its file.

import { type FileHandle, open, rename, rm, writeFile } from 'node:fs/promises'
import { choices, describe, isObject } from '../options.js'

/** Bytes per element. */
export const dtypeBytes = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
} as const

export type StoredDtype = keyof typeof dtypeBytes

export interface TensorEntry {
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  /** Offsets from the start of the file, in bytes; not always a multiple of the element's size. */
  readonly start: number
  readonly end: number
}

export interface SafetensorsHeader {
  readonly path: string
  /** Size of the file. */
  readonly bytes: number
  /** Offset of the first tensor's data in the file. */
  readonly dataStart: number
  readonly tensors: ReadonlyMap<string, TensorEntry>
}

const maxHeaderBytes = 100_000_000 // the format's own limit

/** Reads and checks the header of the file at `path`, and no data. */
export async function readHeader(
  path: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<SafetensorsHeader> {
  const handle = await open(path)
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw new TypeError(`${path}: is not a file, expected safetensors`)
    const bytes = stat.size
    if (bytes < 8) throw new RangeError(`${path}: file is ${bytes} bytes, expected at least 8 for the header's length`)

    const length = Number((await readRange(handle, path, 0, 8, signal)).readBigUInt64LE())
    const room = Math.min(maxHeaderBytes, bytes - 8)
    if (length > room) throw new RangeError(`${path}: header length is ${length} bytes, expected at most ${room}`)

    const header = await readRange(handle, path, 8, length, signal)
    return { path, bytes, dataStart: 8 + length, tensors: parseHeader(header, path, 8 + length, bytes) }
  } finally {
    await handle.close()
  }
}

async function readRange(handle: FileHandle, path: string, start: number, length: number, signal?: AbortSignal) {
  const buffer = Buffer.alloc(length)
  for (let done = 0; done < length; ) {
    signal?.throwIfAborted()
    const { bytesRead } = await handle.read(buffer, done, length - done, start + done)
    if (bytesRead === 0) throw new RangeError(`${path}: file ends at byte ${start + done}, expected ${start + length}`)
    done += bytesRead
  }
  return buffer
}

function parseHeader(bytes: Buffer, path: string, dataStart: number, fileEnd: number): Map<string, TensorEntry> {
  let text: string
  let header: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    header = JSON.parse(text)
  } catch (cause) {
    throw new Error(`${path}: header is not JSON in UTF-8: ${(cause as Error).message}`, { cause })
  }
  if (!isObject(header)) throw new TypeError(`${path}: header is ${describe(header)}, expected an object`)
  const twice = repeatedKey(text)
  if (twice !== undefined) throw new Error(`${path}: header has the key ${describe(twice)} twice, expected it once`)

  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__')
  const parsed = new Map(tensors.map(([name, entry]) => [name, parseEntry(path, name, entry, dataStart, fileEnd)]))

  let end = dataStart
  let last = 'the header'
  for (const [name, entry] of [...parsed].sort(([, a], [, b]) => a.start - b.start || a.end - b.end)) {
    if (entry.start < end) throw new RangeError(`${path}: ${name} overlaps ${last}`)
    if (entry.start > end) {
      throw new RangeError(`${path}: ${entry.start - end} bytes between ${last} and ${name}, expected none`)
    }
    end = entry.end
    last = name
  }
  if (end < fileEnd) throw new RangeError(`${path}: ${fileEnd - end} bytes after ${last}, expected none`)
  return parsed
}

function parseEntry(path: string, name: string, entry: unknown, dataStart: number, fileEnd: number): TensorEntry {
  if (!isObject(entry)) throw new TypeError(`${path}: ${name} is ${describe(entry)}, expected an object`)
  const { dtype, shape, data_offsets: offsets } = entry
  if (!isStoredDtype(dtype)) {
    throw new TypeError(`${path}: ${name} has dtype ${describe(dtype)}, expected ${choices(Object.keys(dtypeBytes))}`)
  }
  if (!isSizes(shape)) {
    throw new RangeError(`${path}: ${name} has shape ${describe(shape)}, expected a list of integers >= 0`)
  }
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    throw new RangeError(`${path}: ${name} has data_offsets ${describe(offsets)}, expected [begin, end]`)
  }
  const start = dataStart + offsets[0]!
  const end = dataStart + offsets[1]!
  if (end > fileEnd) {
    throw new RangeError(`${path}: ${name} ends at byte ${end}, expected at most ${fileEnd}, the end of the file`)
  }
  const wanted = byteLength(dtype, shape)
  if (end - start !== wanted) {
    throw new RangeError(`${path}: ${name} is ${end - start} bytes, expected ${wanted} for ${dtype} [${shape}]`)
  }
  return { dtype, shape, start, end }
}

/** A key that stands twice in one object of JSON text: JSON.parse keeps the last in silence, the format forbids it. */
function repeatedKey(text: string): string | undefined {
  const objects: Set<string>[] = []
  for (const [token, key] of text.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")\s*:|"[^"\\]*(?:\\.[^"\\]*)*"|[{}]/g)) {
    if (token === '{') objects.push(new Set())
    else if (token === '}') objects.pop()
    else if (key !== undefined) {
      const name = JSON.parse(key) as string
      if (objects.at(-1)!.has(name)) return name
      objects.at(-1)!.add(name)
    }
  }
  return undefined
}

export interface TensorData {
  readonly dtype: StoredDtype
  readonly shape: readonly number[]
  /** Elements in C order, little-endian. */
  readonly data: Uint8Array
}

/** Writes a whole file or none: under a temporary name beside `path`, flushed, then renamed. */
export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorData>>,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  // Widest elements first: behind a header padded to 8 bytes, every tensor is aligned.
  const ordered = Object.entries(tensors).sort(([, a], [, b]) => dtypeBytes[b.dtype] - dtypeBytes[a.dtype])
  let end = 0
  const entries = ordered.map(([name, { dtype, shape, data }]) => {
    const wanted = byteLength(dtype, shape)
    if (data.byteLength !== wanted) {
      throw new RangeError(
        `writeSafetensors: ${name} is ${data.byteLength} bytes, expected ${wanted} for ${dtype} [${shape}]`,
      )
    }
    end += wanted
    return [name, { dtype, shape, data_offsets: [end - wanted, end] }]
  })
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries))) // whose keys may be any, as __proto__
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ')
  json.copy(padded)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(padded.length))

  const temporary = `${path}.${process.pid}.tmp`
  try {
    await writeFile(temporary, [length, padded, ...ordered.map(([, { data }]) => data)], { signal, flush: true })
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {})
    signal?.throwIfAborted()
    throw new Error(`${path}: cannot be written (${(error as NodeJS.ErrnoException).code})`, { cause: error })
  }
}

/** Inexact above 2^53, where no file ends. */
function byteLength(dtype: StoredDtype, shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, dtypeBytes[dtype] as number)
}

const isStoredDtype = (value: unknown): value is StoredDtype =>
  typeof value === 'string' && Object.hasOwn(dtypeBytes, value)

const isSizes = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
