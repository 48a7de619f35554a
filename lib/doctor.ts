/**
 * What a machine has for running models, and what to do about what it lacks. Pure: the command of that name looks, this
 * concludes. CUDA versions are '12.4'; kernels need compute capability 8.0.
 */
import type { BuildInfo, GpuDevice, Gpus } from '../binding.js'

/** What the native addon says of itself. */
export interface Addon {
  build: BuildInfo
  /** null: built without CUDA. */
  gpus: Gpus | null
  /** What making a tensor on device 'cuda', the first GPU, throws if it throws. */
  refusal?: string | undefined
}

/** What was seen. */
export interface Probe {
  version: string
  node: string
  /** 'linux-x64' */
  platform: string
  cores: number
  /** Bytes. */
  memory: { total: number; free: number }
  addon: Addon | { error: string }
  /** The version of NVIDIA's kernel module, where it is loaded. */
  kernelDriver: string | undefined
}

export interface Report extends Probe {
  /** Whether models run on the CPU, and on a GPU. */
  ready: { cpu: boolean; cuda: boolean }
  /** What keeps a device from being used and what to do, a sentence or two each. */
  advice: string[]
}

export function diagnose(probe: Probe): Report {
  const { addon, kernelDriver } = probe
  if ('error' in addon) return { ...probe, ready: { cpu: false, cuda: false }, advice: [addon.error] }
  const problems = addon.gpus ? gpuProblems(addon.gpus, kernelDriver) : [notBuilt(kernelDriver)]
  const usable = addon.gpus?.devices.findIndex((device) => deviceProblem(device) === undefined) ?? -1
  const refused = usable >= 0 && addon.refusal !== undefined
  if (refused) problems.push(usable === 0 ? `${addon.refusal}.` : `GPU ${usable} can be used: --device cuda:${usable}.`)
  return { ...probe, ready: { cpu: true, cuda: usable >= 0 && !refused }, advice: problems }
}

const rebuild = '`npm_config_build_from_source=true npm rebuild nemotron-h`, in a checkout `npm run compile`'
const drivers = 'https://www.nvidia.com/drivers'

function notBuilt(kernelDriver: string | undefined): string {
  const gpu = kernelDriver === undefined ? '' : `NVIDIA's driver ${kernelDriver} is loaded, but `
  return `${gpu}the addon was built without CUDA. To use a GPU, install the CUDA toolkit, 12.4 or newer (https://developer.nvidia.com/cuda-downloads), so that nvcc is in PATH or CUDA_HOME is set, then ${rebuild}.`
}

function gpuProblems({ driver, runtime, error, devices }: Gpus, kernelDriver: string | undefined): string[] {
  if (driver === null && kernelDriver !== undefined) {
    return [
      `NVIDIA's kernel module ${kernelDriver} is loaded, but libcuda.so.1 is not found. In a container, start it with its GPUs (docker run --gpus all); elsewhere, install the driver whole: ${drivers}.`,
    ]
  }
  if (driver === null) return [`No NVIDIA driver is found. To use a GPU, install one for CUDA ${runtime}: ${drivers}.`]
  if (error?.startsWith('cudaErrorInsufficientDriver')) {
    const older = atLeast(driver, '12.4') ? `, or build with the CUDA toolkit ${driver}: ${rebuild}` : ''
    return [`The NVIDIA driver serves CUDA ${driver}, and this build needs ${runtime}. Update it: ${drivers}${older}.`]
  }
  if (error?.startsWith('cudaErrorNoDevice') || (error === undefined && devices.length === 0)) {
    return [
      'The NVIDIA driver sees no GPU. See what `nvidia-smi` lists, whether CUDA_VISIBLE_DEVICES hides it, and in a container whether it was started with its GPUs (docker run --gpus all).',
    ]
  }
  if (error !== undefined) return [`The CUDA runtime failed with ${error}. See whether \`nvidia-smi\` works.`]
  return devices.map((device, i) => [i, deviceProblem(device)]).flatMap(([i, p]) => (p ? [`GPU ${i} ${p}`] : []))
}

function deviceProblem({ computeCapability, error }: GpuDevice): string | undefined {
  if (error !== undefined) {
    return `cannot be used: ${error}. \`nvidia-smi\` tells which processes hold it, and its compute mode.`
  }
  if (atLeast(computeCapability, '8.0')) return undefined
  return `has compute capability ${computeCapability}, and kernels need 8.0 (Ampere) or newer.`
}

/** Whether version `a` is `b` or newer. */
function atLeast(a: string, b: string): boolean {
  return a.localeCompare(b, 'en', { numeric: true }) >= 0
}

export function reportLines({ version, node, platform, cores, memory, addon, kernelDriver, ready, advice }: Report) {
  const free = (bytes: number, total: number) => `${gib(bytes)} of ${gib(total)} GiB free`
  const lines = [`nemotron-h ${version}, Node.js ${node}, ${platform}`]
  if ('build' in addon) {
    const { build, gpus } = addon
    const driver = [
      gpus?.driver ? `driver for CUDA ${gpus.driver}` : 'no driver',
      ...(kernelDriver === undefined ? [] : [`kernel module ${kernelDriver}`]),
    ].join(', ')
    lines.push(
      `CPU: ${build.threads} threads on ${cores} cores, ${build.simd}; memory ${free(memory.free, memory.total)}`,
    )
    lines.push(gpus ? `CUDA: toolkit ${build.cuda}, runtime ${gpus.runtime}; ${driver}` : 'CUDA: not built')
    if (gpus) lines.push(`cuBLASLt: ${gpus.cublasLt ?? 'not found, and not needed'}`)
    for (const [i, gpu] of (gpus?.devices ?? []).entries()) {
      const used = gpu.error === undefined ? free(gpu.freeBytes, gpu.totalBytes) : gpu.error
      lines.push(`GPU ${i}: ${gpu.name}, compute capability ${gpu.computeCapability}; memory ${used}`)
    }
    if (gpus?.error !== undefined) lines.push(`GPU: none; ${gpus.error}`)
  }
  const yes = (is: boolean) => (is ? 'yes' : 'no')
  lines.push(`ready: --device cpu ${yes(ready.cpu)}, --device cuda ${yes(ready.cuda)}`)
  return [...lines, ...(advice.length > 0 ? [''] : []), ...advice]
}

const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1)
