"""Writes test/golden: tiny checkpoints with the logits and greedy tokens transformers gives for them.

Each model is saved, respelt as its row asks, and loaded back; the expected numbers come from the files as loaded, in
float32, one unpadded sequence at a time, without a cache. How to run it: test/golden/README.md.
"""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import LlamaForCausalLM, NemotronHForCausalLM, Qwen2ForCausalLM
from transformers.utils import logging

GOLDEN = Path(__file__).parent.parent / 'test' / 'golden'
MIN_MARGIN = 5e-3  # between the two best logits of a greedy step: far above f32 noise, so tokens compare exactly
GREEDY = [(1, 40), (5, 32), (18, 24)]  # (prompt length, new tokens)
LAYER_TYPES = {'M': 'linear_attention', '*': 'full_attention', '-': 'mlp'}
# In what transformers 5 writes, but not in the config.json files of 2025.
LATER_KEYS = ('mamba_ssm_cache_dtype', 'n_group', 'n_routed_experts', 'n_shared_experts', 'norm_topk_prob',
              'num_experts_per_tok', 'num_nextn_predict_layers', 'routed_scaling_factor', 'topk_group')
LEGACY_TYPES = {'linear_attention': 'mamba', 'full_attention': 'attention', 'mlp': 'mlp'}


def nemotron_h(pattern, *, d, heads, p, groups, n, q, attention=(4, 2, 16), **more):
    """d model, p head, n state and q chunk are widths; attention is (query heads, KV heads, head width)."""
    query_heads, kv_heads, head_dim = attention
    return dict(layers_block_type=[LAYER_TYPES[c] for c in pattern], hidden_size=d, intermediate_size=2 * d + 8,
                mamba_num_heads=heads, mamba_head_dim=p, n_groups=groups, ssm_state_size=n, chunk_size=q,
                num_attention_heads=query_heads, num_key_value_heads=kv_heads, head_dim=head_dim,
                max_position_embeddings=512, **more)


def transformer(*, d, layers, heads, kv_heads, **more):
    return dict(hidden_size=d, intermediate_size=2 * d + 8, num_hidden_layers=layers, num_attention_heads=heads,
                num_key_value_heads=kv_heads, max_position_embeddings=512, **more)


def hub_nemotron_h(config):
    """The spelling of the config.json files of 2025: pattern string, attention_head_dim, torch_dtype, bare Infinity."""
    for key in [key for key in config if key in LATER_KEYS or key.startswith(('moe_', 'mtp_'))]:
        del config[key]
    types = config.pop('layers_block_type')
    config['hybrid_override_pattern'] = ''.join({v: k for k, v in LAYER_TYPES.items()}[t] for t in types)
    config.update(num_hidden_layers=len(types), attention_head_dim=config.pop('head_dim'),
                  torch_dtype=config.pop('dtype'), time_step_limit=[0.0, math.inf],
                  rms_norm_eps=config['layer_norm_epsilon'], transformers_version='4.48.0.dev0')


def legacy_layer_names(config):
    config['layers_block_type'] = [LEGACY_TYPES[t] for t in config['layers_block_type']]


def hub_rope(config):
    """As before transformers 5: rope_theta beside an optional rope_scaling, and head_dim left to hidden / heads."""
    config.pop('head_dim', None)
    scaling = config.pop('rope_parameters')
    config.update(rope_theta=scaling.pop('rope_theta'), torch_dtype=config.pop('dtype'), transformers_version='4.46.3')
    if scaling['rope_type'] != 'default':
        config['rope_scaling'] = scaling


def hub_qwen2(config):
    """With a sliding_window, shorter than the sequences, that use_sliding_window turns off, as in the hub's files."""
    hub_rope(config)
    config.pop('layer_types')
    config['sliding_window'] = 8


def edges(q):
    return [1, 2, q - 1, q, q + 1, 3 * q + 7]


