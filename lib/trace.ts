/** What ran when, on a device and in JavaScript's thread, on one time line. */
import { binding } from './binding.js'
import { device as deviceOf } from './device.js'
import { empty } from './tensor.js'

export interface Span {
  /** Where it ran: the device's name, 'launch' (the thread that gives work to a GPU), or 'JavaScript'. */
  thread: string
  name: string
  /** Microseconds, on the clock of process.hrtime(). */
  start: number
  /** Microseconds. */
  duration: number
}

export interface Traced<T> {
  result: T
  /** By thread, each in the order of their starts. */
  spans: Span[]
}

let recorded: Span[] | undefined

/**
 * Runs `fn` and tells when each op ran on `device`, and what JavaScript's thread did beside. Recorded graphs run op by op
 * meanwhile. On a GPU an op's time is from one event on its stream to another, and includes a microsecond or two for
 * those; all of an op's kernels are one span.
 * @throws what `fn` throws; Error where the device is traced already
 */
export async function trace<T>(device: string, fn: () => Promise<T>): Promise<Traced<T>> {
  const { name } = deviceOf(device)
  binding.startTrace(name)
  const spans: Span[] = []
  recorded = spans
  try {
    const result = await fn()
    using nothing = empty('u8', [0], name)
    await nothing.read() // all that was queued
    const { ran, launched } = binding.stopTrace(name)
    const on = (thread: string) => (span: Omit<Span, 'thread'>) => ({ thread, ...span })
    return { result, spans: [...spans, ...launched.map(on('launch')), ...ran.map(on(name))] }
  } catch (error) {
    binding.stopTrace(name)
    throw error
  } finally {
    recorded = undefined
  }
}

/** Runs `fn`, a part of what JavaScript's thread does, which has this name in a trace. */
export function traced<T>(name: string, fn: () => T): T {
  if (!recorded) return fn()
  const begin = now()
  try {
    return fn()
  } finally {
    recorded?.push({ thread: 'JavaScript', name, start: begin, duration: now() - begin })
  }
}

/** Spans in Chrome's Trace Event Format, for chrome://tracing and ui.perfetto.dev. */
export function chromeTrace(spans: readonly Span[]): string {
  const threads = [...new Set(spans.map(({ thread }) => thread))]
  const origin = spans.reduce((least, { start }) => Math.min(least, start), Infinity)
  const names = threads.map((name, tid) => ({ ph: 'M', name: 'thread_name', pid: 1, tid, args: { name } }))
  const events = spans.map(({ thread, name, start, duration }) => ({
    ph: 'X',
    name,
    pid: 1,
    tid: threads.indexOf(thread),
    ts: round(start - origin),
    dur: round(duration),
  }))
  return JSON.stringify({ traceEvents: [...names, ...events], displayTimeUnit: 'ms' })
}

const now = () => Number(process.hrtime.bigint()) / 1000
const round = (microseconds: number) => Math.round(1000 * microseconds) / 1000
