// One call of an op on the device under test: inputs up, results down, and the comparison with its definition.
import { expect } from 'vitest'
import type { Act, DType, OpInfo, ParamInfo, Tensor } from '../../binding.js'
import { binding } from '../../dist/binding.js'
import { onCpu, tensor } from '../device.ts'
import type { Refusal } from './refused.ts'
import {
  type Arithmetic,
  type Expected,
  f32Arithmetic,
  type Inputs,
  type Nd,
  nd,
  Random,
  type Sizes,
  type Spec,
  tensorCores,
  tensorOf,
} from './spec.ts'

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
const defaults: Record<string, DType> = { real: 'f32', fp8: 'e4m3', state: 'f32' }

/** The element type of a parameter when activations are `act`; inputs may say otherwise as `name.dtype`. */
export function dtypeOf(p: ParamInfo, inputs: Inputs, act: Act): DType {
  if (p.dtypeFrom) return inputs[p.dtypeFrom] as DType
  const said = inputs[`${p.name}.dtype`] as DType | undefined
  return said ?? (p.dtype === 'act' || p.dtype === 'kv' ? act : (defaults[p.dtype!] ?? (p.dtype as DType)))
}

export function upload(value: Nd, dtype: DType): Tensor {
  const Data = dtype === 'i32' ? Int32Array : dtype === 'u8' ? Uint8Array : Float32Array
  return tensor(new Data(value.data), dtype, value.shape)
}

/** Puts elements on the device: alone, or somewhere among others, which are NaN. */
export type Place = (value: Nd, dtype: DType) => Tensor

/** As columns of a wider matrix, `before` columns of others on the left and `after` on the right. */
export const columns =
  (before: number, after: number): Place =>
  ({ shape, data }, dtype) => {
    const [rows, width] = [shape[0]!, shape.slice(1).reduce((n, size) => n * size, 1)]
    const apart = before + width + after
    const wide = new Float64Array(rows * apart).fill(Number.NaN)
    for (let r = 0; r < rows; r++) wide.set(data.subarray(r * width, (r + 1) * width), r * apart + before)
    return upload({ shape: [rows, apart], data: wide }, dtype)
      .columns(before, before + width)
      .reshape(shape)
  }

/** Dense, after one other element. */
export const afterOne: Place = ({ shape, data }, dtype) =>
  upload({ shape: [1 + data.length], data: Float64Array.of(Number.NaN, ...data) }, dtype)
    .rows(1, 1 + data.length)
    .reshape(shape)

