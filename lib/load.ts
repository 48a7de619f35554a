/** load(folder): a checkpoint as a model that generates text. */
import { binding } from './binding.js'
import { type Checkpoint, openCheckpoint } from './checkpoint/folder.js'
import { type LoadProgress, loadWeights, type WeightFormat } from './checkpoint/weights.js'
import {
  checkIds,
  type GenerateOptions,
  type GenerationContext,
  generate,
  type Piece,
  type Prompt,
} from './generate.js'
import type { Config } from './model/config.js'
import type { Weights } from './model/layer.js'
import type { ActivationScaling } from './model/linear.js'
import { NemotronH } from './model/nemotron-h.js'
import { Pools, packBatch, pagesFor, type Segment, segmentLength } from './model/pools.js'
import { callback, check, checkValue, describe, integer, oneOf, type Rules, signal, string } from './options.js'
import { Scheduler } from './scheduler.js'
import { scope } from './scope.js'
import { type Act, empty, type Tensor } from './tensor.js'
import { ChatTemplate } from './text/chat.js'
import { Tokenizer } from './text/tokenizer.js'

export interface LoadOptions {
  /** Where the model runs. */
  device?: 'cpu' | 'cuda' | undefined
  /** Element type of activations and of the caches; f32 on the CPU, bf16 on a GPU. */
  dtype?: Act | undefined
  /** What matrices are kept in: f32, bf16, or fp8 (E4M3, one scale each); as stored where absent. */
  weights?: WeightFormat | undefined
  /** With weights 'fp8': how many matrix products at each end of the model stay bf16; 4, as published. */
  bf16Gemms?: number | undefined
  /** How activations meet fp8 weights: scaled by 'row' (default), by 'tensor' (as published), or 'none'. */
  activationScaling?: ActivationScaling | undefined
  /** Tokens that one sequence may have; the model's own limit. */
  context?: number | undefined
  /** Sequences at a time; 8. More wait their turn. */
  sequences?: number | undefined
  /** Tokens of keys and values of all sequences together; the context, or 65,536 if the sequences can fill that. */
  cacheTokens?: number | undefined
  /** Prompt tokens in one batch; 512. An abort acts between batches. */
  prefillTokens?: number | undefined
  onProgress?: ((progress: LoadProgress) => void) | undefined
  signal?: AbortSignal | undefined
}

const rules: Rules<LoadOptions> = {
  device: oneOf('cpu', 'cuda'),
  dtype: oneOf('f32', 'bf16'),
  weights: oneOf('f32', 'bf16', 'fp8'),
  bf16Gemms: integer({ min: 0 }),
  activationScaling: oneOf('row', 'tensor', 'none'),
  context: integer({ min: 1, max: 2 ** 31 - 1 }),
  sequences: integer({ min: 1, max: 65536 }),
  cacheTokens: integer({ min: 1, max: 2 ** 31 - 1 }),
  prefillTokens: integer({ min: 1 }),
  onProgress: callback(),
  signal,
}

/**
 * Loads a Hugging Face model folder: NemotronHForCausalLM, LlamaForCausalLM or Qwen2ForCausalLM, in safetensors.
 * @throws Error naming the file, key or tensor that is missing or not as it has to be; the signal's reason
 */
export async function load(folder: string, options?: LoadOptions): Promise<Model> {
  checkValue('load', 'folder', folder, string)
  const checked = check('load', options, rules)
  const { device = 'cpu', weights: format, onProgress, signal } = checked
  if (device !== 'cpu') binding.empty('u8', [0], device).dispose() // says why there is none
  const checkpoint = await openCheckpoint(folder, { signal })
  const tokenizer = await Tokenizer.find(folder, { signal }) // before the weights: what is broken shows at once
  try {
    const chat = await ChatTemplate.load(folder)
    const weights = await loadWeights(checkpoint, {
      format,
      bf16Gemms: checked.bf16Gemms ?? 4,
      activations: checked.activationScaling ?? 'row',
      onProgress,
      signal,
    })
    try {
      return new Model(checkpoint, weights, tokenizer, chat, checked)
    } catch (error) {
      weights.dispose()
      throw error
    }
  } catch (error) {
    tokenizer?.dispose()
    throw error
  }
}

