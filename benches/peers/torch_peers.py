#!/usr/bin/env python3
"""Weighted cross-entropy, forward and backward, by PyTorch on CUDA: eager, torch.compile, and Liger where it is installed.

    python3 benches/peers/torch_peers.py             # a table
    python3 benches/peers/torch_peers.py --json      # the last line is JSON, as `cargo bench --bench report -- --json` prints it
    python3 benches/peers/torch_peers.py --dtype bfloat16 --shape 8192x1000

The shapes, the labels' skew and the bytes that are counted are those of `cargo bench --bench report`, so that
`cargo bench --bench report -- --compare ours.json torch.json` puts both side by side. Losses and gradients of the others are
held against eager's in float64 before anything is timed.
"""

import argparse
import json
import statistics
import sys

SHAPES = [
    (1_000_000, 2),
    (1_000_000, 10),
    (1_000_000, 19),
    (65_536, 100),
    (32_768, 256),
    (8_192, 1_000),
    (8_192, 32_000),
    (4_096, 50_257),
    (8_192, 128_256),
    (16, 262_144),
]
SAMPLES = 7
# Of each sample, in milliseconds: long enough for a clock.
LONG_ENOUGH = 20.0


def load_torch():
    """PyTorch with a CUDA device, or an exit that says what is missing."""
    try:
        import torch
    except ImportError:
        sys.exit("torch_peers.py: PyTorch is not installed; see https://pytorch.org/get-started/locally")
    if not torch.cuda.is_available():
        sys.exit(f"torch_peers.py: PyTorch {torch.__version__} sees no CUDA device; these peers are timed on CUDA only")
    return torch


def load_liger():
    """Liger's cross-entropy, or None."""
    try:
        from liger_kernel.transformers.functional import liger_cross_entropy
    except ImportError:
        print("Liger is not installed (pip install liger-kernel): it is left out", file=sys.stderr)
        return None
    return liger_cross_entropy


def traffic(rows, classes, logit_bytes):
    """Bytes that a step must move: logits read and gradients written once, 8 bytes a row, and class weights."""
    return rows * classes * 2 * logit_bytes + rows * 8 + min(rows, classes) * 4


def batch(torch, rows, classes, dtype):
    """Skewed labels, logits between -8 and 8 with every second row sure of its label, weights from 1 to 4."""
    generator = torch.Generator(device="cuda").manual_seed(classes << 32 | rows)
    labels = (torch.rand(rows, generator=generator, device="cuda").square() * classes).long()
    logits = 8 * (2 * torch.rand(rows, classes, generator=generator, device="cuda") - 1) ** 3
    sure = torch.arange(0, rows, 2, device="cuda")
    logits[sure, labels[sure]] += 6
    weights = 1 + torch.arange(classes, device="cuda").remainder(4).float()
    return logits.to(dtype), labels, weights


def milliseconds(torch, run):
    """The median over some samples, by CUDA events."""

    def sample(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(runs):
            run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / runs

    sample(3)
    runs = max(1, int(LONG_ENOUGH / max(sample(1), 1e-3)))
    return statistics.median(sample(runs) for _ in range(SAMPLES))


def copy_gbps(torch, size):
    """A copy on the device that reads and writes `size` bytes together."""
    source = torch.ones(size // 8, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)
    return size / milliseconds(torch, lambda: target.copy_(source)) / 1e6


def losses(torch, liger):
    """Each peer: (logits, labels, weights) to a mean."""
    cross_entropy = torch.nn.functional.cross_entropy
    # Arguments by position, for torch.compile; weights of the logits' type, as PyTorch demands.
    eager = lambda x, y, w: cross_entropy(x, y, w.to(x.dtype))
    peers = {"torch_eager": eager, "torch_compile": torch.compile(eager)}
    if liger is not None:
        peers["liger"] = lambda x, y, w: liger(x, y, weight=w)
    return peers


def step(torch, loss, logits, labels, weights):
    """Loss and gradients."""
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels, weights)
    (grads,) = torch.autograd.grad(value, logits)
    return value, grads


def agrees(torch, loss, logits, labels, weights):
    """Whether a peer computes what eager does in float64, as far as its type can say."""
    exact = losses(torch, None)["torch_eager"]
    part = slice(0, max(1, min(len(labels), (1 << 22) // logits.shape[1])))
    want, want_grads = step(torch, exact, logits[part].double(), labels[part], weights.double())
    # Liger writes gradients over the logits.
    got, grads = step(torch, loss, logits[part].clone(), labels[part], weights)
    unit = torch.finfo(logits.dtype).eps
    near = lambda a, b, scale: (a.double() - b).abs().max().item() <= 16 * unit * scale.abs().max().item()
    return near(got, want, want) and near(grads, want_grads, want_grads)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON last")
    parser.add_argument("--shape", help="only shapes whose name, ROWSxCLASSES, holds this")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    options = parser.parse_args()
    torch = load_torch()
    liger = load_liger()
    dtype = getattr(torch, options.dtype)
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[options.dtype]
    device = torch.cuda.get_device_properties(0)
    print(f"{device.name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    print(f"{'kernel':<16} {'shape':>16} {'dtype':<5} {'ms':>9} {'GB/s':>8} ceiling {'peak MiB':>9}")
    results, best_copy, failed = [], 0.0, False
    for rows, classes in SHAPES:
        name = f"{rows}x{classes}"
        if options.shape is not None and options.shape not in name:
            continue
        size = traffic(rows, classes, dtype.itemsize)
        # Logits, gradients, and what eager keeps in between.
        if 6 * rows * classes * max(4, dtype.itemsize) > torch.cuda.mem_get_info()[0]:
            print(f"{name} does not fit this device's memory", file=sys.stderr)
            continue
        ceiling = copy_gbps(torch, size)
        best_copy = max(best_copy, ceiling)
        logits, labels, weights = batch(torch, rows, classes, dtype)
        torch.compiler.reset()
        for peer, loss in losses(torch, liger).items():
            if not agrees(torch, loss, logits, labels, weights):
                print(f"FAILED {peer} {name}: it differs from eager in float64", file=sys.stderr)
                failed = True
                continue
            own = logits.clone()
            run = lambda: step(torch, loss, own, labels, weights)
            ms = milliseconds(torch, run)
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
            gbps = size / ms / 1e6
            print(
                f"{peer:<16} {name:>16} {short:<5} {ms:>9.3f} {gbps:>8.1f} {100 * gbps / ceiling:>6.0f}% {peak / 2**20:>9.1f}",
                flush=True,
            )
            results.append(
                {
                    "kernel": peer,
                    "shape": name,
                    "rows": rows,
                    "classes": classes,
                    "dtype": short,
                    "strategy": "forward and backward",
                    "ms": ms,
                    "gbps": gbps,
                    "ceiling_fraction": gbps / ceiling,
                    "peak_bytes": peak,
                }
            )
    if options.json:
        machine = {
            "backend": "cuda",
            "driver": "CUDA",
            "driver_info": torch.version.cuda,
            "torch_version": torch.__version__,
            "multiprocessors": device.multi_processor_count,
            "memory_bytes": device.total_memory,
        }
        report = {"adapter": device.name, "ceiling_gbps": best_copy, "machine": machine, "results": results}
        print(json.dumps(report))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
