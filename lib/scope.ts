/** scope(fn): the lifetime of intermediate tensors. */
import { binding } from './binding.js'
import { Tensor } from './tensor.js'

/**
 * Runs `fn`, then disposes every tensor made meanwhile but those in its result (a tensor, or an array or
 * plain object that holds some). Work already queued is not affected, so `fn` need not wait.
 * Scopes nest. `fn` must be synchronous: ops are, and while an asynchronous function waited, the tensors of others
 * would land in its scope.
 * @throws TypeError when `fn` gives a promise
 */
export function scope<T>(fn: () => T): T {
  binding.enterScope()
  const keep: Tensor[] = []
  try {
    const result = fn()
    if (result instanceof Promise) {
      result.catch(() => {})
      throw new TypeError('scope: fn gave a promise, expected a synchronous function')
    }
    collect(result, keep)
    return result
  } finally {
    binding.leaveScope(keep)
  }
}

function collect(value: unknown, into: Tensor[]): void {
  if (value instanceof Tensor) into.push(value)
  else if (Array.isArray(value)) for (const item of value) collect(item, into)
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    for (const item of Object.values(value)) collect(item, into)
  }
}
