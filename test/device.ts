// Where tests run: on NEMOTRON_H_TEST_DEVICE, or on the CPU. Everything here is for any device; a test that belongs to one
// asks which it is.
import { dirname, join, resolve } from 'node:path'
import { afterEach } from 'vitest'
import type { Binding } from '../binding.js'
import { binding } from '../dist/binding.js'

/** What the emulator's test build of the addon has beside the rest. */
interface Simt {
  /** Chooses one of the executions that a GPU may show: even ones finish asynchronous work late, odd ones at random. */
  seed(seed: number): void
  /** Whether the build watches the kernels' accesses; one under AddressSanitizer does not. */
  watches: boolean
}

/** A way of running an op. */
export interface Way {
  name: string
  use(): void
}

export const device = process.env.NEMOTRON_H_TEST_DEVICE ?? 'cpu'
export const onCpu = device === 'cpu'
/** What no machine has: the 100th GPU. */
export const missing = `${onCpu ? 'cuda' : device.split(':')[0]}:99`
/** Present where the device is emulated, thousands of times slower than any other. */
export const simt = onCpu ? undefined : (binding as Binding & { simt?: Simt }).simt

/** The emulator's cuBLASLt (simt/cublaslt.cc), built beside its addon. */
export const emulatedCublasLt = simt && join(dirname(resolve(process.env.NEMOTRON_H_ADDON!)), 'libcublasLt.so')

const simds = (['portable', 'avx2', 'avx512'] as const).filter((name) => onCpu && binding.useSimd(name))
const allThreads = binding.buildInfo().threads
const seeds = simt?.watches ? [0, 1, 2] : [0]
const repeats = Number(process.env.NEMOTRON_H_TEST_REPEATS ?? 100)

/** Ways that may round differently, the best one last. */
export const implementations: Way[] = onCpu
  ? simds.map((name) => ({ name, use: () => void binding.useSimd(name) }))
  : [{ name: device, use: () => simt?.seed(seeds[0]!) }]

/** The kernels of an op that has several, each of which may round differently: a GPU's best, and those for every GPU. */
export const kernels: Way[] = onCpu
  ? implementations
  : (['own', 'portable'] as const).map((name) => ({
      name,
      use() {
        simt?.seed(seeds[0]!)
        binding.useKernels(name)
      },
    }))
afterEach(() => {
  if (!onCpu) binding.useKernels('measured')
})

/** Ways that give the same bits as the first; what none of them does is left as it was. */
export const schedules: Way[] = onCpu
  ? [1, 3, allThreads].map((count) => ({ name: `${count} threads`, use: () => binding.setThreads(count) }))
  : simt
    ? seeds.slice(1).map((seed) => ({ name: `seed ${seed}`, use: () => simt.seed(seed) }))
    : Array.from({ length: repeats }, (_, i) => ({ name: `run ${i + 2}`, use() {} }))

/** As the binding's, on the device under test. */
export const tensor: Binding['tensor'] = (data, dtype, shape, on = device) => binding.tensor(data, dtype, shape, on)
export const empty: Binding['empty'] = (dtype, shape, on = device) => binding.empty(dtype, shape, on)

/** Bytes on the device under test. */
export const memory = () => binding.memory(device)
