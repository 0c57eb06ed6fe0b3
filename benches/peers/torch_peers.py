#!/usr/bin/env python3
"""Weighted cross-entropy, forward and backward, by PyTorch on CUDA: eager, torch.compile, and Liger where it is installed.

    python3 benches/peers/torch_peers.py             # a table
    python3 benches/peers/torch_peers.py --json      # the last line is JSON, as `cargo bench --bench report -- --json` prints it
    python3 benches/peers/torch_peers.py --out FOLDER        # also report.json
    python3 benches/peers/torch_peers.py --dtype bfloat16 --shape 8192x1000
    python3 benches/peers/torch_peers.py --device cpu --quick   # without a GPU: small batches, no Liger

The shapes, the labels' skew and the bytes that are counted are those of `cargo bench --bench report`, so that
`cargo bench --bench report -- --compare ours.json torch.json` puts both side by side. Losses and gradients of the others are
held against eager's in float64 before anything is timed.
"""

import argparse
import json
import os
import statistics
import sys
import time

# (outer, classes, inner): logits of [outer, classes] where inner is 1, class-first of [outer, classes, inner].
SHAPES = [
    (1_000_000, 2, 1),
    (1_000_000, 10, 1),
    (1_000_000, 19, 1),
    (65_536, 100, 1),
    (32_768, 256, 1),
    (8_192, 1_000, 1),
    (8_192, 32_000, 1),
    (4_096, 50_257, 1),
    (8_192, 128_256, 1),
    (8, 19, 512 * 512),
    (64, 262_144, 1),
    (16, 262_144, 1),
    (1, 262_144, 1),
]
# The most logits of a batch with --quick, as `--quick` of the others has it.
QUICK_LOGITS = 1 << 18
SAMPLES = 7
# Of each sample, in milliseconds: long enough for a clock.
LONG_ENOUGH = 20.0


