/** load(folder): a checkpoint as a model that generates text. */
import { type Checkpoint, openCheckpoint } from './checkpoint/folder.js'
import { randomWeights } from './checkpoint/random.js'
import { type LoadProgress, loadWeights, type WeightFormat, type WeightOptions } from './checkpoint/weights.js'
import { type Device, device } from './device.js'
import {
  checkIds,
  type GenerateOptions,
  type GenerationContext,
  generate,
  type Piece,
  type Prompt,
} from './generate.js'
import { type Config, formatsOf, pagesFor } from './model/config.js'
import type { Weights } from './model/layer.js'
import type { ActivationScaling } from './model/linear.js'
import { NemotronH } from './model/nemotron-h.js'
import { Pools, packBatch, type Segment, segmentLength } from './model/pools.js'
import { initStd, presetOf, presetPaths, presets } from './model/presets.js'
import {
  boolean,
  callback,
  check,
  checkValue,
  choices,
  describe,
  integer,
  oneOf,
  type Rule,
  type Rules,
  signal,
  string,
  tokenIds,
} from './options.js'
import { cacheTokensIn, checkFit, gpuPrefillTokens, type PlanOptions, planMemory } from './plan.js'
import { Scheduler, type SchedulerOptions } from './scheduler.js'
import { scope } from './scope.js'
import { type Act, empty, type Tensor } from './tensor.js'
import { ChatTemplate } from './text/chat.js'
import { Tokenizer } from './text/tokenizer.js'

