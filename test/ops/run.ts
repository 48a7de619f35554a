// One call of an op on the device under test: inputs up, results down, and the comparison with its definition.
import { expect } from 'vitest'
import type { Act, DType, OpInfo, ParamInfo, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { onCpu, tensor } from '../device.ts'
import { type Arithmetic, type Expected, f32Arithmetic, type Inputs, type Nd, type Spec, tensorCores } from './spec.ts'

export type Argument = Tensor | number | boolean | string | undefined
export type Call = (...args: Argument[]) => Tensor | Tensor[] | undefined

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
export function dtypeOf(p: ParamInfo, inputs: Inputs, act: Act): DType {
  if (p.dtypeFrom) return inputs[p.dtypeFrom] as DType
  const said = inputs[`${p.name}.dtype`] as DType | undefined
  return said ?? (p.dtype === 'act' ? act : (defaults[p.dtype!] ?? (p.dtype as DType)))
}

export function upload(value: Nd, dtype: DType): Tensor {
  const data =
    dtype === 'i32'
      ? Int32Array.from(value.data)
      : dtype === 'u8'
        ? Uint8Array.from(value.data)
        : Float32Array.from(value.data)
  return tensor(data, dtype, value.shape)
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

/** What an op wrote: a result or an updated tensor. */
interface Written {
  dtype: DType
  shape: number[]
  data: ArrayLike<number>
  bits: Uint8Array
}

/** Runs an op on fresh tensors; gives what it got (as its dtypes keep it) and all it wrote. */
export async function run(op: OpInfo, inputs: Inputs, { act, views, given }: Options) {
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
  const tensors: Record<string, Tensor> = Object.fromEntries(outs.map((p, i) => [p.name, results[i]!]))
  for (const [name, t] of Object.entries(given ?? {})) expect(tensors[name], name).toBe(t)
  op.params.forEach((p, i) => {
    if (p.mut) tensors[p.name] = args[i] as Tensor
  })
  const written: Record<string, Written> = {}
  for (const [name, t] of Object.entries(tensors)) {
    written[name] = { dtype: t.dtype, shape: t.shape, data: await t.read(), bits: await t.readBytes() }
  }
  for (const t of [...args, ...results]) if (t instanceof binding.Tensor) t.dispose()
  return { kept, written }
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

/** Products of bf16 and fp8 operands go to tensor cores where there are some. */
function arithmeticOf(op: OpInfo, act: Act): Arithmetic {
  const narrow = act === 'bf16' || op.params.some((p) => p.dtype === 'fp8')
  return !onCpu && narrow ? tensorCores : f32Arithmetic
}

export async function check(op: OpInfo, spec: Spec, inputs: Inputs, act: Act) {
  const { kept, written } = await run(op, inputs, { act })
  for (const [name, expected] of Object.entries(spec.reference(kept, arithmeticOf(op, act)))) {
    const { dtype, shape, data } = written[name]!
    expect(shape, `${name}: shape`).toEqual(expected.value.shape)
    compare(name, dtype, data, expected)
  }
  return written
}

export function expectSame(got: Record<string, Written>, want: Record<string, Written>, how: string) {
  for (const [name, { bits }] of Object.entries(want)) {
    const at = bits.findIndex((byte, i) => byte !== got[name]!.bits[i])
    if (at >= 0) expect.fail(`${name}, ${how}: byte ${at} is ${got[name]!.bits[at]}, expected ${bits[at]} as before`)
  }
}

/** Results to write into: every bit set, which is NaN in the float types. */
export function poisoned(op: OpInfo, written: Record<string, Written>): Record<string, Tensor> {
  const results = op.params.filter((p) => p.out).map(({ name }) => [name, written[name]!] as const)
  return Object.fromEntries(
    results.map(([name, { bits, dtype, shape }]) => [
      name,
      tensor(new Uint8Array(bits.length).fill(0xff), dtype, shape),
    ]),
  )
}
