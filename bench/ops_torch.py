"""PyTorch's times for what bench/ops.mjs measures, and the machine's ceilings: a JSON list of [kind, sizes...] on
standard input, { times: { its JSON: seconds }, ceilings: { copy (bytes read and written a second), bf16, fp8 (flops a
second) }, device, driver, version } on standard output. Exits 1 where there is no torch or no GPU.
"""
import json
import subprocess
import sys

try:
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError:
    sys.exit("ops_torch.py: torch is not installed")
if not torch.cuda.is_available():
    sys.exit("ops_torch.py: torch finds no GPU")

BF16, FP8 = torch.bfloat16, torch.float8_e4m3fn
CACHE = 256 << 20


def normal(*shape, dtype=BF16):
    return torch.randn(*shape, device="cuda", dtype=torch.float32).to(dtype)


def seconds(make, bytes_moved):
    """The median time of a call, rotating through calls whose tensors together exceed the caches."""
    calls = [make() for _ in range(max(1, min(16, -(-CACHE // max(1, bytes_moved)))))]
    for call in calls * 2:
        call()
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    calls[0]()
    end.record()
    end.synchronize()
    repeats = max(len(calls), min(1000, int(20 / max(1e-3, start.elapsed_time(end)))))
    times = []
    for _ in range(5):
        start.record()
        for i in range(repeats):
            calls[i % len(calls)]()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000 / repeats)
    return sorted(times)[2]


def matmul(m, n, k):
    def make():
        x, w = normal(m, k), normal(n, k)
        return lambda: F.linear(x, w)
    return make


def matmul_of(transpose_a, transpose_b):
    def kind(m, n, k):
        def make():
            a = normal(k, m).t() if transpose_a else normal(m, k)
            b = normal(n, k).t() if transpose_b else normal(k, n)
            return lambda: a @ b
        return make
    return kind


def fp8_matmul(m, n, k, fast=True):
    def make():
        x, w, one = normal(m, k, dtype=FP8), normal(n, k, dtype=FP8), torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(x, w.t(), one, one, out_dtype=BF16, use_fast_accum=fast)
    return make


def of_rows(function, *, inputs=1, dtype=BF16):
    def kind(t, d):
        def make():
            tensors = [normal(t, d, dtype=dtype) for _ in range(inputs)]
            return lambda: function(*tensors)
        return make
    return kind


def embedding(t, d, v):
    def make():
        table, ids = normal(v, d), torch.randint(v, (t,), device="cuda")
        return lambda: F.embedding(ids, table)
    return make


def rms_norm(t, d):
    def make():
        x, w = normal(t, d), normal(d)
        return lambda: F.rms_norm(x, (d,), w)
    return make


def attention(t, heads, kv_heads, width):
    """By each backend, of which the fastest counts."""
    def by(backend):
        def make():
            q, k, v = normal(1, heads, t, width), normal(1, kv_heads, t, width), normal(1, kv_heads, t, width)

            def call():
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            return call
        return make
    return [by(SDPBackend.CUDNN_ATTENTION), by(SDPBackend.FLASH_ATTENTION)]


def ssm_scan(t, heads, width, groups, state, chunk):
    """The published Triton pipeline, where mamba_ssm is installed."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    def make():
        x, dt = normal(1, t, heads, width), normal(1, t, heads)
        b, c = normal(1, t, groups, state), normal(1, t, groups, state)
        ones = torch.ones(heads, device="cuda")
        return lambda: mamba_chunk_scan_combined(x, dt, -ones, b, c, chunk, D=ones, dt_bias=ones, dt_softplus=True)
    return make


def ssm_step(s, heads, width, groups, state):
    from mamba_ssm.ops.triton.selective_state_update import selective_state_update

    def make():
        h, x = normal(s, heads, width, state, dtype=torch.float32), normal(s, heads, width)
        b, c = normal(s, groups, state), normal(s, groups, state)
        dt, ones = normal(s, heads, 1).expand(-1, -1, width), torch.ones(heads, 1, device="cuda").expand(-1, width)
        a = -ones[:, :, None].expand(-1, -1, state)
        return lambda: selective_state_update(h, x, dt, a, b, c, D=ones, dt_bias=ones, dt_softplus=True)
    return make


KINDS = {
    "embedding": embedding,
    "cast": of_rows(lambda x: x.to(BF16), dtype=torch.float32),
    "rms_norm": rms_norm,
    "add_rms_norm": of_rows(lambda r, x: F.rms_norm(r.add_(x), (x.shape[1],)), inputs=2),
    "relu2": of_rows(lambda x: F.relu(x).square()),
    "silu_mul": of_rows(lambda gate, up: F.silu(gate) * up, inputs=2),
    "amax": of_rows(lambda x: x.abs().amax()),
    "row_amax": of_rows(lambda x: x.abs().amax(1)),
    "quantize": of_rows(lambda x: (x * 112.0).clamp(-448, 448).to(FP8)),
    "linear": matmul,
    "fp8_linear": fp8_matmul,
    "matmul_nn": matmul_of(False, False),
    "matmul_tn": matmul_of(True, False),
    "matmul_tt": matmul_of(True, True),
    "attention": attention,
    "ssm_scan": ssm_scan,
    "ssm_step": ssm_step,
    "argmax": of_rows(lambda x: x.argmax(1), dtype=torch.float32),
    "multinomial": of_rows(lambda x: torch.multinomial(x.softmax(1), 1), dtype=torch.float32),
    "log_probs": of_rows(lambda x: x.log_softmax(1), dtype=torch.float32),
}


def ceilings():
    n = 2 << 30
    source, target = (torch.empty(n, device="cuda", dtype=torch.uint8) for _ in range(2))
    copy = 2 * n / seconds(lambda: lambda: target.copy_(source), 2 * n)
    del source, target
    size = 8192
    bf16 = 2 * size**3 / seconds(matmul(size, size, size), CACHE)
    # GPUs before 8.9 have no fp8: products widen it.
    has_fp8 = torch.cuda.get_device_capability() >= (8, 9)
    fp8 = 2 * size**3 / seconds(fp8_matmul(size, size, size), CACHE) if has_fp8 else bf16
    return {"copy": copy, "bf16": bf16, "fp8": fp8}


def driver():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True).stdout.strip().split("\n")[0]
    except OSError:
        return None


def main():
    times = {}
    for asked in json.load(sys.stdin):
        kind, *sizes = asked
        key = json.dumps(asked, separators=(",", ":"))
        try:
            ways = KINDS[kind](*sizes)
        except ImportError as error:
            print(f"ops_torch.py: {asked}: {error}", file=sys.stderr)
            continue
        for make in ways if isinstance(ways, list) else [ways]:
            try:
                times[key] = min(seconds(make, 2 * sizes[0] * sizes[1]), times.get(key, float("inf")))
            except Exception as error:  # one shape that torch refuses is no reason to lose the others
                print(f"ops_torch.py: {asked}: {error}", file=sys.stderr)
            torch.cuda.empty_cache()
    print(json.dumps({
        "times": times,
        "ceilings": ceilings(),
        "device": torch.cuda.get_device_name(),
        "driver": driver(),
        "version": torch.__version__,
    }))


if __name__ == "__main__":
    main()
