// Every op at the sizes of a model: what to call, and the fewest bytes and operations that compute it.
//
// An entry's make() gives calls to rotate through, each with tensors of its own, so that none finds the last one's in a
// cache. `peer` names the same work for bench/ops_torch.py: a kind and its sizes.
import { empty, ops, tensor } from '../dist/index.js'
import { products } from './products.mjs'

const counting = (n) => Array.from({ length: n }, (_, i) => i)
const full = (n, value) => Array(n).fill(value)

/** Normal numbers, the same 2^20 again and again: making them is not what is measured. */
const noise = Float32Array.from(
  { length: 1 << 20 },
  () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()),
)

/** Makes tensors on a device, activations in `act` unless told otherwise, and disposes all of them together. */
function tensors(device, act) {
  const made = []
  const own = (t) => {
    made.push(t)
    return t
  }
  return {
    normal(shape, dtype = act) {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
      for (let i = 0; i < data.length; i += noise.length) data.set(noise.subarray(0, data.length - i), i)
      return own(tensor(data, dtype, shape, device))
    },
    space: (shape, dtype = act) => own(empty(dtype, shape, device)),
    floats: (values) => own(tensor(Float32Array.from(values), 'f32', [values.length], device)),
    integers: (values, shape = [values.length]) => own(tensor(Int32Array.from(values), 'i32', shape, device)),
    columns: (x, from, width, shape) => own(own(x.columns(from, from + width)).reshape(shape)),
    dispose() {
      for (const t of made.splice(0)) t.dispose()
    },
  }
}

/**
 * The entries of `config` (a preset) with T tokens of prefill, S sequences of decode and a cache of `context` tokens for
 * each: a list of { op, sizes, bytes, flops, peer, make() }, and dispose() for what make() made. `several`: it is more
 * than one op.
 */
