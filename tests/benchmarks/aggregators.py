"""Compare each system's inference with average pooling on a backbone of the same shape: ResNet-50, 8 frames.

    python tests/benchmarks/aggregators.py [--runs 20] [--frames 8] [--tracklets 1]

Image size and last stride are those of the system's recipe. Each embedder has random weights and a separate backbone; a
system and its average pooling get the same frames and take turns. Prints medians, and the median of the ratios.
Target: 1.03.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from kreid import backbones, models

TARGET = 1.03
# Arguments, image size and last stride.
SYSTEMS = {
    "MG-RAFA (N=4)": (models.MGRAFA, {"test_frames": None}, (256, 128), 1),
    "STA": (models.STA, {"test_frames": None}, (256, 128), 1),
    "TACAN": (models.TACAN, {}, (224, 112), 2),
    "GLTR": (models.GLTR, {}, (256, 128), 2),
}


def embed(system, arguments, frames, last_stride):
    """Return a function that embeds the frames, compiled for them."""
    backbone = backbones.build("resnet50", image_size=frames.shape[2:4], last_stride=last_stride)
    if "test_frames" in arguments:
        arguments = {**arguments, "test_frames": frames.shape[1]}
    embedder = system(backbone, 2, **arguments).embedder
    inputs = {"frames": tf.constant(frames), "lengths": tf.fill(frames.shape[:1], frames.shape[1])}
    compiled = tf.function(lambda: embedder(inputs, training=False))
    compiled()
    return compiled


def timed(function):
    """Return the seconds of one call."""
    started = time.perf_counter()
    function().numpy()
    return time.perf_counter() - started


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--tracklets", type=int, default=1, help="tracklets in a batch")
    options = parser.parse_args(argv)
    for name, (system, arguments, image_size, last_stride) in SYSTEMS.items():
        keras.utils.set_random_seed(0)
        shape = (options.tracklets, options.frames, *image_size, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
        one = embed(system, arguments, frames, last_stride)
        other = embed(models.Baseline, {"embedding_from": "pooled"}, frames, last_stride)
        seconds = np.array([(timed(one), timed(other)) for _ in range(options.runs)])
        ratio = np.median(seconds[:, 0] / seconds[:, 1])
        medians = ", ".join(f"{value:.4f} s" for value in np.median(seconds, axis=0))
        print(f"{name:16s}{medians} for average pooling: ratio {ratio:.3f} (target: {TARGET})", flush=True)
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
