/** Devices: where tensors are, and where ops run on them. */
import { inspect } from 'node:util'
import type { Graph, MemoryInfo } from '../binding.js'
import { binding } from './binding.js'

export type { Graph, MemoryInfo } from '../binding.js'

Object.defineProperty(binding.Graph.prototype, Symbol.dispose, { value: binding.Graph.prototype.dispose })

/** The CPU or a GPU. Each has a queue of its own, and memory that lives as long as its tensors. */
export class Device {
  /** Made by device() and devices(). */
  constructor(
    /** 'cpu', or 'cuda:0' for the first GPU. */
    readonly name: string,
  ) {}

  /** Bytes: that tensors hold, that are kept for the next ones, and that the system can still give. */
  memory(): MemoryInfo {
    return binding.memory(this.name)
  }

  /** Gives the memory that is kept for the next tensors back to the system, once the work queued before is done. */
  releaseCached(): void {
    binding.releaseCached(this.name)
  }

  /**
   * Records the ops that `fn` calls on this device instead of running them; graph.replay() queues them all at once. They
   * keep the memory they have, also of tensors disposed since. Results hold something after the first replay.
   * @throws Error where `fn` makes tensors from data or reads some, or captures itself; and what `fn` throws
   */
  capture(fn: () => void): Graph {
    return binding.capture(this.name, fn)
  }
}

// Not a method: declarations would need Node.js's types.
Object.defineProperty(Device.prototype, inspect.custom, {
  value(this: Device) {
    return `Device ${this.name}`
  },
})

/**
 * The device of that name: 'cpu', 'cuda' (the first GPU) or 'cuda:N'.
 * @throws TypeError for a name that is none; Error where there is no such GPU or it cannot be used, saying why
 */
export function device(name: string): Device {
  using nothing = binding.empty('u8', [0], name)
  return new Device(nothing.device)
}

/** All devices that can be used here: the CPU, and GPUs of compute capability 8.0 or newer. */
export function devices(): Device[] {
  return binding.devices().map((name) => new Device(name))
}