/** A loaded model. It owns its weights and the state of its sequences; dispose() ends them all. */
export class Model {
  readonly config: Config
  /** Absent for a folder without tokenizer.json: such a model takes and gives token ids. */
  readonly tokenizer: Tokenizer | undefined
  readonly chat: ChatTemplate
  readonly #weights: Weights
  readonly #net: NemotronH
  readonly #scheduler: Scheduler
  readonly #generation: GenerationContext
  readonly #prefillTokens: number
  #disposed = false

  /** Made by load(). */
  constructor(
    checkpoint: Checkpoint,
    weights: Weights,
    tokenizer: Tokenizer | undefined,
    chat: ChatTemplate,
    options: Partial<LoadOptions>,
  ) {
    const { config, generation: defaults, folder } = checkpoint
    const context = options.context ?? config.maxPositions
    const sequences = options.sequences ?? 8
    const cacheTokens = options.cacheTokens ?? Math.max(context, Math.min(sequences * context, 65536))
    if (cacheTokens < context) {
      throw new RangeError(`load: cacheTokens is ${cacheTokens}, expected at least the context, ${context}`)
    }
    this.config = config
    this.tokenizer = tokenizer
    this.chat = chat
    this.#weights = weights
    this.#prefillTokens = Math.max(options.prefillTokens ?? 512, config.mamba?.chunkSize ?? 1)
    this.#net = new NemotronH(config, weights, options.dtype ?? 'f32')
    this.#scheduler = new Scheduler(this.#net, { sequences, cacheTokens, prefillTokens: this.#prefillTokens })
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
   * changes another's tokens.
   * @throws TypeError and RangeError for options and prompts that are not as they have to be; the signal's reason
   */
  generate(prompt: Prompt, options?: GenerateOptions): AsyncGenerator<Piece> {
    this.#expectLive('generate')
    return generate(this.#generation, prompt, options)
  }

  /**
   * Logits [T,V] in f32 for every token of each sequence, for evaluation. The caller disposes them.
   * @throws RangeError for ids out of the vocabulary or an empty sequence; the signal's reason
   */
  async forward(sequences: readonly ArrayLike<number>[], options?: ForwardOptions): Promise<Tensor<'f32'>[]> {
    this.#expectLive('forward')
    const { signal } = check('forward', options, forwardRules)
    if (!Array.isArray(sequences)) {
      throw new TypeError(`forward: sequences is ${describe(sequences)}, expected a list of token id lists`)
    }
    const { vocabSize, mamba } = this.config
    sequences.forEach((ids, i) => {
      checkIds('forward', `sequences[${i}]`, ids, vocabSize)
    })
    const pages = sequences.reduce((sum, ids) => sum + pagesFor(ids.length), 0)
    const pools = new Pools(this.#net, sequences.length, pages)
    const logits: Tensor<'f32'>[] = []
    try {
      for (const ids of sequences) logits.push(empty('f32', [ids.length, vocabSize]))
      const places = sequences.map((ids) => pools.reserve(ids.length)!)
      const past = sequences.map(() => 0)
      while (past.some((n, i) => n < sequences[i]!.length)) {
        signal?.throwIfAborted()
        this.#expectLive('forward')
        let budget = this.#prefillTokens
        const segments: (Segment & { index: number })[] = []
        sequences.forEach((ids, index) => {
          const length = segmentLength(past[index]!, ids.length - past[index]!, budget, mamba?.chunkSize ?? 1)
          if (length === 0) return
          const piece = Array.prototype.slice.call(ids, past[index]!, past[index]! + length)
          segments.push({ ...places[index]!, ids: piece, past: past[index]!, index })
          budget -= length
        })
        scope(() => {
          const hidden = this.#net.forward(packBatch(segments, false), pools.layers)
          let start = 0
          for (const { index, ids } of segments) {
            const rows = logits[index]!.rows(past[index]!, past[index]! + ids.length)
            this.#net.logits(hidden.rows(start, start + ids.length), rows)
            start += ids.length
            past[index]! += ids.length
          }
        })
        using nothing = logits[segments[0]!.index]!.rows(0, 0)
        await nothing.read()
      }
      return logits
    } catch (error) {
      for (const t of logits) t.dispose()
      throw error
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
    binding.releaseCached()
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
