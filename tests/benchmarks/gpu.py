"""Measure training of ResNet-50 on a GPU with the JAX backend: steps, peak memory, share of the card's matrix product.

    python tests/benchmarks/gpu.py [--runs 5] [--steps 20] [--frames 64] [--image-size 256 128]
    python tests/benchmarks/gpu.py --cpu --tiny    # shows that the script runs

A batch is of single frames, two of each person; the losses are identity and batch-hard triplet, the optimiser Adam,
the precision bfloat16. The peak is what a bfloat16 product of two square matrices (`--matrix 8192`) reaches in the same
run; operations are those of `kreid.models.count_macs`, two for each multiplication, times three for a training step.
Where torchvision is installed, its network is trained by PyTorch alike. All are medians after a warm-up.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from network import TRAINING_FACTOR, torch_sides

COUNT = """
import sys
from kreid import backbones, models
height, width = map(int, sys.argv[2:])
print(models.count_macs(models.Baseline(backbones.build(sys.argv[1], (height, width), last_stride=1), 10), 1))
"""


def operations_of_frame(options):
    """Return the operations of embedding a frame; they are counted in TensorFlow's graph, so by another process."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", COUNT, options.backbone, *map(str, options.image_size)]
    counted = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return 2 * int(counted.stdout.split()[-1])


def product_rate(size, runs):
    """Return the operations per second of a bfloat16 matrix product."""
    import jax

    left, right = (jax.random.normal(jax.random.key(seed), (size, size), "bfloat16") for seed in (0, 1))
    product = jax.jit(lambda left, right: left @ right)
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        product(left, right).block_until_ready()
        taken.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(taken[1:])


def kreid_step(options, frames, labels):
    """Return the seconds of kreid's training step."""
    import keras

    from kreid import backbones, losses, models, optimizers

    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = backbones.build(options.backbone, options.image_size, last_stride=1)
    model = models.Baseline(backbone, 10)
    targets = {"logits": losses.SmoothedIdentity(), "features": losses.BatchHardTriplet()}
    model.compile(optimizers.L2Adam(1e-4), loss=targets, jit_compile=True)
    inputs = {"frames": frames, "lengths": [1] * len(frames)}
    batch = {name: keras.ops.convert_to_numpy(value) for name, value in inputs.items()}

    def batches():
        while True:
            yield batch, {"logits": labels, "features": labels}

    clock = _Clock()
    model.fit(batches(), epochs=options.runs + 1, steps_per_epoch=options.steps, callbacks=[clock.callback], verbose=0)
    return statistics.median(clock.seconds[1:]) / options.steps


class _Clock:
    """The seconds of each epoch."""

    def __init__(self):
        import keras

        self.seconds, self.started = [], 0.0
        self.callback = keras.callbacks.LambdaCallback(on_epoch_begin=self.start, on_epoch_end=self.stop)

    def start(self, epoch, logs=None):
        self.started = time.perf_counter()

    def stop(self, epoch, logs=None):
        float(logs["loss"])  # Waits for the last step.
        self.seconds.append(time.perf_counter() - self.started)


def torch_step(options, frames, labels):
    """Return the seconds of PyTorch's training step and its peak memory in bytes, or `None` without it."""
    device = "cpu" if options.cpu else "cuda"
    train = torch_sides(options, frames, labels, "bfloat16", device).get("training")
    if train is None:
        return None
    import torch

    taken = []
    for _ in range(options.runs + 1):
        started = time.perf_counter()
        for _ in range(options.steps):
            train()
        if not options.cpu:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    peak = 0 if options.cpu else torch.cuda.max_memory_allocated()
    return statistics.median(taken[1:]) / options.steps, peak


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps of a run")
    parser.add_argument("--frames", type=int, default=64, help="frames of a batch")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 128))
    parser.add_argument("--backbone", default="resnet50", choices=("resnet50", "resnet18"))
    parser.add_argument("--matrix", type=int, default=8192)
    parser.add_argument("--cpu", action="store_true", help="measure the processor instead")
    parser.add_argument("--tiny", action="store_true", help="a step or two of ResNet-18 on small frames")
    options = parser.parse_args(argv)
    if options.tiny:
        options.runs, options.steps, options.frames, options.matrix = 1, 2, 4, 256
        options.image_size, options.backbone = (64, 32), "resnet18"
    os.environ["KERAS_BACKEND"] = "jax"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs room too.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.cpu:
        os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import numpy as np

    device = jax.devices()[0]
    if device.platform == "cpu" and not options.cpu:
        raise SystemExit("JAX finds no GPU here: install jax[cuda12] on a machine with one, or give --cpu --tiny.")
    frames = np.random.default_rng(0).integers(0, 256, (options.frames, 1, *options.image_size, 3), dtype=np.uint8)
    labels = (np.arange(options.frames) // 2 % 10).astype("int32")
    print(f"{device.device_kind}, {options.backbone}, {options.frames} frames of {options.image_size}, bfloat16")
    peak_rate = product_rate(options.matrix, options.runs)
    step = kreid_step(options, frames, labels)
    memory = (device.memory_stats() or {}).get("peak_bytes_in_use", 0)
    rate = TRAINING_FACTOR * options.frames * operations_of_frame(options) / step
    print(f"matrix product of {options.matrix}: {peak_rate / 1e12:.3g} TFLOP/s")
    print(f"kreid: {1 / step:.2f} steps/s, {_gib(memory)}, {rate / 1e12:.3g} TFLOP/s: {rate / peak_rate:.0%} of it")
    theirs = torch_step(options, frames, labels)
    if theirs is None:
        print("Not compared: torchvision is not installed.")
    else:
        print(f"PyTorch: {1 / theirs[0]:.2f} steps/s, {_gib(theirs[1])}: kreid is {theirs[0] / step:.2f} times as fast")


def _gib(size):
    return f"peak memory {size / 2**30:.2f} GiB" if size else "peak memory unknown"


if __name__ == "__main__":
    main()