interface Options {
  act: Act
  /** Of arguments, by name; the others lie alone. */
  places?: Record<string, Place>
  /** The argument that the op before makes. */
  made?: string
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
export async function run(op: OpInfo, inputs: Inputs, { act, places, made, given }: Options) {
  const args: Argument[] = []
  const kept: Inputs = { ...inputs }
  const params = op.params.filter((p) => !p.out)
  for (const p of params) {
    const value = inputs[p.name]
    if (value === undefined || typeof value !== 'object') {
      args.push(value)
      continue
    }
    const t = (places?.[p.name] ?? upload)(value, dtypeOf(p, inputs, act))
    kept[p.name] = { shape: value.shape, data: new Float64Array(await t.read()) }
    args.push(t)
  }
  const at = params.findIndex((p) => p.name === made)
  const source = args[at] as Tensor | undefined
  if (source) {
    const row = source.reshape([1, source.shape.reduce((n, size) => n * size, 1)])
    args[at] = binding.cast(row as Tensor<'f32'>, source.dtype as 'f32').reshape(source.shape)
  }
  const outs = op.params.filter((p) => p.out)
  const result = (binding[op.name] as unknown as Call)(...args, ...outs.map((p) => given?.[p.name]))
  const results = Array.isArray(result) ? result : result ? [result] : []
  const tensors: Record<string, Tensor> = Object.fromEntries(outs.map((p, i) => [p.name, results[i]!]))
  for (const [name, t] of Object.entries(given ?? {})) expect(tensors[name], name).toBe(t)
  op.params.forEach((p, i) => {
    if (p.mut && args[i]) tensors[p.name] = args[i] as Tensor
  })
  const written: Record<string, Written> = {}
  for (const [name, t] of Object.entries(tensors)) {
    written[name] = { dtype: t.dtype, shape: t.shape, data: await t.read(), bits: await t.readBytes() }
  }
  for (const t of [source, ...args, ...results]) if (t instanceof binding.Tensor) t.dispose()
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

/** Holds what the op makes of these inputs against its definition, which is computed once for all later calls. */
export function checkOf(op: OpInfo, spec: Spec, inputs: Inputs, act: Act): () => Promise<Record<string, Written>> {
  let reference: Record<string, Expected> | undefined
  return async () => {
    const { kept, written } = await run(op, inputs, { act })
    reference ??= spec.reference(kept, arithmeticOf(op, act))
    for (const [name, expected] of Object.entries(reference)) {
      const { dtype, shape, data } = written[name]!
      expect(shape, `${name}: shape`).toEqual(expected.value.shape)
      compare(name, dtype, data, expected)
    }
    return written
  }
}

/** That, once. */
export const check = (...of: Parameters<typeof checkOf>) => checkOf(...of)()

type Bits = Record<string, Pick<Written, 'bits'>>

export function expectSame(got: Bits, want: Bits, how: string) {
  for (const [name, { bits }] of Object.entries(want)) {
    const others = got[name]!.bits
    if (Buffer.compare(others, bits) === 0) continue
    const at = bits.findIndex((byte, i) => byte !== others[i])
    expect.fail(`${name}, ${how}: byte ${at} is ${others[at]}, expected ${bits[at]} as before`)
  }
}

/** Results to write into: every element is NaN, or -1. */
export function poisoned(
  op: OpInfo,
  written: Record<string, Written>,
  places: Record<string, Place> = {},
): Record<string, Tensor> {
  const results = op.params.filter((p) => p.out).map(({ name }) => [name, written[name]!] as const)
  return Object.fromEntries(
    results.map(([name, { dtype, shape }]) => {
      const poison = dtype === 'i32' ? -1 : Number.NaN
      return [
        name,
        (places[name] ?? upload)(
          nd(shape, () => poison),
          dtype,
        ),
      ]
    }),
  )
}

/** How a tensor may lie: its rows, 16 wide and so whole packs, cannot be read by packs in any of these ways. */
const views: Record<string, Place> = {
  'rows as far apart as packs, from between two': columns(2, 14),
  'rows apart by less than packs': columns(16, 5),
}
const dense: Record<string, Place> = { 'dense, from between two packs': afterOne }

/** Small sizes of which all that may be a row's length is 16. */
const wholePacks = (sizes: Sizes): Sizes =>
  Object.fromEntries(Object.entries(sizes).map(([name, n]) => [name, /^([TDPNKV]|size)$/.test(name) ? 16 : n]))

/** That the op gives the same bits by packs and where any of its tensors lies so that there can be none. */
export async function checkPlaces(op: OpInfo, spec: Spec, act: Act) {
  // Weights as activations: products of bf16 with bf16 have kernels of their own.
  const weights = op.params.filter((p) => p.dtype === 'real').map((p) => [`${p.name}.dtype`, act])
  const placed = (spec.placed ?? []).map((name) => spec.sizes[name]!)
  for (const sizes of [wholePacks(Object.values(spec.sizes)[0]!), ...placed]) {
    const inputs: Inputs = { ...Object.fromEntries(weights), ...spec.make(sizes, new Random(1)) }
    const { written: want } = await run(op, inputs, { act })
    for (const p of op.params.filter((p) => p.out || typeof inputs[p.name] === 'object')) {
      for (const [how, place] of Object.entries(p.view ? { ...views, ...dense } : dense)) {
        const places = { [p.name]: place }
        const given = poisoned(op, want, places)
        expectSame((await run(op, inputs, { act, places, given })).written, want, `${p.name} ${how}`)
      }
    }
  }
}

/**
 * That the op gives the same bits where one of its arguments is made by the op before it, which a GPU may not have ended:
 * any, or weights that it decodes with, as these are read first.
 */
export async function checkMade(op: OpInfo, spec: Spec, act: Act) {
  const checkOne = async (inputs: Inputs, names: string[]) => {
    const { written: want } = await run(op, inputs, { act })
    for (const made of names) expectSame((await run(op, inputs, { act, made })).written, want, `${made} just made`)
  }
  const inputs = spec.make(Object.values(spec.sizes)[0]!, new Random(1))
  const params = op.params.filter((p) => !p.out && typeof inputs[p.name] === 'object')
  const copied = params.filter((p) => !['i32', 'u8'].includes(dtypeOf(p, inputs, act)))
  await checkOne(
    inputs,
    copied.map(({ name }) => name),
  )
  for (const make of Object.values(spec.special ?? {})) {
    const inputs = make(new Random(1))
    if (inputs.decode && inputs.weight) await checkOne(inputs, ['weight'])
  }
}

/** That the op refuses these inputs in these words, and writes nothing. */
export async function checkRefused(op: OpInfo, spec: Spec, { sizes, wrong, message, partly }: Refusal, act: Act) {
  const inputs = spec.make(sizes, new Random(1))
  const given = poisoned(op, (await run(op, inputs, { act })).written)
  for (const [name, elements] of Object.entries(wrong)) Object.assign(tensorOf(inputs, name).data, elements)
  const params = op.params.filter((p) => !p.out)
  const args = params.map((p): Argument => {
    const value = inputs[p.name]
    return typeof value === 'object' ? upload(value, dtypeOf(p, inputs, act)) : value
  })
  const written = { ...given }
  params.forEach((p, i) => {
    if (p.mut && args[i]) written[p.name] = args[i] as Tensor
  })
  const bits = () => Promise.all(Object.values(written).map((t) => t.readBytes()))
  const before = await bits()
  ;(binding[op.name] as unknown as Call)(...args, ...Object.values(given))
  const said = await Object.values(written)[0]!
    .read()
    .then(
      () => 'nothing is refused',
      (e: Error) => e.message,
    )
  const expected = `${op.name}: ${message}`
  if (said !== expected) expect.fail(`the answer is '${said}', expected '${expected}'`)
  const after = await bits()
  Object.keys(written).forEach((name, i) => {
    if (!partly && !Buffer.from(after[i]!).equals(before[i]!)) expect.fail(`${name} is written, expected nothing`)
  })
  for (const t of [...args, ...Object.values(given)]) if (t instanceof binding.Tensor) t.dispose()
}