export function entries(config, { device, act, T, S, context }) {
  const { normal, space, floats, integers, columns, dispose } = tensors(device, act)
  const { hiddenSize: D, vocabSize: V, mlp, mamba, attention } = config
  const { heads: H, headDim: P, groups: G, stateSize: N, convKernel: W, chunkSize } = mamba
  const { heads, kvHeads, headDim } = attention
  const [F, inner, channels] = [mlp.intermediateSize, H * P, H * P + 2 * G * N]
  const projected = 2 * inner + 2 * G * N + H
  const a = act === 'bf16' ? 2 : 4 // bytes of an activation
  const pageSize = 64
  const list = []
  const add = (op, sizes, entry) => list.push({ op, sizes, ...entry })

  const prompt = () => ({ offsets: integers([0, T]), past: integers([0]), slots: integers([0]) })
  const batch = () => ({ past: integers(full(S, context)), slots: integers(counting(S)) })

  // ---- rows
  add(
    'embedding',
    { T, D, V },
    {
      bytes: 2 * T * D * a,
      peer: ['embedding', T, D, V],
      make: () => {
        const [table, ids, y] = [normal([V, D]), integers(counting(T).map((i) => (7919 * i) % V)), space([T, D])]
        return () => ops.embedding(ids, table, act, y)
      },
    },
  )
  add(
    'cast',
    { T, D, from: 'f32', to: act },
    {
      bytes: T * D * (4 + a),
      peer: ['cast', T, D],
      make: () => {
        const [x, y] = [normal([T, D], 'f32'), space([T, D])]
        return () => ops.cast(x, act, y)
      },
    },
  )
  add(
    'take_ids',
    { S },
    {
      bytes: 12 * S,
      make: () => {
        const [last, slots, ids] = [integers(full(S, 7)), integers(counting(S)), space([S], 'i32')]
        return () => ops.takeIds(last, slots, ids)
      },
    },
  )
  add(
    'next_step',
    { S },
    {
      bytes: 28 * S, // ids, slots and last; past and step are read and written
      make: () => {
        const [ids, last, step, { past, slots }] = [
          integers(full(S, 7)),
          integers(full(S, 7)),
          integers(full(S, 1)),
          batch(),
        ]
        return () => ops.nextStep(ids, slots, last, past, step)
      },
    },
  )
  add(
    'last_rows',
    { T, S, D },
    {
      bytes: 2 * S * D * a,
      make: () => {
        const bounds = counting(S + 1).map((s) => Math.floor((s * T) / S))
        const [x, offsets, y] = [normal([T, D]), integers(bounds), space([S, D])]
        return () => ops.lastRows(x, offsets, y)
      },
    },
  )
  add(
    'fill_normal',
    { T: F, D },
    {
      bytes: F * D * a,
      make: () => {
        const y = space([F, D])
        return () => ops.fillNormal(y, 0.02, 1)
      },
    },
  )
  for (const rows of [T, S]) {
    add(
      'rms_norm',
      { T: rows, D },
      {
        bytes: 2 * rows * D * a,
        peer: ['rms_norm', rows, D],
        make: () => {
          const [x, w, y] = [normal([rows, D]), normal([D], 'f32'), space([rows, D])]
          return () => ops.rmsNorm(x, w, 1e-5, y)
        },
      },
    )
    add(
      'add_rms_norm',
      { T: rows, D },
      {
        bytes: 4 * rows * D * a,
        peer: ['add_rms_norm', rows, D],
        make: () => {
          const [residual, x, w, y] = [normal([rows, D]), normal([rows, D]), normal([D], 'f32'), space([rows, D])]
          return () => ops.addRmsNorm(residual, x, w, 1e-5, y)
        },
      },
    )
    add(
      'gated_rms_norm',
      { T: rows, D: inner, groups: G },
      {
        bytes: 3 * rows * inner * a,
        make: () => {
          const [x, z] = [normal([rows, inner]), normal([rows, inner])]
          const [w, y] = [normal([inner], 'f32'), space([rows, inner])]
          return () => ops.gatedRmsNorm(x, z, w, G, 1e-5, y)
        },
      },
    )
  }
  add(
    'relu2',
    { T, D: F },
    {
      bytes: 2 * T * F * a,
      peer: ['relu2', T, F],
      make: () => {
        const [x, y] = [normal([T, F]), space([T, F])]
        return () => ops.relu2(x, y)
      },
    },
  )
  add(
    'silu_mul',
    { T, D: F },
    {
      bytes: 3 * T * F * a,
      peer: ['silu_mul', T, F],
      make: () => {
        const [gate, up, y] = [normal([T, F]), normal([T, F]), space([T, F])]
        return () => ops.siluMul(gate, up, y)
      },
    },
  )

  // ---- fp8
  add(
    'amax',
    { T, D },
    {
      bytes: T * D * a,
      peer: ['amax', T, D],
      make: () => {
        const [x, y] = [normal([T, D]), space([1], 'f32')]
        return () => ops.amax(x, y)
      },
    },
  )
  add(
    'row_amax',
    { T, D },
    {
      bytes: T * D * a,
      peer: ['row_amax', T, D],
      make: () => {
        const [x, y] = [normal([T, D]), space([T], 'f32')]
        return () => ops.rowAmax(x, y)
      },
    },
  )
  add(
    'quantize',
    { T, D, to: 'e4m3' },
    {
      bytes: T * D * (a + 1),
      peer: ['quantize', T, D],
      make: () => {
        const [x, amax, y, scale] = [normal([T, D]), floats([4]), space([T, D], 'e4m3'), space([1], 'f32')]
        return () => ops.quantize(x, amax, 'e4m3', y, scale)
      },
    },
  )
  add(
    'dequantize',
    { T, D, from: 'e4m3' },
    {
      bytes: T * D * (1 + a),
      make: () => {
        const [x, scale, y] = [normal([T, D], 'e4m3'), floats([1]), space([T, D])]
        return () => ops.dequantize(x, scale, act, y)
      },
    },
  )
  add(
    'quantize_transpose',
    { T, D, to: 'e5m2' },
    {
      bytes: T * D * (a + 2),
      make: () => {
        const [x, amax, scale] = [normal([T, D]), floats([4]), space([1], 'f32')]
        const [y, transposed] = [space([T, D], 'e5m2'), space([D, T], 'e5m2')]
        return () => ops.quantizeTranspose(x, amax, 'e5m2', y, transposed, scale)
      },
    },
  )

  // With one scale for all, what is normalised is read twice; a gated norm is written and read between instead.
  for (const scales of [1, T]) {
    const again = scales === 1 && T > 1
    add(
      'rms_norm_quantize',
      { T, D, scales, to: 'e4m3' },
      {
        bytes: T * D * ((again ? 2 : 1) * a + 1),
        make: () => {
          const [x, w] = [normal([T, D]), normal([D], 'f32')]
          const [y, scale] = [space([T, D], 'e4m3'), space([scales], 'f32')]
          return () => ops.rmsNormQuantize(x, w, 1e-5, scales, 'e4m3', y, scale)
        },
      },
    )
    add(
      'add_rms_norm_quantize',
      { T, D, scales, to: 'e4m3' },
      {
        bytes: T * D * ((again ? 4 : 3) * a + 1),
        make: () => {
          const [residual, x, w] = [normal([T, D]), normal([T, D]), normal([D], 'f32')]
          const [y, scale] = [space([T, D], 'e4m3'), space([scales], 'f32')]
          return () => ops.addRmsNormQuantize(residual, x, w, 1e-5, scales, 'e4m3', y, scale)
        },
      },
    )
    add(
      'gated_rms_norm_quantize',
      { T, D: inner, groups: G, scales, to: 'e4m3' },
      {
        bytes: T * inner * ((again ? 4 : 2) * a + 1),
        make: () => {
          const [x, z, w] = [normal([T, inner]), normal([T, inner]), normal([inner], 'f32')]
          const [y, scale] = [space([T, inner], 'e4m3'), space([scales], 'f32')]
          return () => ops.gatedRmsNormQuantize(x, z, w, G, 1e-5, scales, 'e4m3', y, scale)
        },
      },
    )
  }
  add(
    'silu_mul_quantize',
    { T, D: F, scales: T, to: 'e4m3' },
    {
      bytes: T * F * (2 * a + 1),
      make: () => {
        const [gate, up] = [normal([T, F]), normal([T, F])]
        const [y, scale] = [space([T, F], 'e4m3'), space([T], 'f32')]
        return () => ops.siluMulQuantize(gate, up, T, 'e4m3', y, scale)
      },
    },
  )
  add(
    'rms_norm_quantize_transpose',
    { T, D, to: 'e4m3' },
    {
      bytes: T * D * (2 * a + 2),
      make: () => {
        const [x, w, scale] = [normal([T, D]), normal([D], 'f32'), space([1], 'f32')]
        const [y, transposed] = [space([T, D], 'e4m3'), space([D, T], 'e4m3')]
        return () => ops.rmsNormQuantizeTranspose(x, w, 1e-5, 'e4m3', y, transposed, scale)
      },
    },
  )

  // ---- matrix products
  const layers = { in_proj: [projected, D], out_proj: [D, inner], up_proj: [F, D], down_proj: [D, F] }
  for (const entry of products(layers, { act, T }, { normal, space, floats })) add(...entry)

  // ---- Mamba-2
  const vectors = () => ({ A: floats(full(H, -1)), ones: floats(full(H, 1)) })
  const convolution = () => ({ weight: normal([W, channels], 'f32'), bias: normal([channels], 'f32') })
  add(
    'causal_conv1d',
    { T, D: channels, W },
    {
      bytes: 2 * T * channels * a,
      make: () => {
        const [{ weight, bias }, { offsets, past, slots }] = [convolution(), prompt()]
        const [x, y, state] = [normal([T, projected]), space([T, channels]), space([1, W - 1, channels])]
        const xBC = columns(x, inner, channels, [T, channels])
        return () => ops.causalConv1d(xBC, weight, bias, offsets, past, slots, state, y)
      },
    },
  )
  add(
    'causal_conv1d_step',
    { S, D: channels, W },
    {
      bytes: S * channels * a * (2 + 2 * (W - 1)),
      make: () => {
        const [{ weight, bias }, { past, slots }] = [convolution(), batch()]
        const [x, y, state] = [normal([S, channels]), space([S, channels]), normal([S, W - 1, channels])]
        return () => ops.causalConv1dStep(x, weight, bias, past, slots, state, y)
      },
    },
  )
  const mambaInputs = (rows) => {
    const packed = normal([rows, channels])
    return [
      columns(packed, 0, inner, [rows, H, P]),
      normal([rows, H]),
      vectors().A,
      columns(packed, inner, G * N, [rows, G, N]),
      columns(packed, inner + G * N, G * N, [rows, G, N]),
      vectors().ones,
      vectors().ones,
      0,
      Infinity,
    ]
  }
  add(
    'ssm_scan',
    { T, H, P, G, N, chunk: chunkSize },
    {
      bytes: T * (2 * inner + 2 * G * N + H) * a,
      // Per token and head: scores with x, state in, state out; per token and group: C B^T. Half of a causal chunk.
      flops: T * (H * (chunkSize * P + 4 * P * N) + G * chunkSize * N),
      peer: ['ssm_scan', T, H, P, G, N, chunkSize],
      make: () => {
        const { offsets, past, slots } = prompt()
        const [inputs, state, y] = [mambaInputs(T), space([1, H, P, N], 'f32'), space([T, H, P])]
        return () => ops.ssmScan(...inputs, undefined, chunkSize, 0, offsets, past, slots, state, undefined, y)
      },
    },
  )
  // All of a layer between its projections, as lib/model/mamba2.ts calls it.
  add(
    'mamba2_mixer',
    { T, H, P, G, N },
    {
      several: true,
      bytes: T * ((2 * channels + 2 * inner + 2 * G * N + H) * a + inner * (2 * a + 1)),
      make: () => {
        const [{ weight, bias }, { offsets, past, slots }, { A, ones }] = [convolution(), prompt(), vectors()]
        const [packed, convolved] = [normal([T, projected]), space([T, channels])]
        const [z, xBC] = [columns(packed, 0, inner, [T, inner]), columns(packed, inner, channels, [T, channels])]
        const dt = columns(packed, inner + channels, H, [T, H])
        const [x, B, C] = [
          columns(convolved, 0, inner, [T, H, P]),
          columns(convolved, inner, G * N, [T, G, N]),
          columns(convolved, inner + G * N, G * N, [T, G, N]),
        ]
        const [window, state] = [space([1, W - 1, channels]), space([1, H, P, N], 'f32')]
        const [scanned, w] = [space([T, H, P]), normal([inner], 'f32')]
        const [rows, y, scale] = [scanned.reshape([T, inner]), space([T, inner], 'e4m3'), space([T], 'f32')]
        const step = [ones, ones, 0, Infinity, undefined, chunkSize, 0]
        return () => {
          ops.causalConv1d(xBC, weight, bias, offsets, past, slots, window, convolved)
          ops.ssmScan(x, dt, A, B, C, ...step, offsets, past, slots, state, undefined, scanned)
          ops.gatedRmsNormQuantize(rows, z, w, G, 1e-5, T, 'e4m3', y, scale)
        }
      },
    },
  )
  for (const [dtype, e] of [
    ['f32', 4],
    ['f16', 2],
  ]) {
    add(
      'ssm_step',
      { S, H, P, G, N, state: dtype },
      {
        bytes: S * (2 * e * inner * N + (2 * inner + 2 * G * N + H) * a),
        make: () => {
          const { past, slots } = batch()
          const [inputs, state, y] = [mambaInputs(S), normal([S, H, P, N], dtype), space([S, H, P])]
          return () => ops.ssmStep(...inputs, undefined, past, slots, state, 0, y)
        },
      },
    )
    // Of the convolution's state every row is read, and as many are written.
    const layer = (ofY) => S * (2 * e * inner * N + ((2 * (W - 1) + 1) * channels + inner + H) * a + inner * ofY)
    const layerInputs = () => {
      const [packed, { weight, bias }, { A, ones }, { past, slots }] = [
        normal([S, projected]),
        convolution(),
        vectors(),
        batch(),
      ]
      const [z, x, dt] = [
        columns(packed, 0, inner, [S, inner]),
        columns(packed, inner, channels, [S, channels]),
        columns(packed, inner + channels, H, [S, H]),
      ]
      const [norm, convState, state] = [
        normal([inner], 'f32'),
        normal([S, W - 1, channels]),
        normal([S, H, P, N], dtype),
      ]
      return [
        ...[x, z, dt, weight, bias, A, ones, ones, 0, Infinity, norm, G, 1e-5, past, slots],
        ...[convState, state, 0],
      ]
    }
    add(
      'mamba2_step',
      { S, H, P, G, N, state: dtype },
      {
        bytes: layer(a),
        make: () => {
          const [inputs, y] = [layerInputs(), space([S, inner])]
          return () => ops.mamba2Step(...inputs, y)
        },
      },
    )
    add(
      'mamba2_step_quantize',
      { S, H, P, G, N, state: dtype, scales: S, to: 'e4m3' },
      {
        bytes: layer(1),
        make: () => {
          const [inputs, y, scale] = [layerInputs(), space([S, inner], 'e4m3'), space([S], 'f32')]
          return () => ops.mamba2StepQuantize(...inputs, S, 'e4m3', y, scale)
        },
      },
    )
  }

  // ---- attention
  const caches = (pages) => [normal([pages, pageSize, kvHeads, headDim]), normal([pages, pageSize, kvHeads, headDim])]
  add(
    'rope',
    { T, H: heads, P: headDim },
    {
      bytes: 2 * T * heads * headDim * a,
      make: () => {
        const { offsets, past } = prompt()
        const [x, frequencies] = [
          normal([T, heads, headDim]),
          floats(counting(headDim / 2).map((i) => 1e4 ** (-i / 64))),
        ]
        return () => ops.rope(x, frequencies, offsets, past)
      },
    },
  )
  add(
    'kv_append',
    { T, G: kvHeads, P: headDim },
    {
      bytes: 4 * T * kvHeads * headDim * a,
      make: () => {
        const { offsets, past } = prompt()
        const pages = Math.ceil(T / pageSize)
        const [k, v] = [normal([T, kvHeads, headDim]), normal([T, kvHeads, headDim])]
        const [table, [kCache, vCache]] = [integers(counting(pages), [1, pages]), caches(pages)]
        return () => ops.kvAppend(k, v, undefined, undefined, undefined, table, offsets, past, kCache, vCache)
      },
    },
  )
  add(
    'attention',
    { T, H: heads, G: kvHeads, P: headDim },
    {
      bytes: T * (2 * heads + 2 * kvHeads) * headDim * a,
      flops: 2 * T * T * heads * headDim, // q k^T and p v, each over half of the square
      peer: ['attention', T, heads, kvHeads, headDim],
      make: () => {
        const { offsets, past } = prompt()
        const pages = Math.ceil(T / pageSize)
        const [table, [kCache, vCache]] = [integers(counting(pages), [1, pages]), caches(pages)]
        const [q, y] = [normal([T, heads, headDim]), space([T, heads, headDim])]
        return () =>
          ops.attention(
            q,
            kCache,
            vCache,
            undefined,
            undefined,
            table,
            offsets,
            past,
            headDim ** -0.5,
            false,
            undefined,
            y,
          )
      },
    },
  )
  add(
    'attention',
    { S, context, H: heads, G: kvHeads, P: headDim },
    {
      bytes: S * (context + 1) * 2 * kvHeads * headDim * a,
      flops: 4 * S * context * heads * headDim,
      make: () => {
        const pages = Math.ceil((context + 1) / pageSize)
        const [offsets, { past }] = [integers(counting(S + 1)), batch()]
        const [table, [kCache, vCache]] = [integers(counting(S * pages), [S, pages]), caches(S * pages)]
        const [q, y] = [normal([S, heads, headDim]), space([S, heads, headDim])]
        return () =>
          ops.attention(
            q,
            kCache,
            vCache,
            undefined,
            undefined,
            table,
            offsets,
            past,
            headDim ** -0.5,
            true,
            undefined,
            y,
          )
      },
    },
  )

  // ---- logits
  const logits = () => normal([S, V], 'f32')
  const seeds = () => [integers(counting(2 * S), [S, 2]), integers(full(S, 0))]
  const sampling = {
    greedy: [0, 0, 1],
    plain: [1, 0, 1],
    'top_k 50, top_p 0.9': [1, 50, 0.9],
    'top_p 0.9': [1, 0, 0.9],
  }
  for (const [how, [temperature, topK, topP]] of Object.entries(sampling)) {
    add(
      'sample',
      { S, V, how },
      {
        bytes: 4 * S * V,
        peer: how === 'greedy' ? ['argmax', S, V] : how === 'plain' && ['multinomial', S, V],
        make: () => {
          const parameters = [
            floats(full(S, temperature)),
            integers(full(S, topK)),
            floats(full(S, topP)),
            floats(full(S, 0)),
          ]
          const [x, ids] = [logits(), space([S], 'i32')]
          const [seed, step] = seeds()
          return () => ops.sample(x, ...parameters, seed, step, ids)
        },
      },
    )
  }
  add(
    'log_probs',
    { S, V },
    {
      bytes: 4 * S * V,
      peer: ['log_probs', S, V],
      make: () => {
        const [x, ids, y] = [logits(), integers(full(S, 7)), space([S], 'f32')]
        return () => ops.logProbs(x, ids, y)
      },
    },
  )
  add(
    'top_log_probs',
    { S, V, count: 5 },
    {
      bytes: 4 * S * V,
      make: () => {
        const [x, ids, y] = [logits(), space([S, 5], 'i32'), space([S, 5], 'f32')]
        return () => ops.topLogProbs(x, 5, ids, y)
      },
    },
  )
  add(
    'penalize',
    { S, V },
    {
      bytes: 12 * S * V,
      make: () => {
        const [x, history] = [
          logits(),
          integers(
            counting(S * V).map((i) => (i % 50 === 0 ? 3 : 0)),
            [S, V],
          ),
        ]
        const [slots, one, zero] = [integers(counting(S)), floats(full(S, 1.1)), floats(full(S, 0))]
        return () => ops.penalize(x, history, slots, one, zero, zero)
      },
    },
  )
  add(
    'count_tokens',
    { S, V },
    {
      bytes: 12 * S, // each token's id and its count, which is read and written
      make: () => {
        const [ids, offsets, { past, slots }] = [integers(full(S, 7)), integers(counting(S + 1)), batch()]
        const history = integers(full(S * V, 0), [S, V])
        return () => ops.countTokens(ids, offsets, past, slots, true, history)
      },
    },
  )
  add(
    'bias_logits',
    { S, V, each: 10 },
    {
      bytes: 160 * S, // of each entry the id, the bias, and a logit that is read and written
      make: () => {
        const ids = counting(10 * S).map((i) => (7919 * i) % V)
        const [x, offsets] = [logits(), integers(counting(S + 1).map((s) => 10 * s))]
        const [tokens, bias] = [integers(ids), floats(full(10 * S, 0.1))]
        return () => ops.biasLogits(x, offsets, tokens, bias)
      },
    },
  )
  return { list, dispose }
}
