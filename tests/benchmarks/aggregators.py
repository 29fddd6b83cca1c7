"""Inference of a tracklet by each system, beside average pooling: ResNet-50, 256x128, 8 frames.

    python tests/benchmarks/aggregators.py [--runs 10] [--frames 8] [--image-size 256 128]

All embedders have random weights and a backbone of their own of the same shape (last stride 1), get the same frames and
take turns in one process; prints medians and their ratios to average pooling's.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from kreid import backbones, models

SYSTEMS = {
    "average pooling": (models.Baseline, {"embedding_from": "pooled"}),
    "MG-RAFA (N=4)": (models.MGRAFA, {}),
    "STA": (models.STA, {}),
    "TACAN": (models.TACAN, {}),
    "GLTR": (models.GLTR, {}),
}


def embed(system, arguments, frames):
    """A function that embeds the frames, compiled for them."""
    backbone = backbones.build("resnet50", image_size=frames.shape[2:4], last_stride=1)
    if system in (models.MGRAFA, models.STA):
        arguments = {**arguments, "test_frames": frames.shape[1]}
    embedder = system(backbone, 2, **arguments).embedder
    inputs = {"frames": tf.constant(frames), "lengths": tf.constant([frames.shape[1]], "int32")}
    compiled = tf.function(lambda: embedder(inputs, training=False))
    compiled()
    return compiled


def timed(function):
    """Seconds of one call."""
    started = time.perf_counter()
    function().numpy()
    return time.perf_counter() - started


def main(argv=None):
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--image-size", type=int, nargs=2, default=[256, 128], metavar=("HEIGHT", "WIDTH"))
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    shape = (1, options.frames, *options.image_size, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    sides = {name: embed(*system, frames) for name, system in SYSTEMS.items()}
    seconds = {name: [] for name in sides}
    for _ in range(options.runs):
        for name, function in sides.items():
            seconds[name].append(timed(function))
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name:16s} {median:.4f} s  ratio {median / medians['average pooling']:.3f}")


if __name__ == "__main__":
    main()