export interface LoadOptions {
  /** Where the model runs: 'cpu' (default), 'cuda' (the first GPU) or 'cuda:N'. */
  device?: string | undefined
  /** Element type of activations and of the caches; f32 on the CPU, bf16 on a GPU. */
  dtype?: Act | undefined
  /** What keys and values are kept in: fp8 (E4M3, scaled as the checkpoint says); as activations where absent. */
  kvCache?: 'fp8' | undefined
  /** What Mamba-2 layers keep of a sequence in: f32 (default), or f16, half as many bytes, rounded at random. */
  ssmState?: 'f32' | 'f16' | undefined
  /** What matrices are kept in: f32, bf16, or fp8 (E4M3, one scale each); as stored where absent. */
  weights?: WeightFormat | undefined
  /** With weights 'fp8': how many matrix products at each end of the model stay bf16; 4, as published. */
  bf16Gemms?: number | undefined
  /** How activations meet fp8 weights: scaled by 'row' (default), by 'tensor' (as published), or 'none'. */
  activationScaling?: ActivationScaling | undefined
  /** Tokens that one sequence may have; the model's own limit. More only for models without rotary embedding. */
  context?: number | undefined
  /**
   * Sequences at a time; 8. More wait their turn, and a sequence keeps its place until it ends: one whose reader is
   * 64 tokens behind pauses, and holds up those that wait.
   */
  sequences?: number | undefined
  /**
   * Tokens of keys and values of all sequences together. By default, on a GPU: as many as its memory has room for, less
   * 5 % of what is free or 512 MiB, at most what the sequences can fill and at least the context; forward() takes its
   * keys, values and logits beside them, so give fewer where it has much to do. On the CPU: the context, or 65,536 if the
   * sequences can fill that.
   */
  cacheTokens?: number | undefined
  /** Prompt tokens in one batch; 8192 on a GPU, 512 on the CPU. An abort acts between batches. */
  prefillTokens?: number | undefined
  /** No sequence generates while others have some of their prompt left: the most tokens a second, for jobs without readers. */
  prefillFirst?: boolean | undefined
  /** 'random', with 'preset:NAME' in place of a folder: weights are drawn on the device, as training begins with them. */
  init?: 'random' | undefined
  /** With `init`: the same seed, the same weights; 0 (default) to 2^32 - 1. */
  seed?: number | undefined
  onProgress?: ((progress: LoadProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

const path: Rule<string> = {
  expected: 'the path of a folder',
  fault: (value) =>
    typeof value !== 'string' ? TypeError : value === '' || value.includes('\0') ? RangeError : undefined,
}

const rules: Rules<LoadOptions> = {
  device: string,
  dtype: oneOf('f32', 'bf16'),
  kvCache: oneOf('fp8'),
  ssmState: oneOf('f32', 'f16'),
  weights: oneOf('f32', 'bf16', 'fp8'),
  bf16Gemms: integer({ min: 0 }),
  activationScaling: oneOf('row', 'tensor', 'none'),
  context: integer({ min: 1, max: 2 ** 31 - 1 }),
  sequences: integer({ min: 1, max: 65536 }),
  cacheTokens: integer({ min: 1, max: 2 ** 31 - 1 }),
  prefillTokens: integer({ min: 1 }),
  prefillFirst: boolean,
  init: oneOf('random'),
  seed: integer({ min: 0, max: 2 ** 32 - 1 }),
  onProgress: callback(),
  signal,
}

/** What options are by default, by the kind of device; bf16 is what tensor cores multiply. */
interface DeviceDefaults {
  dtype: Act
  prefillTokens: number
  /** Tokens of keys and values that are enough; as many as fit where absent. */
  cacheTokens?: number
}
const defaultsOf: Record<string, DeviceDefaults> = { cpu: { dtype: 'f32', prefillTokens: 512, cacheTokens: 65536 } }
const gpuDefaults: DeviceDefaults = { dtype: 'bf16', prefillTokens: gpuPrefillTokens }

/**
 * How much there is of everything that takes memory, by what the device has free; `loaded`: beside the weights, which are
 * there.
 * @throws RangeError for options that contradict the model or each other; Error where they do not fit
 */
export function sizesFor(
  device: Device,
  { config, tensors }: Pick<Source, 'config' | 'tensors'>,
  options: Partial<LoadOptions>,
  loaded: boolean,
) {
  const defaults = defaultsOf[device.name] ?? gpuDefaults
  const context = options.context ?? config.maxPositions
  const sequences = options.sequences ?? 8
  if (options.cacheTokens !== undefined && options.cacheTokens < context) {
    throw new RangeError(`load: cacheTokens is ${options.cacheTokens}, expected at least the context, ${context}`)
  }
  if (context > config.maxPositions && config.attention.rope) {
    const why = 'positions that its rotary embedding was trained for'
    throw new RangeError(`load: context is ${context}, expected at most ${config.maxPositions}, the ${why}`)
  }
  const dtype = options.dtype ?? defaults.dtype
  const prefillTokens = Math.max(options.prefillTokens ?? defaults.prefillTokens, config.mamba?.chunkSize ?? 1)
  const enough = (context: number, sequences: number) =>
    Math.max(context, Math.min(sequences * context, defaults.cacheTokens ?? 0))
  const plan: PlanOptions = {
    context,
    sequences,
    dtype,
    prefillTokens,
    cacheTokens: options.cacheTokens ?? enough,
    weights: options.weights ?? tensors,
    bf16Gemms: options.bf16Gemms,
    activationScaling: options.activationScaling,
    kvCache: options.kvCache,
    ssmState: options.ssmState,
  }
  const { free } = device.memory()
  const budget = free + (loaded ? planMemory(config, plan).weights : 0)
  checkFit(config, plan, budget, 'load')
  const spare = Math.max(0.05 * free, 512 * 2 ** 20)
  const fitting = defaults.cacheTokens === undefined ? cacheTokensIn(config, plan, budget - spare) : 0
  const cacheTokens = options.cacheTokens ?? Math.max(enough(context, sequences), fitting)
  return { context, sequences, dtype, prefillTokens, cacheTokens }
}

/**
 * Loads a Hugging Face model folder: NemotronHForCausalLM, LlamaForCausalLM or Qwen2ForCausalLM, in safetensors. Or
 * makes a published model of random weights, to measure its speed: `load('preset:8b', { init: 'random' })`. Such a model
 * has no tokenizer: it takes and gives token ids.
 * @throws Error naming the file, key or tensor that is missing or not as it has to be, or what the device lacks: of
 * memory, how much, and which options would fit; the signal's reason
 */
export async function load(folder: string, options?: LoadOptions): Promise<Model> {
  checkValue('load', 'folder', folder, path)
  const checked = checkOptions(options)
  if (folder.startsWith('preset:')) {
    const preset = presetOf(folder)
    if (!preset) {
      throw new RangeError(`load: folder is ${describe(folder)}, expected ${choices(presetPaths.map(describe))}`)
    }
    if (!checked.init) throw new TypeError(`load: init is undefined, expected 'random': ${folder} has no weights`)
    return loadRandom(presets[preset], folder, checked, initStd[preset])
  }
  for (const name of ['init', 'seed'] as const) {
    if (checked[name] === undefined) continue
    throw new TypeError(`load: ${name} is ${describe(checked[name])}, expected none for a folder, which has weights`)
  }
  const on = device(checked.device ?? 'cpu')
  const { signal } = checked
  const checkpoint = await openCheckpoint(folder, { signal })
  sizesFor(on, checkpoint, checked, false) // what cannot fit shows before anything is read
  const tokenizer = await Tokenizer.find(folder, { signal }) // before the weights: what is broken shows at once
  try {
    const chat = await ChatTemplate.load(folder)
    const weights = await loadWeights(checkpoint, weightOptions(on, checked))
    return modelOf(on, checkpoint, weights, tokenizer, chat, checked)
  } catch (error) {
    tokenizer?.dispose()
    throw error
  }
}

/**
 * A model of any sizes with random weights, called `name` in messages; `std` is the standard deviation of its matrices.
 * @throws as load()
 */
export async function loadRandom(config: Config, name: string, options?: LoadOptions, std = 0.02): Promise<Model> {
  const checked = checkOptions(options)
  const on = device(checked.device ?? 'cpu')
  const source = { folder: name, config, generation: { eosIds: config.eosIds, doSample: false } }
  checked.signal?.throwIfAborted()
  sizesFor(on, source, checked, false)
  const weights = await randomWeights(config, { ...weightOptions(on, checked), seed: checked.seed ?? 0, std })
  return modelOf(on, source, weights, undefined, ChatTemplate.none(name), checked)
}

function checkOptions(options: LoadOptions | undefined): Partial<LoadOptions> {
  const checked = check('load', options, rules)
  if (checked.bf16Gemms !== undefined && checked.weights !== 'fp8') {
    throw new TypeError(`load: bf16Gemms is ${checked.bf16Gemms}, expected none unless weights is 'fp8'`)
  }
  return checked
}

function weightOptions(on: Device, options: Partial<LoadOptions>): WeightOptions {
  const { weights: format, bf16Gemms = 4, activationScaling = 'row', onProgress, signal } = options
  return { device: on.name, format, bf16Gemms, activations: activationScaling, onProgress, signal }
}

/** The model, or no weights. */
function modelOf(...parts: ConstructorParameters<typeof Model>): Model {
  try {
    return new Model(...parts)
  } catch (error) {
    parts[2].dispose()
    throw error
  }
}

function schedulerFor(net: NemotronH, options: SchedulerOptions): Scheduler {
  try {
    return new Scheduler(net, options)
  } catch (cause) {
    const { sequences, cacheTokens } = options
    const room = `room for ${sequences} sequences and ${cacheTokens} tokens of keys and values`
    throw new Error(`load: ${room}: ${(cause as Error).message}; lower context, sequences or cacheTokens`, { cause })
  }
}

/** What a model is loaded from: a folder, or with no tensors a preset. */
type Source = Omit<Checkpoint, 'tensors'> & Partial<Pick<Checkpoint, 'tensors'>>

/** A loaded model. It owns its weights and the state of its sequences; dispose() ends them all. */
export class Model {
  readonly config: Config
  /** Where it runs. */
  readonly device: Device
  /** Absent for a folder without tokenizer.json: such a model takes and gives token ids. */
  readonly tokenizer: Tokenizer | undefined
  readonly chat: ChatTemplate
  readonly #weights: Weights
  readonly #net: NemotronH
  readonly #scheduler: Scheduler
  readonly #generation: GenerationContext
  readonly #sequences: number
  readonly #prefillTokens: number
  #disposed = false

  /** Made by load(). */
  constructor(
    device: Device,
    source: Source,
    weights: Weights,
    tokenizer: Tokenizer | undefined,
    chat: ChatTemplate,
    options: Partial<LoadOptions>,
  ) {
    const { config, generation: defaults, folder } = source
    const { context, sequences, dtype, prefillTokens, cacheTokens } = sizesFor(device, source, options, true)
    this.config = config
    this.device = device
    this.tokenizer = tokenizer
    this.#sequences = sequences
    this.chat = chat
    this.#weights = weights
    this.#prefillTokens = prefillTokens
    this.#net = new NemotronH(config, weights, formatsOf(dtype, options.kvCache, options.ssmState))
    this.#scheduler = schedulerFor(this.#net, {
      sequences,
      cacheTokens,
      context,
      prefillTokens,
      prefillFirst: options.prefillFirst ?? false,
    })
    const ends = new Set([...defaults.eosIds, ...(tokenizer?.special.eos ? [tokenizer.special.eos.id] : [])])
    this.#generation = {
      scheduler: this.#scheduler,
      folder,
      vocabSize: config.vocabSize,
      context,
      bosId: config.bosId,
      defaults: { ...defaults, eosIds: [...ends] },
      tokenizer,
      chat,
    }
  }

