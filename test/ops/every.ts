// The tests of every op of the table, on any device: against its definition, in every implementation; with the same bits
// through views, wherever its tensors begin, into given results, on every schedule; and every argument it must refuse.
// Nothing here knows one op from another. NEMOTRON_H_OPS=1/3 tests the second of every three.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Act, DType, OpInfo, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { device, empty, implementations, schedules, simt } from '../device.ts'
import { cases } from './cases.ts'
import { refused } from './refused.ts'
import {
  type Argument,
  type Call,
  check,
  checkMade,
  checkOf,
  checkPlaces,
  checkRefused,
  columns,
  dtypeOf,
  expectSame,
  poisoned,
  run,
  upload,
} from './run.ts'
import { type Inputs, Random } from './spec.ts'

/** The ops of Mamba-2 and attention. */
export const ofSequences = (name: OpInfo['name']) => /^(causalConv1d|ssm|mamba2|rope|kvAppend|attention)/.test(name)

const [part, parts] = (process.env.NEMOTRON_H_OPS ?? '0/1').split('/').map(Number) as [number, number]

/** Tests the ops that `chosen` says. */
export function testOps(chosen: (name: OpInfo['name']) => boolean): void {
  for (const op of binding.ops.filter(({ name }) => chosen(name)).filter((_, i) => i % parts === part)) {
    const spec = cases[op.name]
    const acts: Act[] = op.params.some((p) => p.dtype === 'act' && p.kind === 'tensor') ? ['f32', 'bf16'] : ['f32']
    const all: [string, () => Inputs][] = [
      ...Object.entries(spec.sizes).map(([name, sizes]): [string, () => Inputs] => [
        name,
        () => spec.make(sizes, new Random(1)),
      ]),
      ...Object.entries(spec.special ?? {}).map(([name, make]): [string, () => Inputs] => [
        name,
        () => make(new Random(1)),
      ]),
    ]

    describe(`${op.name} on ${device}`, () => {
      for (const [name, make] of all) {
        for (const act of spec.onlyBf16?.(name) ? (['bf16'] as const) : acts) {
          test(`${name}, ${act}`, async () => {
            const inputs = make()
            const checked = checkOf(op, spec, inputs, act)
            for (const implementation of spec.ways?.(inputs) ?? implementations) {
              implementation.use()
              const want = await checked()
              for (const { name, use } of schedules) {
                use()
                const { written } = await run(op, inputs, { act, given: poisoned(op, want) })
                expectSame(written, want, name)
              }
            }
          })
        }
      }

      test('random sizes', async () => {
        await fc.assert(
          fc.asyncProperty(spec.arbitrary, fc.integer(), async (sizes, seed) => {
            await check(op, spec, spec.make(sizes, new Random(seed)), acts[seed & 1] ?? 'f32')
          }),
          { numRuns: simt ? 8 : 25, seed: 1 },
        )
      })

      const viewed = all.filter(([name], i) => i === 0 || spec.placed?.includes(name))
      test.each(acts)('the same bits through views, %s', async (act) => {
        for (const [, make] of viewed) {
          const inputs = make()
          const want = await run(op, inputs, { act })
          const places = Object.fromEntries(op.params.filter((p) => p.view).map((p) => [p.name, columns(2, 3)]))
          expectSame((await run(op, inputs, { act, places })).written, want.written, 'through views')
        }
      })

      test.each(acts)('the same bits with and without packs, %s', async (act) => {
        await checkPlaces(op, spec, act)
      })

      test.skipIf(simt && !simt.watches).each(acts)('the same bits of what the op before makes, %s', async (act) => {
        for (const { use } of implementations) {
          use()
          await checkMade(op, spec, act)
        }
      })

      describe('refuses', () => {
        const inputs = all[0]![1]()
        const params = op.params.filter((p) => !p.out)
        const args = () =>
          params.map((p): Argument => {
            const value = inputs[p.name]
            return value !== undefined && typeof value === 'object' ? upload(value, dtypeOf(p, inputs, 'f32')) : value
          })
        const callWith = (i: number, wrong: unknown) => () => {
          const list = args()
          list[i] = (typeof wrong === 'function' ? wrong(list[i]) : wrong) as Argument
          return (binding[op.name] as unknown as Call)(...list)
        }
        params.forEach((p, i) => {
          const said =
            (error: typeof TypeError | typeof RangeError | typeof Error, text: string) => (act: () => unknown) => {
              expect(act).toThrow(error)
              expect(act).toThrow(`${op.name}: ${text}`)
            }
          test(`a wrong ${p.name}`, () => {
            if (p.kind === 'dtype') {
              said(TypeError, '')(callWith(i, 'i32'))
              return
            }
            said(TypeError, `${p.name} is 'seven', expected`)(callWith(i, 'seven'))
            if (p.kind === 'float') said(TypeError, `${p.name} is NaN, expected a number`)(callWith(i, Number.NaN))
            if (p.kind === 'int') said(TypeError, `${p.name} is 1.5, expected an integer`)(callWith(i, 1.5))
            if (p.kind !== 'tensor' || inputs[p.name] === undefined) return
            const disposed = (t: Tensor) => {
              t.dispose()
              return t
            }
            said(RangeError, `${p.name} is [`)(callWith(i, (t: Tensor) => empty(t.dtype, [...t.shape, 1].slice(-5))))
            const other: DType = p.dtype === 'i32' ? 'f32' : 'i32'
            said(TypeError, `${p.name} is ${other}, expected`)(callWith(i, (t: Tensor) => empty(other, t.shape)))
            said(Error, `${p.name} is disposed`)(callWith(i, disposed))
            const tall = args()[i] as Tensor
            if (!p.view && tall.shape.length === 2 && tall.shape[0]! > 1) {
              const apart = (t: Tensor) => empty(t.dtype, [t.shape[0]!, t.shape[1]! + 1]).columns(0, t.shape[1]!)
              said(RangeError, `${p.name} is a view whose rows lie apart, expected a dense tensor`)(callWith(i, apart))
            }
          })
        })
        for (const [name, refusal] of Object.entries(refused[op.name] ?? {})) {
          test.each(acts)(`${name}, %s`, async (act) => {
            for (const { use } of [...implementations, ...schedules]) {
              use()
              await checkRefused(op, spec, refusal, act)
            }
          })
        }
        test('too many arguments', () => {
          const call = binding[op.name] as unknown as Call
          const many = [...args(), ...op.params.filter((p) => p.out).map(() => undefined), undefined]
          expect(() => call(...many)).toThrow(
            `${op.name}: takes at most ${op.params.length} arguments, got ${many.length}`,
          )
        })
      })
    })
  }
}