NH, LL, QW = NemotronHForCausalLM, LlamaForCausalLM, Qwen2ForCausalLM
LLAMA3 = dict(rope_type='llama3', rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)  # head 16: wavelengths 6 | 20, 63 | 199 and up, one band each
# Class, vocabulary, seed, sequence lengths, config; then what differs from a plain float32 save: dtype, float32 (the
# tensors kept in it), shard (bytes), respell (rewrites config.json), prefix (of tensor names), strong (decay).
ROWS = {
    'nemotron-h-hybrid': (
        NH, 128, 0, edges(8), nemotron_h('M-M*-', d=48, heads=6, p=16, groups=2, n=16, q=8), {}),
    'nemotron-h-hub': (
        NH, 160, 0, edges(16),
        nemotron_h('M-M*-M-', d=64, heads=12, p=10, groups=4, n=16, q=16, attention=(4, 1, 24)),
        dict(dtype=torch.bfloat16, shard=140_000, respell=hub_nemotron_h)),
    'nemotron-h-heads-are-groups': (
        NH, 96, 1, edges(8), nemotron_h('M*-M', d=32, heads=4, p=20, groups=4, n=8, q=8),
        dict(dtype=torch.float16, respell=legacy_layer_names, prefix='model.', strong=True)),
    'nemotron-h-one-group': (
        NH, 96, 1, edges(16), nemotron_h('-M*M', d=32, heads=8, p=8, groups=1, n=32, q=16, attention=(4, 4, 8)),
        dict(dtype=torch.bfloat16, float32=('A_log', 'D', 'dt_bias'))),
    'nemotron-h-mamba-only': (
        NH, 96, 7, edges(8),
        nemotron_h('MM', d=32, heads=4, p=16, groups=2, n=16, q=8, layer_norm_epsilon=1e-3,
                   time_step_limit=(0.01, 0.25)), {}),
    'nemotron-h-runs': (
        NH, 112, 0, edges(8), nemotron_h('MM**--', d=32, heads=6, p=12, groups=2, n=8, q=8), {}),
    'llama-llama3-rope': (
        LL, 96, 2, [1, 2, 15, 37, 101],
        transformer(d=64, layers=2, heads=4, kv_heads=2, rope_parameters=LLAMA3), dict(respell=hub_rope)),
    'llama-tied': (
        LL, 96, 0, [1, 2, 15, 37],
        transformer(d=48, layers=2, heads=6, kv_heads=3, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5,
                    rope_parameters=dict(rope_type='default', rope_theta=5e5)), {}),
    'qwen2-untied': (
        QW, 128, 0, [1, 2, 15, 37],
        transformer(d=48, layers=3, heads=4, kv_heads=2, rope_parameters=dict(rope_type='default', rope_theta=1e6)),
        dict(dtype=torch.bfloat16, respell=hub_qwen2)),
    'qwen2-tied': (
        QW, 96, 0, [1, 2, 15, 37],
        transformer(d=32, layers=2, heads=4, kv_heads=4, tie_word_embeddings=True, use_sliding_window=False), {}),
}


def spread(low, high, count):
    """Evenly spaced values in random order."""
    return torch.linspace(low, high, count)[torch.randperm(count)]


def initialise(model, strong=False):
    """Random weights that exercise every term: dt about 1e-4 to 1, decay none to e^-16 a step (strong: to e^-400)."""
    tied = model.config.tie_word_embeddings  # then a larger gain, or every token would predict itself
    for name, weight in model.named_parameters():
        kind, leaf = name.split('.')[-2:]
        if leaf == 'A_log':
            value = spread(2, 5, len(weight)) if strong else spread(-8, math.log(16), len(weight))
        elif leaf == 'D':
            value = spread(-0.5, 1.5, len(weight))
        elif leaf == 'dt_bias':
            dt = 10 ** (spread(-1, 0.5, len(weight)) if strong else spread(-4, 0, len(weight)))
            value = dt + torch.log(-torch.expm1(-dt))  # inverse of softplus
        elif 'norm' in kind:
            value = 0.6 + 0.8 * torch.rand(weight.shape)
        elif leaf == 'bias':
            value = 0.4 * torch.randn(weight.shape)
        elif kind in ('embeddings', 'embed_tokens'):
            value = torch.randn(weight.shape) * (1.5 / math.sqrt(weight.shape[1]) if tied else 1)
        elif kind == 'lm_head':
            value = torch.randn(weight.shape) * 2 / math.sqrt(weight.shape[1])  # logits of standard deviation about 2
        else:
            value = torch.randn(weight.shape) * (2 if tied else 1) / math.sqrt(weight[0].numel())
        weight.data = value


