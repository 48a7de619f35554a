// Every op of the table, on every device: against its definition, for every instruction set, through views and
// given results, whatever the threads; and every argument it must refuse. Nothing here knows one op from another.
import fc from 'fast-check'
import { afterAll, describe, expect, test } from 'vitest'
import type { Act, DType, OpInfo, ParamInfo, Tensor } from '../binding.js'
import { binding } from '../dist/binding.js'
import { cases } from './ops/cases.ts'
import { type Expected, type Inputs, type Nd, Random, type Spec } from './ops/spec.ts'

type Argument = Tensor | number | boolean | string | undefined
type Call = (...args: Argument[]) => Tensor | Tensor[] | undefined

const simds = (['portable', 'avx2', 'avx512'] as const).filter((name) => binding.useSimd(name))
const best = simds.at(-1)!
const threads = binding.buildInfo().threads
afterAll(() => {
  binding.useSimd(best)
  binding.setThreads(threads)
})

const unitRoundoff: Record<DType, number> = {
  f32: 2 ** -24,
  bf16: 2 ** -8,
  f16: 2 ** -11,
  e4m3: 2 ** -4,
  e5m2: 2 ** -3,
  i32: 0,
  u8: 0,
}
// Half the distance between the smallest numbers: what rounding may add near zero.
const smallest: Record<DType, number> = {
  f32: 2 ** -150,
  bf16: 2 ** -134,
  f16: 2 ** -25,
  e4m3: 2 ** -10,
  e5m2: 2 ** -17,
  i32: 0,
  u8: 0,
}
const defaults: Record<string, DType> = { real: 'f32', fp8: 'e4m3' }

/** The element type of a parameter when activations are `act`; inputs may say otherwise as `name.dtype`. */
function dtypeOf(p: ParamInfo, inputs: Inputs, act: Act): DType {
  if (p.dtypeFrom) return inputs[p.dtypeFrom] as DType
  const said = inputs[`${p.name}.dtype`] as DType | undefined
  return said ?? (p.dtype === 'act' ? act : (defaults[p.dtype!] ?? (p.dtype as DType)))
}

function upload(value: Nd, dtype: DType): Tensor {
  const data =
    dtype === 'i32'
      ? Int32Array.from(value.data)
      : dtype === 'u8'
        ? Uint8Array.from(value.data)
        : Float32Array.from(value.data)
  return binding.tensor(data, dtype, value.shape)
}

/** The same elements as columns of a wider matrix whose other columns are NaN. */
function uploadView(value: Nd, dtype: DType): Tensor {
  const [rows, width] = [value.shape[0]!, value.shape.slice(1).reduce((n, size) => n * size, 1)]
  const wide = new Float64Array(rows * (width + 5)).fill(Number.NaN)
  for (let r = 0; r < rows; r++) wide.set(value.data.subarray(r * width, (r + 1) * width), r * (width + 5) + 2)
  return upload({ shape: [rows, width + 5], data: wide }, dtype)
    .columns(2, 2 + width)
    .reshape(value.shape)
}

interface Options {
  act: Act
  views?: boolean
  given?: Record<string, Tensor>
}

/** Runs an op on fresh tensors; gives what it got (as its dtypes keep it) and the bits of all it wrote. */
async function run(op: OpInfo, inputs: Inputs, { act, views, given }: Options) {
  const args: Argument[] = []
  const kept: Inputs = { ...inputs }
  for (const p of op.params.filter((p) => !p.out)) {
    const value = inputs[p.name]
    if (value === undefined || typeof value !== 'object') {
      args.push(value)
      continue
    }
    const t =
      views && p.view && value.shape.length > 1
        ? uploadView(value, dtypeOf(p, inputs, act))
        : upload(value, dtypeOf(p, inputs, act))
    kept[p.name] = { shape: value.shape, data: Float64Array.from(await t.read()) }
    args.push(t)
  }
  const outs = op.params.filter((p) => p.out)
  const result = (binding[op.name] as unknown as Call)(...args, ...outs.map((p) => given?.[p.name]))
  const results = Array.isArray(result) ? result : result ? [result] : []
  const written: Record<string, Tensor> = Object.fromEntries(outs.map((p, i) => [p.name, results[i]!]))
  op.params.forEach((p, i) => {
    if (p.mut) written[p.name] = args[i] as Tensor
  })
  const values: Record<string, { tensor: Tensor; data: ArrayLike<number>; bits: Uint8Array }> = {}
  for (const [name, t] of Object.entries(written))
    values[name] = { tensor: t, data: await t.read(), bits: await t.readBytes() }
  return { kept, values }
}

