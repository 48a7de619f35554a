// The demo model and what is expected of it, folders made from a model's, and a whole generation in one value.
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import { type LoadOptions, load as loadOn, type Model, type Piece } from '../dist/index.js'
import { device } from './device.ts'

export const demoFolder = new URL('../demo/model', import.meta.url).pathname
export const goldenFolder = (name: string) => new URL(`golden/${name}`, import.meta.url).pathname

export interface Expected {
  prompt: string
  ids: number[]
  greedy: number[]
  logprobs: number[]
  text: string
}
export const demoExpected: [Expected, Expected, Expected] = JSON.parse(
  readFileSync(join(demoFolder, 'expected.json'), 'utf8'),
)

const root = mkdtempSync(join(tmpdir(), 'nemotron-h-'))
afterAll(() => rmSync(root, { recursive: true }))

/** A folder with the files of `source`, but these: strings as they are, undefined left out, all else as JSON. */
export function folderLike(source: string, files: Record<string, unknown>): string {
  const folder = mkdtempSync(join(root, 'model-'))
  for (const name of readdirSync(source)) {
    if (!Object.hasOwn(files, name)) symlinkSync(join(source, name), join(folder, name))
  }
  for (const [name, content] of Object.entries(files)) {
    if (content === undefined) continue
    writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return folder
}

/** As load(), on the device under test, and in f32, which what is expected was computed in. */
export const load = (folder: string, options?: LoadOptions): Promise<Model> =>
  loadOn(folder, { device, dtype: 'f32', ...options })

export interface Generated extends Piece {
  logprobs: NonNullable<Piece['logprobs']>
  pieces: Piece[]
}

/** All pieces of a generation as one: texts, ids and log-probabilities joined, the rest from the last. */
export async function collect(generation: AsyncIterable<Piece>): Promise<Generated> {
  const pieces: Piece[] = []
  for await (const piece of generation) pieces.push(piece)
  return {
    ...pieces.at(-1)!,
    text: pieces.map(({ text }) => text).join(''),
    ids: pieces.flatMap(({ ids }) => ids),
    logprobs: pieces.flatMap(({ logprobs = [] }) => logprobs),
    pieces,
  }
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