def write_checkpoint(folder, kind, vocab, seed, config, dtype=torch.float32, float32=(), shard='1GB', respell=None,
                     prefix=None, strong=False):
    torch.manual_seed(seed)
    model = kind(kind.config_class(vocab_size=vocab, **config))
    initialise(model, strong)
    for name, weight in model.named_parameters():
        weight.data = weight.data.to(torch.float32 if name.endswith(float32) else dtype)
    model.config.dtype = dtype
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shard)
    if respell:
        file = folder / 'config.json'
        config = json.loads(file.read_text())
        respell(config)
        file.write_text(json.dumps(dict(sorted(config.items())), indent=2) + '\n')
    if prefix:
        file = folder / 'model.safetensors'
        tensors = {name.replace('backbone.', prefix): tensor for name, tensor in load_file(file).items()}
        save_file(tensors, file, metadata={'format': 'pt'})


def load(folder, kind):
    config = json.loads((folder / 'config.json').read_text())
    translated = {'head_dim': config['attention_head_dim']} if 'attention_head_dim' in config else {}
    model, info = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation='eager',
                                       output_loading_info=True, **translated)
    assert not any(info.values()), info
    for module in model.modules():
        if hasattr(module, 'time_step_limit'):  # transformers 5.18 puts (time_step_min, inf) here
            module.time_step_limit = tuple(model.config.time_step_limit)
    return model.eval()


@torch.no_grad()
def logits(model, ids):
    return model(input_ids=ids[None].long(), use_cache=False).logits[0]


def greedy(model, prompt, count):
    ids, margins = prompt, []
    for _ in range(count):
        best = logits(model, ids)[-1].topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[:1].int()])
    new = ids[len(prompt):].tolist()
    assert min(margins) >= MIN_MARGIN, f'a greedy margin is {min(margins)}: choose another seed'
    assert model.config.eos_token_id not in new, 'greedy tokens contain eos: choose another seed'
    return dict(prompt=prompt.tolist(), greedy=new, margins=[float(f'{m:.3g}') for m in margins])


def write_model(name):
    kind, vocab, seed, lengths, config, more = ROWS[name]
    folder = GOLDEN / name
    write_checkpoint(folder, kind, vocab, seed, config, **more)
    model = load(folder, kind)
    random = torch.Generator().manual_seed(seed)
    draw = lambda length: torch.randint(3, vocab, (length,), dtype=torch.int32, generator=random)
    sequences = [draw(length) for length in lengths]
    outputs = [logits(model, ids) for ids in sequences]
    continuations = [greedy(model, draw(length), count) for length, count in GREEDY]
    expected = {f'ids.{i}': ids for i, ids in enumerate(sequences)}
    expected |= {f'logits.{i}': output.contiguous() for i, output in enumerate(outputs)}
    save_file(expected, folder / 'expected.safetensors')
    (folder / 'expected.json').write_text('[\n' + ',\n'.join(map(json.dumps, continuations)) + '\n]\n')
    margin = min(min(c['margins']) for c in continuations)
    distinct = [len(set(c['greedy'])) for c in continuations]
    print(f'{name:30} logits std {torch.cat(outputs).std():.2f}, least greedy margin {margin}, distinct {distinct}')


FP8 = {'e4m3': (torch.float8_e4m3fn, 448.0, 0x7F), 'e5m2': (torch.float8_e5m2, 57344.0, 0x7E)}  # dtype, largest, NaN


def unsigned(x):
    """The bit patterns of a tensor, as unsigned integers."""
    bits = x.view({1: torch.uint8, 2: torch.int16, 4: torch.int32}[x.element_size()]).long()
    return (bits & (1 << 8 * x.element_size()) - 1).tolist()


def cast(x, dtype, largest=None, nan=None):
    """Bit patterns of x rounded to nearest even; with largest, saturating (infinities too). Every NaN becomes `nan`."""
    rounded = (x if largest is None else x.clamp(-largest, largest)).to(dtype)
    return [nan if is_nan else bits for bits, is_nan in zip(unsigned(rounded), x.isnan().tolist())]


def f32(*bits):
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


