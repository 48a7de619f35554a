// Every planted bug of test/simt/mutants must be caught: by a report of the emulator, by a wrong result, or because
// something is not refused as it must be, on one of several schedules. One that survives is a missing test.
// NEMOTRON_H_MUTANTS=1/3 plants the second of every three.

import { readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { basename, join } from 'node:path'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Act } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { device, empty, emulatedCublasLt } from '../device.ts'
import { cases } from '../ops/cases.ts'
import { refused } from '../ops/refused.ts'
import { check, checkMade, checkPlaces, checkRefused } from '../ops/run.ts'
import { Random } from '../ops/spec.ts'
import { compile, emulator, type Library, root } from './kernels.ts'
import type { Mutant } from './mutant.ts'

const seeds = [0, 1, 2, 3, 4, 5]

const [part, parts] = (process.env.NEMOTRON_H_MUTANTS ?? '0/1').split('/').map(Number) as [number, number]
const lists = emulator?.watches ? readdirSync(join(import.meta.dirname, 'mutants')).sort() : []
const all: [string, Mutant[]][] = await Promise.all(
  lists.map(
    async (path): Promise<[string, Mutant[]]> => [
      basename(path, '.ts'),
      ((await import(/* @vite-ignore */ `./mutants/${path}`)) as { mutants: Mutant[] }).mutants,
    ],
  ),
)
let count = 0
const mutants = all
  .map(([name, list]): [string, Mutant[]] => [name, list.filter(() => count++ % parts === part)])
  .filter(([, list]) => list.length > 0) // a suite without tests fails

/** Compilations, as many at a time as there are processors, in the order of the tests. */
class Compiler {
  #waiting: (() => Promise<void>)[] = []
  #running = 0

  add(mutant: Mutant): Promise<Library> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => plant(mutant).then(resolve, reject))
      this.#next()
    })
  }

  #next() {
    while (this.#running < availableParallelism() && this.#waiting.length > 0) {
      this.#running++
      void this.#waiting.shift()!().finally(() => {
        this.#running--
        this.#next()
      })
    }
  }
}

const placesOf = ({ file, find }: Mutant) => readFileSync(join(root, file), 'utf8').split(find).length - 1

async function plant(mutant: Mutant): Promise<Library> {
  const { file, find, replace, source = file } = mutant
  const text = readFileSync(join(root, file), 'utf8')
  if (placesOf(mutant) !== 1) throw new Error(`no longer applies: ${file}`)
  const planted = text.replace(find, () => replace)
  if (source === file) return compile(file, planted)
  return compile(source, readFileSync(join(root, source), 'utf8'), { file, text: planted })
}

/** What catches the mutant on this schedule; '' if nothing does. */
async function complaint(mutant: Mutant, library: Library): Promise<string> {
  if (mutant.check) return emulator!.check(library.path, mutant.check)
  const op = binding.ops.find(({ name }) => name === mutant.op)!
  const spec = cases[op.name]
  const acts: Act[] = op.params.some((p) => p.dtype === 'act' && p.kind === 'tensor') ? ['bf16', 'f32'] : ['f32']
  const tries: (() => Promise<unknown>)[] = []
  for (const name of mutant.cases ?? (mutant.refuses || mutant.places || mutant.made ? [] : Object.keys(spec.sizes))) {
    const [sizes, special] = [spec.sizes[name], spec.special?.[name]]
    if (!sizes && !special) throw new Error(`${op.name} has no case '${name}'`)
    const make = () => (sizes ? spec.make(sizes, new Random(1)) : special!(new Random(1)))
    for (const act of acts) tries.push(() => check(op, spec, make(), act))
  }
  for (const name of mutant.refuses ?? []) {
    const refusal = refused[op.name]?.[name]
    if (!refusal) throw new Error(`${op.name} has no refusal '${name}'`)
    for (const act of acts) tries.push(() => checkRefused(op, spec, refusal, act))
  }
  if (mutant.places) for (const act of acts) tries.push(() => checkPlaces(op, spec, act))
  if (mutant.made) for (const act of acts) tries.push(() => checkMade(op, spec, act))
  for (const attempt of tries) {
    binding.releaseCached(device) // memory that nobody has written, whatever was tried before
    const caught = await attempt().then(() => '', String)
    if (caught) return caught
  }
  return ''
}

const compiler = new Compiler()

afterEach(async () => {
  await empty('u8', [0])
    .read()
    .catch(() => {}) // what is still to be told of a bug is not for the next
  emulator?.useKernels()
  emulator?.seed(0)
  emulator?.clearTickets()
  binding.useKernels('measured')
})

// Only of the tests that are selected.
const libraries: (Promise<Library> | undefined)[][] = []
// biome-ignore lint/correctness/noEmptyPattern: vitest reads a fixture's needs from this pattern
beforeAll(({}, file) => {
  file.tasks.forEach((suite, i) => {
    if (suite.type !== 'suite') return
    libraries[i] = suite.tasks.map((test, j) => (test.mode === 'run' ? compiler.add(mutants[i]![1][j]!) : undefined))
    for (const library of libraries[i]) library?.catch(() => {}) // its own test tells
  })
})

mutants.forEach(([name, list], i) => {
  describe(name, () => {
    list.forEach((mutant, j) => {
      test(mutant.title, { timeout: 300_000 }, async () => {
        const library = await libraries[i]![j]!
        if (mutant.kernels === 'cublaslt') binding.useCublasLt(emulatedCublasLt!)
        if (mutant.kernels) binding.useKernels(mutant.kernels)
        if (mutant.op) emulator!.useKernels(library.path, library.symbols)
        let caught = ''
        for (const seed of seeds) {
          emulator!.seed(seed)
          caught = await complaint(mutant, library)
          if (caught) break
        }
        expect(caught, 'caught on no schedule').not.toBe('')
        if (mutant.caught) expect(caught).toMatch(mutant.caught)
      })
    })
  })
})

// Also those that are not planted now.
test.runIf(mutants.length > 0)('each has one place', () => {
  const places = all.flatMap(([name, list]) => list.map((mutant) => `${placesOf(mutant)}: ${name}, ${mutant.title}`))
  expect(places.filter((place) => !place.startsWith('1:'))).toEqual([])
})

if (mutants.length === 0) test.skip('need an addon of the emulator that watches accesses', () => {})
