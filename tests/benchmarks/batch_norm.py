"""Compare a residual network's training step and inference with fused and with Keras's batch normalisation.

    python tests/benchmarks/batch_norm.py [--runs 5]

Both sides take turns in one process; prints medians and the ratio, below 1 where the fused kernel is faster.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from kreid import backbones
from kreid.backbones import FusedBatchNormalization

FRAMES, SIZE = 128, (128, 64)


def steps():
    """Return a training step and an inference of one network, compiled."""
    backbone = backbones.build("resnet18", image_size=SIZE, width=32)
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


def keras_call(self, inputs, training=None, branch=0):
    """Call Keras's batch normalisation; there is only one branch."""
    return keras.layers.BatchNormalization.call(self, inputs, training=training)


def timed(function):
    """Return the seconds of one call."""
    started = time.perf_counter()
    tf.nest.map_structure(lambda x: x.numpy(), function())
    return time.perf_counter() - started


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args(argv).runs
    sides, fused_call = {}, FusedBatchNormalization.call
    for side, call in (("fused", fused_call), ("Keras", keras_call)):
        FusedBatchNormalization.call = call
        sides[side] = steps()
        for function in sides[side]:
            function()  # traced while this side's `call` is in place
    FusedBatchNormalization.call = fused_call
    for place, name in enumerate(("training step", "inference")):
        seconds = {side: [] for side in sides}
        for _ in range(runs):
            for side, functions in sides.items():
                seconds[side].append(timed(functions[place]))
        fused, plain = (float(np.median(seconds[side])) for side in ("fused", "Keras"))
        print(f"{name:14s} fused {fused:.3f} s  Keras {plain:.3f} s  ratio {fused / plain:.2f}")


if __name__ == "__main__":
    main()
