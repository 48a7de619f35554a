// What the comparison of bench/figure.mjs is about: the models of figures 1 and 7 of the Nemotron-H paper (arXiv 2504.03624),
// with what is published of them, the lengths to measure at, and small models of the same shape for a try.

/**
 * In each group, the most important first. mmluPro: accuracy in %, as published. paper: output tokens a second and GPU at
 * 65,536 in and 1,024 out on H100s, read off the figures. gpus: the model is too large for one, and is modelled on that
 * many.
 */
export const models = [
  { name: '8b', label: 'Nemotron-H-8B', group: '8B class', mmluPro: 44.0, paper: 210.9 },
  { name: 'llama-3.1-8b', label: 'Llama-3.1-8B', group: '8B class', mmluPro: 35.9, paper: 70.5 },
  { name: 'qwen-2.5-7b', label: 'Qwen-2.5-7B', group: '8B class', mmluPro: 48.3, paper: 119.6 },
  { name: 'nemotron-t-8b', label: 'Nemotron-T-8B', group: '8B class', mmluPro: 41.4, paper: 96.9 },
  { name: '47b', label: 'Nemotron-H-47B', group: '50-70B class', mmluPro: 61.8, paper: 31.8 },
  { name: 'llama-3.1-70b', label: 'Llama-3.1-70B', group: '50-70B class', mmluPro: 51.3, paper: 10.8 },
  { name: '56b', label: 'Nemotron-H-56B', group: '50-70B class', mmluPro: 60.5, paper: 25.6 },
  { name: 'qwen-2.5-72b', label: 'Qwen-2.5-72B', group: '50-70B class', mmluPro: 58.8, paper: 10.7 },
  { name: 'llama-3.1-405b', label: 'Llama-3.1-405B', group: '50-70B class', mmluPro: 52.8, paper: 1.35, gpus: 8 },
]

/** How many times as fast as another a model is, as the paper says. */
export const speedups = [
  { model: '8b', over: 'llama-3.1-8b', paper: 3.0 },
  { model: '8b', over: 'qwen-2.5-7b', paper: 1.8 },
  { model: '47b', over: 'llama-3.1-70b', paper: 2.9 },
  { model: '47b', over: 'qwen-2.5-72b', paper: 2.9 },
  { model: '56b', over: 'llama-3.1-70b', paper: 2.4 },
  { model: '56b', over: 'qwen-2.5-72b', paper: 2.4 },
  { model: '56b', over: 'llama-3.1-405b', paper: 19.6 },
]

/** Whose share of its limit the models too large for one GPU are given. */
export const yardstick = 'llama-3.1-70b'

/** Tokens in and out, and after an @ the batch; without it, the largest that fits. The first is the paper's. */
export const scenarios = ['65536/1024', '1024/1024', '8192/1024', '131072/256', '65536/1024@1', '1024/1024@1']
export const tinyScenarios = ['96/8', '16/8', '96/8@1']

/** '65536/1024@1' as { input: 65536, output: 1024, batch: 1 }. */
export function parseScenario(text) {
  const [, input, output, batch] = /^(\d+)\/(\d+)(?:@(\d+))?$/.exec(text) ?? []
  const scenario = { input: Number(input), output: Number(output), ...(batch ? { batch: Number(batch) } : {}) }
  if (Object.values(scenario).every((n) => n > 0) && scenario.output > 1) return scenario
  throw new RangeError(`bench:figure: a scenario is ${text}, expected IN/OUT or IN/OUT@BATCH, OUT at least 2`)
}

/** '65,536 tokens in, 1,024 out, the largest batch that fits' */
export function lengthsOf(text) {
  const { input, output, batch } = parseScenario(text)
  const [tokensIn, tokensOut] = [input, output].map((n) => n.toLocaleString('en-US'))
  return `${tokensIn} tokens in, ${tokensOut} out, ${batch ? `batch ${batch}` : 'the largest batch that fits'}`
}

/** The lengths that the paper's numbers are of. */
export const isOfPaper = (text) => text === scenarios[0]

/** A model of the same shape, tens of thousands of times smaller: the layers up to the first MLP after attention. */
export function tiny(config) {
  const { layers, hiddenSize, attention, mlp, mamba } = config
  return {
    ...config,
    vocabSize: 512,
    hiddenSize: hiddenSize / 64,
    layers: layers.slice(0, layers.indexOf('attention') + 2),
    attention: { ...attention, heads: attention.heads / 4, kvHeads: attention.kvHeads / 4, headDim: 16 },
    mlp: { ...mlp, intermediateSize: mlp.intermediateSize / 64 },
    ...(mamba
      ? { mamba: { ...mamba, heads: mamba.heads / 16, headDim: 16, groups: 2, stateSize: 16, chunkSize: 16 } }
      : {}),
    bosId: 1,
    eosIds: [2],
  }
}

export const keyOf = ({ model, scenario }) => `${model} ${scenario}`

/** Output tokens a second and GPU of a row that has seconds: over prefill and decode, or over decode alone. */
export const throughput = ({ batch, output, seconds: { prefill, decode }, modelled }) =>
  (batch * output) / (prefill + decode) / (modelled?.gpus ?? 1)
export const decodeRate = ({ batch, output, seconds: { decode }, modelled }) =>
  (batch * (output - 1)) / decode / (modelled?.gpus ?? 1)
export const prefillRate = ({ batch, input, seconds: { prefill }, modelled }) =>
  (batch * input) / prefill / (modelled?.gpus ?? 1)
