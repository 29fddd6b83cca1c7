"""Train a system for one step on a batch of noise, and keep its weights, its loss and embeddings.

strategy_samples.py STRATEGY DEVICES SYSTEM INIT OUT [PROCESS ADDRESS]
"""

import os
import sys

import numpy as np

MODEL = {"sta": {"regularization": 0.0}, "mg_rafa": {"num_granularities": 2}}


def main(strategy, devices, system, init, out, process=None, address=None):
    import keras
    import tensorflow as tf

    from kreid import training

    if keras.backend.backend() == "tensorflow":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(devices))
    if process is not None:
        os.environ["KERAS_DISTRIBUTION_JOB_ADDRESSES"] = address
        os.environ["KERAS_DISTRIBUTION_NUM_PROCESSES"] = "2"
        os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] = process
    config = training.Config(
        system,
        backbone="resnet_tiny",
        last_stride=1,
        image_size=[64, 32],
        persons_per_batch=4,
        tracklets_per_person=2,
        optimizer="sgd",
        learning_rate=0.01,
        min_max_weight=0.5,
        strategy=strategy,
        model=MODEL.get(system, {}),
    )
    training.set_strategy(config)
    xla = training.set_precision(config.precision)
    if keras.backend.backend() == "jax":
        # Sums over shares round otherwise; with few tracklets, batch normalisation magnifies that in float32. Mirrored
        # steps join gradients of one type alone, and heads are float32.
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(0)
    model = training.build_model(config, num_identities=6)
    if os.path.exists(init):
        model.load_weights(init)
    else:
        model.save_weights(init)
    model.compile(training.build_optimizer(config, 1), training.build_losses(config), jit_compile=xla)
    frames = np.random.default_rng(0).integers(0, 256, (8, 4, 64, 32, 3)).astype("uint8")
    inputs = {"frames": frames, "lengths": np.full(8, 4, "int32")}
    labels = dict.fromkeys(training.build_losses(config), np.repeat(np.arange(4, dtype="int32"), 2))
    data = tf.data.Dataset.from_tensors((inputs, labels)).repeat()
    history = model.fit(data, steps_per_epoch=1, epochs=1, shuffle=False, verbose=0)
    embedded = model.embed(frames[:3])
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    np.savez(out, loss=history.history["loss"][0], embedded=embedded, **weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
