// The matrix products of a model's layers, for shapes.mjs: of a prompt, of decoding, and of the gradients.
//
// `product` of an entry says what is multiplied, as csrc/cuda/gemm/choices.def does, where cuBLASLt could do it too.
import { ops } from '../dist/index.js'

/**
 * Entries as shapes.mjs has them, [op, sizes, entry], of layers { name: [N, K] } with T tokens of prefill; the tensors are
 * made as shapes.mjs makes them.
 */
export function products(layers, { act, T }, { normal, space, floats }) {
  const a = act === 'bf16' ? 2 : 4 // bytes of an activation
  const list = []

  /** y[M,N] of K products each; `of`: bytes of an element of a, b and y. */
  const add = (op, sizes, [ofA, ofB, ofY], entry) => {
    const { M, N, K } = sizes
    const bytes = M * K * ofA + N * K * ofB + M * N * ofY
    list.push([op, sizes, { bytes, flops: 2 * M * N * K, ...entry }])
  }
  const bf16 = (orders, y = 'bf16', decode = false) =>
    act === 'bf16' ? { a: act, b: act, y, orders, decode, fast: false } : undefined
  const narrow = (a, y, { decode = false, fast = false, sizes }) =>
    sizes.every((size) => size % 16 === 0) ? { a, b: 'e4m3', y, orders: 'NT', decode, fast } : undefined

  for (const [layer, [N, K]] of Object.entries(layers)) {
    for (const M of [T, 1, 16, 64]) {
      const decode = M !== T
      add('linear', { layer, M, N, K, weight: 'bf16' }, [a, 2, a], {
        peer: act === 'bf16' && ['linear', M, N, K],
        product: bf16('NT', act, decode),
        make: () => {
          const [x, w, y] = [normal([M, K]), normal([N, K], 'bf16'), space([M, N])]
          return () => ops.linear(x, w, undefined, undefined, decode, act, y)
        },
      })
      for (const fast of decode ? [true] : [true, false]) {
        add('fp8_linear', { layer, M, N, K, fast }, [1, 1, a], {
          peer: M % 16 === 0 && N % 16 === 0 && ['fp8_linear', M, N, K, fast],
          product: act === 'bf16' ? narrow('e4m3', act, { decode, fast, sizes: [M, N, K] }) : undefined,
          make: () => {
            const [x, w, y] = [normal([M, K], 'e4m3'), normal([N, K], 'e4m3'), space([M, N])]
            const scale = floats([1])
            return () => ops.fp8Linear(x, scale, w, scale, undefined, decode, fast, act, y)
          },
        })
      }
      if (!decode) continue
      add('linear', { layer, M, N, K, weight: 'e4m3' }, [a, 1, a], {
        make: () => {
          const [x, w, scale, y] = [normal([M, K]), normal([N, K], 'e4m3'), floats([1]), space([M, N])]
          return () => ops.linear(x, w, scale, undefined, true, act, y)
        },
      })
    }

    // ---- gradients: of x, and of the weight, N by K, from those of y
    add('matmul_nn', { layer, M: T, N: K, K: N }, [a, a, a], {
      peer: act === 'bf16' && ['matmul_nn', T, K, N],
      product: bf16('NN'),
      make: () => {
        const [dy, w, dx] = [normal([T, N]), normal([N, K]), space([T, K])]
        return () => ops.matmulNn(dy, w, act, dx)
      },
    })
    add('matmul_tn', { layer, M: N, N: K, K: T }, [a, a, 4], {
      peer: act === 'bf16' && ['matmul_tn', N, K, T],
      product: bf16('TN', 'f32'),
      make: () => {
        const [dy, x, dw] = [normal([T, N]), normal([T, K]), space([N, K], 'f32')]
        return () => ops.matmulTn(dy, x, 'f32', dw)
      },
    })
    add('fp8_linear', { layer, M: T, N: K, K: N, x: 'e5m2' }, [1, 1, a], {
      product: act === 'bf16' ? narrow('e5m2', act, { sizes: [T, N, K] }) : undefined,
      make: () => {
        const [dy, w, dx] = [normal([T, N], 'e5m2'), normal([K, N], 'e4m3'), space([T, K])]
        const scale = floats([1])
        return () => ops.fp8Linear(dy, scale, w, scale, undefined, false, false, act, dx)
      },
    })
    add('fp8_linear_add', { layer, M: N, N: K, K: T, x: 'e5m2' }, [1, 1, 8], {
      product: narrow('e5m2', 'f32', { sizes: [T, N, K] }),
      make: () => {
        const [dy, x, dw] = [normal([N, T], 'e5m2'), normal([K, T], 'e4m3'), normal([N, K], 'f32')]
        const scale = floats([1])
        return () => ops.fp8LinearAdd(dw, dy, scale, x, scale, undefined, false, false)
      },
    })
  }

  // ---- what is fused, where the model has it: relu2 behind up_proj, the residual behind down_proj
  const { up_proj: up, down_proj: down } = layers
  for (const M of [T, 64]) {
    const decode = M !== T
    const [[upN, upK], [N, K]] = [up, down]
    add('linear_relu2', { layer: 'up_proj', M, N: upN, K: upK }, [a, 2, a], {
      make: () => {
        const [x, w, y, amax] = [normal([M, upK]), normal([upN, upK], 'bf16'), space([M, upN]), space([1], 'f32')]
        return () => ops.linearRelu2(x, w, undefined, undefined, decode, 1, act, y, amax)
      },
    })
    add('fp8_linear_relu2', { layer: 'up_proj', M, N: upN, K: upK }, [1, 1, a], {
      make: () => {
        const [x, w, scale] = [normal([M, upK], 'e4m3'), normal([upN, upK], 'e4m3'), floats([1])]
        const [y, amax] = [space([M, upN]), space([1], 'f32')]
        return () => ops.fp8LinearRelu2(x, scale, w, scale, undefined, decode, true, 1, act, y, amax)
      },
    })
    add('linear_add', { layer: 'down_proj', M, N, K }, [a, 2, 2 * a], {
      make: () => {
        const [x, w, y] = [normal([M, K]), normal([N, K], 'bf16'), normal([M, N])]
        return () => ops.linearAdd(y, x, w, undefined, undefined, decode)
      },
    })
    add('fp8_linear_add', { layer: 'down_proj', M, N, K }, [1, 1, 2 * a], {
      make: () => {
        const [x, w, y, scale] = [normal([M, K], 'e4m3'), normal([N, K], 'e4m3'), normal([M, N]), floats([1])]
        return () => ops.fp8LinearAdd(y, x, scale, w, scale, undefined, decode, true)
      },
    })
  }
  const [N, K] = down
  add('matmul_tn_add', { layer: 'down_proj', M: N, N: K, K: T }, [a, a, 8], {
    make: () => {
      const [dy, x, dw] = [normal([T, N]), normal([T, K]), normal([N, K], 'f32')]
      return () => ops.matmulTnAdd(dw, dy, x)
    },
  })
  add('matmul_tt', { layer: 'down_proj', M: K, N, K: T }, [a, a, 4], {
    peer: act === 'bf16' && ['matmul_tt', K, N, T],
    make: () => {
      const [x, dy, dw] = [normal([T, K]), normal([N, T]), space([K, N], 'f32')]
      return () => ops.matmulTt(x, dy, 'f32', dw)
    },
  })
  return list
}