function compare(name: string, dtype: DType, got: ArrayLike<number>, { value, error }: Expected) {
  expect(got.length, `${name}: elements`).toBe(value.data.length)
  for (let i = 0; i < got.length; i++) {
    const want = value.data[i]!
    const miss = typeof error === 'number' ? error : error[i]!
    const allowed =
      miss + unitRoundoff[dtype] * (Math.abs(want) + miss) + (miss || !Number.isInteger(want) ? smallest[dtype] : 0)
    const ok = Object.is(got[i], want) || Math.abs(got[i]! - want) <= allowed
    if (!ok) expect.fail(`${name}[${i}] is ${got[i]}, expected ${want} +- ${allowed}`)
  }
}

async function check(op: OpInfo, spec: Spec, inputs: Inputs, act: Act) {
  const { kept, values } = await run(op, inputs, { act })
  for (const [name, expected] of Object.entries(spec.reference(kept))) {
    const { tensor, data } = values[name]!
    expect(tensor.shape, `${name}: shape`).toEqual(expected.value.shape)
    compare(name, tensor.dtype, data, expected)
  }
  return values
}

for (const op of binding.ops) {
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

  describe(op.name, () => {
    for (const [name, make] of all) {
      for (const act of acts) {
        test(`${name}, ${act}`, async () => {
          for (const simd of simds) {
            binding.useSimd(simd)
            await check(op, spec, make(), act)
          }
        })
      }
    }

    test('random sizes', async () => {
      binding.useSimd(best)
      await fc.assert(
        fc.asyncProperty(spec.arbitrary, fc.integer(), async (sizes, seed) => {
          await check(op, spec, spec.make(sizes, new Random(seed)), acts[seed & 1] ?? 'f32')
        }),
        { numRuns: 25, seed: 1 },
      )
    })

    test('the same bits through views, into given results, on any number of threads', async () => {
      const inputs = all[0]![1]()
      const want = (await run(op, inputs, { act: 'f32' })).values
      const bits = (values: typeof want) => Object.fromEntries(Object.entries(values).map(([k, v]) => [k, v.bits]))
      expect(bits((await run(op, inputs, { act: 'f32', views: true })).values)).toEqual(bits(want))

      const given = Object.fromEntries(
        Object.entries(want)
          .filter(([name]) => op.params.some((p) => p.out && p.name === name))
          .map(([name, v]) => [
            name,
            binding.tensor(new Uint8Array(v.bits.length).fill(0xff), v.tensor.dtype, v.tensor.shape),
          ]),
      )
      const into = (await run(op, inputs, { act: 'f32', given })).values
      expect(bits(into)).toEqual(bits(want))
      for (const [name, t] of Object.entries(given)) expect(into[name]!.tensor, name).toBe(t)

      for (const count of [1, 3]) {
        binding.setThreads(count)
        for (const [, make] of all) {
          const alone = await run(op, make(), { act: 'f32' })
          binding.setThreads(threads)
          expect(bits((await run(op, make(), { act: 'f32' })).values)).toEqual(bits(alone.values))
          binding.setThreads(count)
        }
      }
      binding.setThreads(threads)
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
          said(
            RangeError,
            `${p.name} is [`,
          )(callWith(i, (t: Tensor) => binding.empty(t.dtype, [...t.shape, 1].slice(-5))))
          const other: DType = p.dtype === 'i32' ? 'f32' : 'i32'
          said(TypeError, `${p.name} is ${other}, expected`)(callWith(i, (t: Tensor) => binding.empty(other, t.shape)))
          said(Error, `${p.name} is disposed`)(callWith(i, disposed))
          const tall = args()[i] as Tensor
          if (!p.view && tall.shape.length === 2 && tall.shape[0]! > 1) {
            const apart = (t: Tensor) => binding.empty(t.dtype, [t.shape[0]!, t.shape[1]! + 1]).columns(0, t.shape[1]!)
            said(RangeError, `${p.name} is a view whose rows lie apart, expected a dense tensor`)(callWith(i, apart))
          }
        })
      })
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
