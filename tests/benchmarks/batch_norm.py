"""Compare a network's training step and inference with kreid's and with Keras's batch normalisation.

    python tests/benchmarks/batch_norm.py [--runs 5] [--backbone resnet18]

kreid trains with one fused kernel, and infers with scale and shift in the convolution before. Both sides take turns in
one process; prints medians and the ratio, below 1 where kreid is faster.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from kreid import backbones
from kreid.backbones import parts, resnet

FRAMES, SIZE = 128, (128, 64)


def steps(name):
    """Return a training step and an inference of one network, compiled."""
    backbone = backbones.build(name, image_size=SIZE)
    frames = tf.constant(np.random.default_rng(0).normal(size=(FRAMES, *SIZE, 3)), "float32")

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(backbone(frames, training=True))
        return tape.gradient(value, [v.value for v in backbone.trainable_variables])

    @tf.function
    def infer():
        return backbone(frames, training=False)

    return train, infer


def keras_call(conv, bn, maps, training, branch):
    """Convolve, and call Keras's batch normalisation; there is only one branch."""
    return keras.layers.BatchNormalization.call(bn, conv(maps), training=training)


def timed(function):
    """Return the seconds of one call."""
    started = time.perf_counter()
    tf.nest.map_structure(lambda x: x.numpy(), function())
    return time.perf_counter() - started


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--backbone", default="resnet18")
    options = parser.parse_args(argv)
    sides, ours = {}, parts.convolve_and_normalize
    for side, call in (("kreid", ours), ("Keras", keras_call)):
        parts.convolve_and_normalize = resnet.convolve_and_normalize = call
        sides[side] = steps(options.backbone)
        for function in sides[side]:
            function()  # traced while this side's function is in place
    for place, name in enumerate(("training step", "inference")):
        seconds = {side: [] for side in sides}
        for _ in range(options.runs):
            for side, functions in sides.items():
                seconds[side].append(timed(functions[place]))
        ours, theirs = (float(np.median(seconds[side])) for side in ("kreid", "Keras"))
        print(f"{name:14s} kreid {ours:.3f} s  Keras {theirs:.3f} s  ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
