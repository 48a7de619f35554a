// Compiles kernels apart from the addon, into libraries that its emulator runs: see binding.simt.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { binding } from '../../dist/binding.js'

/** The emulator's exports (csrc/binding/simt.cc). */
export interface Emulator {
  /** Chooses one of the executions that a GPU may show. */
  seed(seed: number): void
  /** Host threads for the blocks of a launch; 0: one for each processor. */
  threads(count: number): void
  /** What blocks take turns by goes back to 0, wherever a kernel with a bug has left it. */
  clearTickets(): void
  /** Calls of our functions of these names go to the library's; without arguments, back to ours. */
  useKernels(path?: string, symbols?: string[]): void
  /** What a library's check finds wrong; '' if nothing. */
  check(path: string, name: string): string
  /** Whether the build watches the kernels' accesses. */
  watches: boolean
}

export const emulator = (binding as { simt?: Emulator }).simt

export const root = fileURLToPath(new URL('../..', import.meta.url))
const folder = join(root, 'build/simt-kernels')
const run = promisify(execFile)
const include = process.env.CUDA_HOME ? join(process.env.CUDA_HOME, 'include') : '/usr/local/cuda/include'
const flags = [
  ...['-std=c++20', '-O1', '-g1', '-w', '-fPIC', '-fno-strict-aliasing', '-ffp-contract=off'],
  ...['-fsanitize=thread', '--param=tsan-distinguish-volatile=1'],
  ...['-DNEMOTRON_H_SIMT', `-I${join(root, 'csrc')}`, `-I${join(root, 'test/simt')}`, '-isystem', include],
]
const headers = ['csrc', 'test/simt'].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(h|cuh|def)$/.test(name))
    .sort()
    .map((name) => readFileSync(join(root, folder, name))),
)
const everyHeader = createHash('sha256').update(Buffer.concat(headers)).update(flags.join(' ')).digest()

// Headers take more time than a kernel, so they are compiled once: all of them for versions of kernels, those of others
// for versions of ours.
const allHeaders = '#include "cuda/batch.cuh"\n#include "ops.h"\n'
const foreignHeaders = ['cuda_bf16.h', 'cuda_fp16.h', 'cuda_fp8.h', 'algorithm', 'functional', 'string', 'vector']
  .map((name) => `#include <${name}>\n`)
  .join('')
const precompiled = new Map<string, Promise<string>>()

async function precompile(text: string): Promise<string> {
  const path = join(folder, `${createHash('sha256').update(everyHeader).update(text).digest('hex').slice(0, 24)}.h`)
  if (!existsSync(`${path}.gch`)) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(path, text)
    const own = `${path}.gch.${process.pid}`
    await run('g++', [...flags, '-x', 'c++-header', path, '-o', own])
    renameSync(own, `${path}.gch`)
  }
  return path
}

function headersOf(text: string): Promise<string> {
  const path = precompiled.get(text) ?? precompile(text)
  precompiled.set(text, path)
  return path
}

/** A library that was compiled, and the functions it defines. */
export interface Library {
  path: string
  symbols: string[]
}

/**
 * The library of a .cu file of the repository, of which `text` is a version. `replaced`: an included header in another
 * version. Kept under build/ by its contents.
 */
export async function compile(file: string, text: string, replaced?: { file: string; text: string }): Promise<Library> {
  const key = createHash('sha256').update(everyHeader).update(file).update(text)
  if (replaced) key.update(replaced.file).update(replaced.text)
  const path = join(folder, `${key.digest('hex').slice(0, 24)}.so`)
  if (!existsSync(path)) {
    const own = `${path}.${process.pid}` // another run may compile the same
    mkdirSync(own, { recursive: true })
    writeFileSync(`${own}/kernel.cu`, `# 1 "${file}"\n${text}`)
    const first = ['-include', await headersOf(replaced ? foreignHeaders : allHeaders)]
    if (replaced) {
      const header = join(own, replaced.file.replace('csrc/', ''))
      mkdirSync(dirname(header), { recursive: true })
      writeFileSync(header, replaced.text)
      first.push(`-I${own}`)
    }
    const near = `-iquote${join(root, dirname(file))}`
    await run('g++', [...first, near, ...flags, '-x', 'c++', '-c', `${own}/kernel.cu`, '-o', `${own}/kernel.o`])
    await run('g++', ['-shared', '-Wl,-Bsymbolic', `${own}/kernel.o`, '-o', `${own}/kernel.so`])
    renameSync(`${own}/kernel.so`, path)
    rmSync(own, { recursive: true })
  }
  const { stdout } = await run('nm', ['-D', '--defined-only', path])
  const symbols = stdout.split('\n').flatMap((line) => / T (\S+)$/.exec(line)?.[1] ?? [])
  return { path, symbols }
}