  /**
   * Generates text from text, messages or token ids, piece by piece. Several at once share batches, and none
   * changes another's tokens. Read to the end, leave the loop, or abort: `return()` waits for a `next()` that is
   * under way, a signal does not.
   * @throws TypeError and RangeError for options and prompts that are not as they have to be; the signal's reason
   */
  generate(prompt: Prompt, options?: GenerateOptions): AsyncGenerator<Piece> {
    this.#expectLive('generate')
    return generate(this.#generation, prompt, options)
  }

  /**
   * Logits [T,V] in f32 for every token of each sequence, for evaluation. The caller disposes them.
   * @throws TypeError and RangeError for sequences that are not lists of token ids that fit; the signal's reason
   */
  async forward(sequences: readonly ArrayLike<number>[], options?: ForwardOptions): Promise<Tensor<'f32'>[]> {
    this.#expectLive('forward')
    const { signal } = check('forward', options, forwardRules)
    const ids = this.#checkSequences(sequences)
    const logits: Tensor<'f32'>[] = []
    try {
      for (let first = 0; first < ids.length; first += this.#sequences) {
        await this.#forwardGroup(ids.slice(first, first + this.#sequences), logits, signal)
      }
      return logits
    } catch (error) {
      for (const t of logits) t.dispose()
      throw error
    }
  }

  #checkSequences(sequences: unknown): Int32Array[] {
    if (!Array.isArray(sequences)) {
      throw new TypeError(`forward: sequences is ${describe(sequences)}, expected a list of token id lists`)
    }
    const { vocabSize, context } = this.#generation
    return sequences.map((ids: ArrayLike<number>, i) => {
      const name = `sequences[${i}]`
      checkValue('forward', name, ids, tokenIds)
      if (ids.length > context) {
        throw new RangeError(`forward: ${name} is ${ids.length} tokens, expected at most ${context}, the context`)
      }
      checkIds('forward', name, ids, vocabSize)
      return Int32Array.from(ids)
    })
  }

