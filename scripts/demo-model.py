"""Trains the checkpoint in demo/model: python scripts/demo-model.py TEXT OUT SECONDS

TEXT is what Debian's bible-kjv prints for `bible -f gen1:1-rev22:21`, a verse a line: "Ge1:1 In the beginning ...".
Needs torch 2.13, transformers 5.18 and tokenizers. The result depends on how many steps SECONDS has room for.
"""

import math
import random
import re
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import NemotronHConfig, NemotronHForCausalLM

BATCH, LENGTH, HELD_OUT = 12, 256, 20
BOS, EOS, PAD = 1, 2, 3


def read_chapters(path: Path) -> list[str]:
    """One document a chapter: its name on the first line, then a verse a line."""
    chapters: list[str] = []
    current = None
    for line in path.read_text().strip().split("\n"):
        book, chapter, text = re.match(r"(\d?[A-Za-z]+)(\d+):\d+ (.*)", line).groups()
        if (book, chapter) != current:
            current = (book, chapter)
            chapters.append(f"{book} {chapter}\n")
        chapters[-1] += text + "\n"
    return chapters


def train_tokenizer(chapters: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1536,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(chapters, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return tokenizer


def make_model() -> NemotronHForCausalLM:
    torch.manual_seed(1)
    model = NemotronHForCausalLM(
        NemotronHConfig(
            vocab_size=1536, hidden_size=256, hybrid_override_pattern="M-M-M*-M-", intermediate_size=768,
            num_attention_heads=4, num_key_value_heads=2, head_dim=64,
            mamba_num_heads=16, mamba_head_dim=32, ssm_state_size=64, n_groups=2, conv_kernel=4, expand=2,
            chunk_size=64, max_position_embeddings=4096, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        )
    )  # fmt: skip
    for layer in model.model.layers:
        if hasattr(layer.mixer, "time_step_limit"):
            layer.mixer.time_step_limit = (0.0, math.inf)  # transformers 5.18 would clamp dt at time_step_min, except in decoding
    return model


def sample_batch(ids: torch.Tensor) -> torch.Tensor:
    starts = torch.randint(0, len(ids) - LENGTH - 1, (BATCH,))
    return torch.stack([ids[start : start + LENGTH + 1] for start in starts])


def loss_of(model: NemotronHForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    logits = model(batch[:, :-1], use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


def train(model: NemotronHForCausalLM, ids: torch.Tensor, held: torch.Tensor, seconds: float) -> None:
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=2.5e-3, betas=(0.9, 0.95))
    start, step = time.time(), 0
    while (share := (time.time() - start) / seconds) < 1:
        warmup, cosine = min(1, (step + 1) / 60), 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = 2.5e-3 * warmup * (0.02 + 0.98 * cosine)
        loss = loss_of(model, sample_batch(ids))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 25 == 0:
            with torch.no_grad():
                print(f"step {step}: loss {loss:.3f}, held out {loss_of(model, sample_batch(held)):.3f}", flush=True)


def main(text: str, out: str, seconds: str) -> None:
    torch.set_num_threads(2)
    chapters = read_chapters(Path(text))
    tokenizer = train_tokenizer(chapters)
    random.seed(0)
    held = set(random.sample(range(len(chapters)), HELD_OUT))
    encoded = [tokenizer.encode(chapter).ids + [EOS] for chapter in chapters]
    train_ids = torch.tensor([i for n, ids in enumerate(encoded) if n not in held for i in ids])
    held_ids = torch.tensor([i for n in sorted(held) for i in encoded[n]])

    model = make_model()
    train(model, train_ids, held_ids, float(seconds))
    model.eval().to(torch.bfloat16).save_pretrained(out)
    tokenizer.save(f"{out}/tokenizer.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
