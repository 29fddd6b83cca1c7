"""Measure ResNet-50's embedding and training step as a share of the machine's matrix product, in one run.

    python tests/benchmarks/network.py [--runs 5] [--frames 8] [--image-size 256 128] [--backbone resnet50]

The peak is what `tf.matmul` of two square matrices (`--matrix 1536`) reaches in the same precision. Operations are two
for each multiplication that `kreid.models.count_macs` counts; a training step (identity and batch-hard triplet losses,
Adam) counts three times the forward ones. Embedding is the whole model's, from uint8 frames. Where torchvision is
installed, its network in PyTorch, channels last, takes turns. All are medians after a warm-up.

bfloat16 is measured where the processor has instructions for it; without them it is emulated. Targets: embedding 95% in
float32 and 92% in bfloat16, training 92% and 85%.
"""

import argparse
import contextlib
import os
import statistics
import time
from pathlib import Path

TARGETS = {("embedding", "float32"): 0.95, ("embedding", "bfloat16"): 0.92}
TARGETS |= {("training", "float32"): 0.92, ("training", "bfloat16"): 0.85}
TRAINING_FACTOR = 3  # Forward, gradients of the maps, gradients of the kernels.


def has_bfloat16():
    """Whether the processor multiplies bfloat16 (Linux alone says so)."""
    information = Path("/proc/cpuinfo")
    flags = information.read_text().split() if information.is_file() else []
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", "bf16"))


def matrix_product(precision, size):
    """Return a function that multiplies two matrices, and its operations."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.stateless_normal((size, size), (seed, 0)), precision) for seed in (0, 1))
    product = tf.function(lambda: tf.matmul(left, right))
    return lambda: tf.cast(product()[0, 0], "float32").numpy(), 2 * size**3


def kreid_sides(options, frames, labels, precision):
    """Return the functions of embedding and training, and the operations of embedding."""
    import keras
    import tensorflow as tf

    from kreid import backbones, losses, models, optimizers

    keras.config.set_dtype_policy("float32" if precision == "float32" else f"mixed_{precision}")
    backbone = backbones.build(options.backbone, image_size=options.image_size, last_stride=1)
    model = models.Baseline(backbone, 10)
    model.compile(
        optimizers.L2Adam(1e-4),
        loss={"logits": losses.SmoothedIdentity(), "features": losses.BatchHardTriplet()},
        jit_compile=False,
    )
    inputs = {"frames": tf.constant(frames), "lengths": tf.ones(len(frames), "int32")}
    targets = {"logits": tf.constant(labels), "features": tf.constant(labels)}
    embed = tf.function(lambda: model.embedder(inputs, training=False))
    operations = 2 * models.count_macs(model, 1) * len(frames)
    return {
        "embedding": lambda: embed().numpy(),
        "training": lambda: model.train_on_batch(inputs, targets),
    }, operations


def torch_sides(options, frames, labels, precision, device="cpu"):
    """Return the same functions of torchvision's network, or none without it."""
    try:
        import torch
        import torchvision
    except ImportError:
        return {}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = getattr(torchvision.models, options.backbone)()
    block = network.layer4[0]
    strided = block.conv2 if options.backbone == "resnet50" else block.conv1
    strided.stride = block.downsample[0].stride = (1, 1)
    head = torch.nn.Sequential(
        torch.nn.BatchNorm1d(network.fc.in_features), torch.nn.Linear(network.fc.in_features, 10)
    )
    network.fc = torch.nn.Identity()
    network, head = network.to(device, memory_format=torch.channels_last), head.to(device)
    optimizer = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-4)
    mean, deviation = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    persons = torch.from_numpy(labels).long().to(device)
    same = persons[:, None] == persons

    def vectors():
        pixels = torch.from_numpy(frames[:, 0]).to(device).permute(0, 3, 1, 2).float() / 255
        return network(((pixels - mean) / deviation).contiguous(memory_format=torch.channels_last))

    def autocast():
        return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")

    def embed():
        network.eval()
        with torch.no_grad(), autocast():
            return vectors().float().cpu().numpy()

    def train():
        network.train()
        optimizer.zero_grad()
        with autocast():
            features = vectors()
            logits = head(features)
        identity = torch.nn.functional.cross_entropy(logits.float(), persons, label_smoothing=0.1)
        distances = torch.cdist(features.float(), features.float())
        positive = distances.masked_fill(~same, -torch.inf).amax(1)
        negative = distances.masked_fill(same, torch.inf).amin(1)
        (identity + torch.relu(positive - negative + 0.3).mean()).backward()
        optimizer.step()

    return {"embedding": embed, "training": train}


def seconds(function):
    """Return the seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8, help="tracklets of one frame in a batch, two of each person")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 128))
    parser.add_argument("--backbone", default="resnet50", choices=("resnet50", "resnet18"))
    parser.add_argument("--matrix", type=int, default=1536)
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    # Threads of PyTorch that wait would take the cores from the other sides.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with contextlib.suppress(ImportError):
        import torchvision  # noqa: F401  (imported after TensorFlow, PyTorch's build for CUDA ends the process)
    import numpy as np

    frames = np.random.default_rng(0).integers(0, 256, (options.frames, 1, *options.image_size, 3), dtype=np.uint8)
    labels = (np.arange(options.frames) // 2).astype("int32")
    for precision in ("float32", "bfloat16"):
        if precision == "bfloat16" and not has_bfloat16():
            print("bfloat16: skipped, as this processor has no instructions for it.")
            continue
        report(precision, options, frames, labels)


def report(precision, options, frames, labels):
    """Print the rates of one precision."""
    product, product_operations = matrix_product(precision, options.matrix)
    ours, forward = kreid_sides(options, frames, labels, precision)
    theirs = torch_sides(options, frames, labels, precision)
    for what, run in ours.items():
        functions = {"matmul": product, "kreid": run, **({"PyTorch": theirs[what]} if theirs else {})}
        taken = {side: [] for side in functions}
        for number in range(options.runs + 1):
            for side, function in functions.items():
                duration = seconds(function)
                if number:  # The first call compiles.
                    taken[side].append(duration)
        median = {side: statistics.median(values) for side, values in taken.items()}
        operations = forward * (TRAINING_FACTOR if what == "training" else 1)
        peak, rate = product_operations / median["matmul"], operations / median["kreid"]
        print(
            f"{what}, {precision}: matmul {peak / 1e9:.0f} GFLOP/s, kreid {rate / 1e9:.0f} GFLOP/s "
            f"({len(frames) / median['kreid']:.1f} frames/s): {rate / peak:.0%} "
            f"(target: {TARGETS[what, precision]:.0%})",
            flush=True,
        )
        if theirs:
            print(
                f"    PyTorch {len(frames) / median['PyTorch']:.1f} frames/s: kreid is "
                f"{median['PyTorch'] / median['kreid']:.2f} times as fast",
                flush=True,
            )
    if not theirs:
        print("    Not compared: torchvision is not installed.")


if __name__ == "__main__":
    main()
