"""Compare the updates of kreid's optimisers with those of Keras's, on the variables of a ResNet-50.

    python tests/benchmarks/updates.py [--runs 9]

Both sides take turns in one process; prints medians of wall and processor time and the ratio of the latter, below 1
where kreid's are faster.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from kreid import backbones
from kreid.optimizers import L2SGD, L2Adam

SIDES = (
    ("Adam", L2Adam, keras.optimizers.Adam, {}),
    ("Adam, decoupled decay", L2Adam, keras.optimizers.Adam, {"weight_decay": 5e-4}),
    ("SGD, momentum", L2SGD, keras.optimizers.SGD, {"momentum": 0.9}),
)


def updating(optimizer, variables, gradients):
    """Return a compiled function that updates copies of the variables."""
    copies = [keras.Variable(np.asarray(variable)) for variable in variables]
    optimizer.build(copies)

    @tf.function
    def update():
        optimizer.apply(gradients, copies)

    update()
    return update


def timed(function):
    """Return the wall and the processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def main(argv=None):
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args(argv).runs
    variables = backbones.build("resnet50", image_size=(64, 32)).trainable_variables
    rng = np.random.default_rng(0)
    gradients = [tf.constant(rng.normal(size=variable.shape), "float32") for variable in variables]
    for name, *kinds, options in SIDES:
        functions = [updating(kind(1e-4, **options), variables, gradients) for kind in kinds]
        seconds = np.array([[timed(function) for function in functions] for _ in range(runs)])
        ours, keras_own = 1e3 * np.median(seconds, axis=0)
        print(
            f"{name:22s} kreid {ours[0]:.1f} ms ({ours[1]:.1f} of processor)  "
            f"Keras {keras_own[0]:.1f} ms ({keras_own[1]:.1f})  ratio {ours[1] / keras_own[1]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
