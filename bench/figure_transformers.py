"""NemotronHForCausalLM of transformers with random bf16 weights, for bench/figure.mjs: on standard input { device, config
(as lib/model/config.ts has it), runs: [{ batch, input, output }] }, on standard output { version, parameters (null where
the model does not fit), runs: [{ seconds: { prefill, decode } } or { why }] }: prefill to the first token, decode from
there to the last of `output`. Greedy. Exits 1 where there is no torch, no transformers, or no GPU for the device 'cuda'.
"""
import json
import sys
import time

try:
    import torch
    import transformers
    from transformers import LogitsProcessor, LogitsProcessorList, NemotronHConfig, NemotronHForCausalLM
except ImportError as error:
    sys.exit(f"figure_transformers.py: {error}")

KINDS = {"mamba2": "linear_attention", "attention": "full_attention", "mlp": "mlp"}


def config_of(c):
    attention, mamba = c["attention"], c["mamba"]
    return NemotronHConfig(
        vocab_size=c["vocabSize"],
        hidden_size=c["hiddenSize"],
        layers_block_type=[KINDS[kind] for kind in c["layers"]],
        num_attention_heads=attention["heads"],
        num_key_value_heads=attention["kvHeads"],
        head_dim=attention["headDim"],
        intermediate_size=c["mlp"]["intermediateSize"],
        mamba_num_heads=mamba["heads"],
        mamba_head_dim=mamba["headDim"],
        n_groups=mamba["groups"],
        ssm_state_size=mamba["stateSize"],
        conv_kernel=mamba["convKernel"],
        chunk_size=mamba["chunkSize"],
        layer_norm_epsilon=c["normEps"],
        max_position_embeddings=1 << 20,
        bos_token_id=c["bosId"],
        eos_token_id=c["eosIds"],
        pad_token_id=0,
    )


def model_of(config, device):
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = NemotronHForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    for layer in model.model.layers:
        if hasattr(layer.mixer, "time_step_limit"):
            layer.mixer.time_step_limit = (0.0, float("inf"))  # as published; 5.18 has its own lower limit
    return model


def now(device):
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class FirstLogits(LogitsProcessor):
    """When generate() has the logits of the first token; it changes none."""

    def __init__(self, device):
        self.device, self.time = device, None

    def __call__(self, ids, scores):
        if self.time is None:
            self.time = now(self.device)
        return scores


def generate(model, ids, tokens, device):
    """Seconds to the first token of each row of ids, and from there to the last of `tokens`."""
    first = FirstLogits(device)
    began = now(device)
    out = model.generate(
        ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, logits_processor=LogitsProcessorList([first])
    )
    end = now(device)
    assert out.shape[1] == ids.shape[1] + tokens, f"{out.shape[1] - ids.shape[1]} tokens, expected {tokens}"
    return {"prefill": first.time - began, "decode": end - first.time}


def measure(model, run, device):
    ids = torch.randint(3, model.config.vocab_size, (run["batch"], run["input"]), device=device)
    generate(model, ids, 4, device)  # warms up: Triton tunes for these lengths once
    return generate(model, ids, run["output"], device)


def main():
    asked = json.load(sys.stdin)
    device = asked["device"]
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("figure_transformers.py: torch finds no GPU")
    runs = []
    with torch.inference_mode():
        try:
            model = model_of(config_of(asked["config"]), device)
        except torch.cuda.OutOfMemoryError:
            model = None
        for run in asked["runs"]:
            try:
                if model is None:
                    raise torch.cuda.OutOfMemoryError
                runs.append({"seconds": measure(model, run, device)})
            except torch.cuda.OutOfMemoryError:
                runs.append({"why": "does not fit"})
            except Exception as error:  # one length that it refuses is no reason to lose the other
                print(f"figure_transformers.py: {run}: {error!r}", file=sys.stderr)
                runs.append({"why": f"{type(error).__name__}"})
    parameters = model and sum(weight.numel() for weight in model.parameters())
    print(json.dumps({"version": transformers.__version__, "parameters": parameters, "runs": runs}))


if __name__ == "__main__":
    main()
