// What a bench ran on, for its results.
import { cpus } from 'node:os'
import { binding } from '../dist/binding.js'

/** Of a device by its name: the processor, and of a GPU its name. */
export function machineOf(device) {
  const gpu = /^cuda(?::(\d+))?$/.exec(device)
  return {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    gpu: gpu ? binding.gpus()?.devices[Number(gpu[1] ?? 0)]?.name : undefined,
    node: process.version,
  }
}