  /** Adds the logits of each of `group` to `logits`. The prompts go through in batches of at most prefillTokens. */
  async #forwardGroup(group: Int32Array[], logits: Tensor<'f32'>[], signal: AbortSignal | undefined): Promise<void> {
    const chunk = this.config.mamba?.chunkSize ?? 1
    const pools = new Pools(
      this.#net,
      group.length,
      group.reduce((sum, ids) => sum + pagesFor(ids.length), 0),
    )
    try {
      const jobs = group.map((ids) => {
        const result = empty('f32', [ids.length, this.config.vocabSize], this.device.name)
        logits.push(result)
        return { ids, result, place: pools.reserve(ids.length)!, past: 0 }
      })
      while (jobs.some(({ ids, past }) => past < ids.length)) {
        signal?.throwIfAborted()
        this.#expectLive('forward')
        let budget = this.#prefillTokens
        const segments: Segment[] = []
        const results: Tensor<'f32'>[] = []
        scope(() => {
          for (const job of jobs) {
            const { ids, result, place, past } = job
            const length = segmentLength(past, ids.length - past, budget, chunk)
            if (length === 0) continue
            segments.push({ ...place, ids: ids.subarray(past, past + length), past })
            results.push(result.rows(past, past + length))
            job.past += length
            budget -= length
          }
          const hidden = this.#net.forward(packBatch(segments, this.device.name), pools.layers)
          let start = 0
          for (const [i, { ids }] of segments.entries()) {
            this.#net.logits(hidden.rows(start, start + ids.length), false, results[i])
            start += ids.length
          }
        })
        using nothing = jobs[0]!.result.rows(0, 0)
        await nothing.read() // the batch, before the next
      }
    } finally {
      pools.dispose()
    }
  }

  /** Ends what is being generated, and frees the weights. Twice is fine. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#scheduler.dispose()
    this.#weights.dispose()
    this.tokenizer?.dispose()
    this.device.releaseCached()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  /** For `await using`: as dispose(). */
  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose()
  }

  #expectLive(op: string): void {
    if (this.#disposed) throw new Error(`${op}: the model is disposed`)
  }
}

export interface ForwardOptions {
  signal?: AbortSignal | undefined
}
const forwardRules: Rules<ForwardOptions> = { signal }