def write_casts():
    """Around every boundary of each format: the value, the tie above it, and the f32 neighbours of both."""
    points = [0.0, 1.0, 3.1415927, math.inf, math.nan, 65520, 3.4028235e38, 3.3895314e38, 3.3961775e38]
    for mantissa, least_normal, largest in ((2, -14, 57344), (3, -6, 448), (10, -14, 65504), (7, -126, 2.0**127)):
        step = 2.0 ** (least_normal - mantissa)  # the smallest subnormal
        points += [step * k / 2 for k in (1, 2, 3, 5)] + [2.0**least_normal, 2.0**least_normal - step / 2]
        half = 2.0 ** -(mantissa + 1)  # of the step at 1
        points += [1 + half, 1 + 3 * half, largest, largest * (1 + half / 2)]
    bits = {1, 2, 0x007FFFFF, 0x7F800001, 0x7FFFFFFF, 0x7F7FFFFF}
    for b in unsigned(torch.tensor(points)):
        bits |= {b, b - 1, b + 1} if 0 < b < 0x7F800000 else {b}
    bits = sorted(bits)
    random = torch.randn(24, generator=torch.Generator().manual_seed(1)) * 10 ** torch.linspace(-9, 7, 24)
    x = torch.cat([f32(*bits), f32(*(b | 0x80000000 for b in bits[::3])), random])
    table = dict(f32=unsigned(x), bf16=cast(x, torch.bfloat16, nan=0x7FC0), f16=cast(x, torch.float16, nan=0x7E00))
    table |= {name: cast(x, *fp8) for name, fp8 in FP8.items()}
    columns = ',\n'.join(f'"{name}": {json.dumps(values)}' for name, values in table.items())
    (GOLDEN / 'casts.json').write_text('{\n' + columns + '\n}\n')
    print(f'casts.json: {len(x)} values')


def scale_from_amax(amax, largest):
    """compute_scale_from_amax of Transformer Engine, with amax_epsilon 0 and no rounding to a power of two."""
    if amax.isinf() or amax.isnan() or amax == 0:
        return torch.ones(())
    # Both operands tensors: torch computes `number / tensor` as a product with the reciprocal, which rounds twice.
    return (torch.tensor(largest) / amax).clamp(max=torch.finfo(torch.float32).max)


def quantized(x, dtype, largest, nan):
    amax = F.pad(x[~x.isnan()].abs(), (0, 1)).max()  # starts at 0 and ignores NaN, as fmaxf does
    scale = scale_from_amax(amax, largest)
    one = lambda t: unsigned(t.reshape(1))[0]
    return dict(amax=one(amax), scale=one(scale), scale_inv=one(1 / scale), fp8=cast(x * scale, dtype, largest, nan))


def write_quantize():
    normal = torch.randn(24, generator=torch.Generator().manual_seed(2))
    inputs = dict(normal=normal, tiny=normal * 1e-20, wide=normal * 10 ** torch.linspace(-9, 4, 24),
                  ties=torch.tensor([448, 17, 19, 21, -17, -23, 2**-9, 2**-10, 3 * 2**-10, -(2**-10), 2**-16, 2**-17]),
                  zeros=f32(0, 0x80000000, 0), infinity=torch.tensor([1.0, math.inf, -500, 60000, -70000, 0.3]),
                  minus_infinity=torch.tensor([-math.inf, 0.01, -2]), nan=torch.tensor([math.nan, 3.0, -7, 0.5]),
                  only_nan=f32(0x7FC00000, 0xFFC00000), nan_and_infinity=torch.tensor([math.nan, math.inf, 2.5]),
                  subnormal=f32(1, 0x80000003, 0x00012345, 0), one=torch.tensor([-0.1]), empty=torch.tensor([]),
                  largest=f32(0x7F7FFFFF, 0xFF000000, 0x3F800000, 0x00800000))
    amaxes = torch.cat([torch.tensor([0, 1, 448, 57344, 0.1, 0.7, 3, 7, 1234.567, 1e-36, 1.4e-36, 1.6e-34, 1.7e-34]),
                        torch.tensor([math.inf, math.nan]), f32(1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF)])
    scales = {f: unsigned(torch.stack([scale_from_amax(amax, FP8[f][1]) for amax in amaxes])) for f in FP8}
    cases = [dict(name=name, x=unsigned(x), **{f: quantized(x, *FP8[f]) for f in FP8}) for name, x in inputs.items()]
    (GOLDEN / 'quantize.json').write_text(
        '{"scales": ' + json.dumps(dict(amax=unsigned(amaxes), **scales)) + ',\n"tensors": [\n'
        + ',\n'.join(map(json.dumps, cases)) + '\n]}\n')
    print(f'quantize.json: {len(amaxes)} scales, {len(cases)} tensors')


if __name__ == '__main__':
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for name in ROWS:
        write_model(name)
    write_casts()
    write_quantize()
    for folder in [GOLDEN, *(GOLDEN / name for name in ROWS)]:
        print(f'{sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()):9,} bytes in {folder.name}')