def at_most(shape, logits):
    """The shape with at most so many logits, cut in rows only."""
    outer, classes, inner = shape
    if inner > 1:
        inner = min(inner, max(64, logits // classes // 64 * 64))
    return (min(outer, max(1, logits // (classes * inner))), classes, inner)


def name_of(shape):
    outer, classes, inner = shape
    return f"{outer}x{classes}" if inner == 1 else f"{outer}x{classes}x{inner}"


def load_torch(device):
    """PyTorch with its device, or an exit that says what is missing."""
    try:
        import torch
    except ImportError:
        sys.exit("torch_peers.py: PyTorch is not installed; see https://pytorch.org/get-started/locally")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"torch_peers.py: PyTorch {torch.__version__} sees no CUDA device; --device cpu needs none")
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


def batch(torch, device, shape, dtype):
    """Skewed labels, logits between -8 and 8 with every second row sure of its label, weights from 1 to 4."""
    outer, classes, inner = shape
    generator = torch.Generator(device=device).manual_seed(classes << 32 | outer * inner)
    of_rows = (outer,) if inner == 1 else (outer, inner)
    of_logits = (outer, classes) if inner == 1 else (outer, classes, inner)
    labels = (torch.rand(of_rows, generator=generator, device=device).square() * classes).long()
    logits = 8 * (2 * torch.rand(of_logits, generator=generator, device=device) - 1) ** 3
    sure = torch.arange(outer * inner, device=device).reshape(of_rows).remainder(2).eq(0).float() * 6
    logits.scatter_add_(1, labels.unsqueeze(1), sure.unsqueeze(1))
    weights = 1 + torch.arange(classes, device=device).remainder(4).float()
    return logits.to(dtype), labels, weights


def milliseconds(torch, device, run):
    """The median over some samples: by CUDA events, or by the clock."""

    def sample(runs):
        if device == "cpu":
            begin = time.perf_counter()
            for _ in range(runs):
                run()
            return (time.perf_counter() - begin) * 1e3 / runs
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


def copy_gbps(torch, device, size):
    """A copy on the device that reads and writes `size` bytes together."""
    source = torch.ones(max(1, size // 8), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return size / milliseconds(torch, device, lambda: target.copy_(source)) / 1e6


def losses(torch, liger):
    """Each peer: (logits, labels, weights) to a mean."""
    cross_entropy = torch.nn.functional.cross_entropy

    def eager(x, y, w):
        # Arguments by position, for torch.compile; weights of the logits' type, as PyTorch demands.
        return cross_entropy(x, y, w.to(x.dtype))

    def rows_last(x, y, w):
        # Liger's logits are two-dimensional, the classes last.
        x = x if x.dim() == 2 else x.movedim(1, -1).reshape(-1, x.shape[1])
        return liger(x, y.reshape(-1), weight=w)

    peers = {"torch_eager": eager, "torch_compile": torch.compile(eager)}
    if liger is not None:
        peers["liger"] = rows_last
    return peers


def step(torch, loss, logits, labels, weights):
    """Loss and gradients."""
    logits = logits.detach().requires_grad_()
    value = loss(logits, labels, weights)
    (grads,) = torch.autograd.grad(value, logits)
    return value, grads


def errors(torch, loss, logits, labels, weights):
    """How far a peer's loss and worst gradient are from eager's in float64, as shares of the loss and the largest gradient;
    and what rounding explains of each."""
    exact = losses(torch, None)["torch_eager"]
    part = slice(0, max(1, min(len(labels), (1 << 22) // logits[0].numel())))
    want, want_grads = step(torch, exact, logits[part].double(), labels[part], weights.double())
    # Liger writes gradients over the logits.
    got, grads = step(torch, loss, logits[part].clone(), labels[part], weights)
    rounding = 16 * torch.finfo(logits.dtype).eps
    # Added up in float32 one after the other, so many losses are off by at most this share.
    sums = labels[part].numel() * torch.finfo(torch.float32).eps / 2

    def off(a, b):
        return ((a.double() - b).abs().max() / b.abs().max()).item()

    return (off(got, want), rounding + sums), (off(grads, want_grads), rounding)


def free_bytes(torch, device):
    """Memory that a batch may take."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(torch, device, run):
    """What a step takes beyond the batch; None where it is not counted."""
    if device == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def machine_of(torch, device):
    """The device's name, and what else a figure depends on."""
    about = {"backend": device, "torch_version": torch.__version__}
    if device == "cpu":
        return f"CPU, {torch.get_num_threads()} threads", about
    properties = torch.cuda.get_device_properties(0)
    about["driver"] = "CUDA"
    about["driver_info"] = torch.version.cuda
    about["multiprocessors"] = properties.multi_processor_count
    about["memory_bytes"] = properties.total_memory
    return properties.name, about


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one line of JSON last")
    parser.add_argument("--out", help="a folder for report.json")
    parser.add_argument("--quick", action="store_true", help="smaller batches")
    parser.add_argument("--shape", help="only shapes whose name, ROWSxCLASSES, holds this")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    options = parser.parse_args()
    device = options.device
    torch = load_torch(device)
    liger = load_liger() if device == "cuda" else None
    dtype = getattr(torch, options.dtype)
    short = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[options.dtype]
    adapter, machine = machine_of(torch, device)
    print(f"{adapter}, PyTorch {torch.__version__}")
    print(f"{'kernel':<16} {'shape':>16} {'dtype':<5} {'ms':>9} {'GB/s':>8} ceiling {'peak MiB':>9} loss off grads off")
    results, best_copy, failed, seen = [], 0.0, False, set()
    for shape in SHAPES:
        if options.quick:
            shape = at_most(shape, QUICK_LOGITS)
        name = name_of(shape)
        if name in seen or (options.shape is not None and options.shape not in name):
            continue
        seen.add(name)
        outer, classes, inner = shape
        rows = outer * inner
        size = traffic(rows, classes, dtype.itemsize)
        # Logits, gradients, and what eager keeps in between.
        if 6 * rows * classes * max(4, dtype.itemsize) > free_bytes(torch, device):
            print(f"{name} does not fit this device's memory", file=sys.stderr)
            continue
        ceiling = copy_gbps(torch, device, size)
        best_copy = max(best_copy, ceiling)
        logits, labels, weights = batch(torch, device, shape, dtype)
        torch.compiler.reset()
        for peer, loss in losses(torch, liger).items():
            found = errors(torch, loss, logits, labels, weights)
            # A NaN is no agreement.
            if not all(off <= bound for off, bound in found):
                told = ", ".join(f"{off:.1e} off where rounding explains {bound:.1e}" for off, bound in found)
                print(f"FAILED {peer} {name}: loss and gradients against eager in float64: {told}", file=sys.stderr)
                failed = True
                continue
            loss_error, gradient_error = (off for off, _ in found)
            own = logits.clone()

            def run():
                step(torch, loss, own, labels, weights)

            ms = milliseconds(torch, device, run)
            peak = peak_bytes(torch, device, run)
            gbps = size / ms / 1e6
            mib = "-" if peak is None else f"{peak / 2**20:.1f}"
            share = f"{100 * gbps / ceiling:.0f}%"
            print(
                f"{peer:<16} {name:>16} {short:<5} {ms:>9.3f} {gbps:>8.1f} {share:>7} {mib:>9}"
                f" {loss_error:>8.0e} {gradient_error:>9.0e}",
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
                    "loss_error": loss_error,
                    "gradient_error": gradient_error,
                }
            )
    report = json.dumps({"adapter": adapter, "ceiling_gbps": best_copy, "machine": machine, "results": results})
    if options.out is not None:
        os.makedirs(options.out, exist_ok=True)
        file = os.path.join(options.out, "report.json")
        with open(file, "w", encoding="utf-8") as out:
            out.write(report + "\n")
        print(file)
    if options.json:
        print(report)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
