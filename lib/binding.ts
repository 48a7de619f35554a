/**
 * Finds and loads the native addon: the only file that does, and the only one that reads the environment.
 *
 * - NEMOTRON_H_THREADS: threads inside a CPU op (the number of cores)
 * - NEMOTRON_H_SIMD: portable, avx2 or avx512 (the best the processor has)
 * - NEMOTRON_H_KERNELS: which kernels GPUs run: measured (by default), own, portable or cublaslt
 * - NEMOTRON_H_OVERLAP: whether kernels of a GPU may begin while the one before them ends: on (by default) or off
 * - NEMOTRON_H_CUBLASLT: the path of the cuBLASLt to use (the system's)
 * - NEMOTRON_H_ADDON: the path of another build of the addon, as the tests of the GPU emulator have one
 */
import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Binding, BuildInfo } from '../binding.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function loadAddon(): Binding {
  try {
    const require = createRequire(import.meta.url)
    const { NEMOTRON_H_ADDON } = process.env
    return NEMOTRON_H_ADDON ? require(resolve(NEMOTRON_H_ADDON)) : require('node-gyp-build')(root)
  } catch (error) {
    throw new Error(explain(error as Error), { cause: error })
  }
}

/** What failed, and what can be done about it on this machine. */
function explain(error: Error): string {
  const { platform, arch } = process
  const advice =
    platform !== 'linux'
      ? 'nemotron-h runs on Linux (also under WSL 2)'
      : error.message.startsWith('No native build')
        ? 'install again with scripts enabled (npm install, without --ignore-scripts); building needs CMake 3.24 and a C++20 compiler'
        : 'the binary does not fit this system: build it here with `npm_config_build_from_source=true npm rebuild nemotron-h`, in a checkout with `npm run compile`'
  return `nemotron-h: the native addon for ${platform}-${arch} did not load\n  ${error.message.split('\n')[0]}\n  ${advice}`
}

export const binding: Binding = loadAddon()

type Kernels = Parameters<Binding['useKernels']>[0]

const { NEMOTRON_H_THREADS, NEMOTRON_H_SIMD, NEMOTRON_H_KERNELS, NEMOTRON_H_OVERLAP, NEMOTRON_H_CUBLASLT } = process.env
if (NEMOTRON_H_THREADS !== undefined)
  setThreads(Number(NEMOTRON_H_THREADS || Number.NaN), 'NEMOTRON_H_THREADS', NEMOTRON_H_THREADS)
if (NEMOTRON_H_SIMD !== undefined && !binding.useSimd(NEMOTRON_H_SIMD as BuildInfo['simd'])) {
  throw new Error(
    `NEMOTRON_H_SIMD is '${NEMOTRON_H_SIMD}', expected portable, avx2 or avx512 as this processor has them`,
  )
}
if (NEMOTRON_H_CUBLASLT !== undefined) {
  setting('NEMOTRON_H_CUBLASLT', NEMOTRON_H_CUBLASLT, () => binding.useCublasLt(NEMOTRON_H_CUBLASLT))
}
if (NEMOTRON_H_KERNELS !== undefined) {
  setting('NEMOTRON_H_KERNELS', NEMOTRON_H_KERNELS, () => binding.useKernels(NEMOTRON_H_KERNELS as Kernels))
}
if (NEMOTRON_H_OVERLAP !== undefined) {
  setting('NEMOTRON_H_OVERLAP', NEMOTRON_H_OVERLAP, () => binding.useOverlap(NEMOTRON_H_OVERLAP as 'on'))
}

function setting(name: string, value: string, apply: () => void) {
  try {
    apply()
  } catch (error) {
    throw new Error(`${name} is '${value}': ${(error as Error).message}`)
  }
}

/** How many threads work inside one CPU op, in this process. */
export function setThreads(count: number, name = 'setThreads: count', found: unknown = count): void {
  if (!Number.isInteger(count) || count < 1 || count > 1024) {
    throw new RangeError(
      `${name} is ${typeof found === 'string' ? `'${found}'` : found}, expected an integer from 1 to 1024`,
    )
  }
  binding.setThreads(count)
}
