"""Spread a training step over several devices."""

import os
from typing import TYPE_CHECKING, Any

import keras

from kreid.training.config import Config

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def set_strategy(config: Config) -> int:
    """Choose the devices of the models that are made from now on, as `strategy` of a `Config` says.

    `mirrored` uses all GPUs of TensorFlow, `data_parallel` all devices of JAX, of all machines that
    `KERAS_DISTRIBUTION_JOB_ADDRESSES` names (see `keras.distribution.initialize`). Without a GPU they use the logical
    CPU devices. Over several machines only models and `fit` are coordinated: a run's folder is written by one process.

    Args:
        config: a `kreid.training.Config`.

    Returns:
        The number of devices.

    Raises:
        ValueError: if the strategy belongs to the other backend, the devices cannot share a batch, or TensorFlow should
            mirror a model on several machines.

    Example:

    >>> kreid.training.set_strategy(kreid.training.Config("sta"))
    1
    """
    backend = keras.backend.backend()
    if config.strategy == "single":
        _reset(backend)
        return 1
    owner = {"mirrored": "tensorflow", "data_parallel": "jax"}[config.strategy]
    if backend != owner:
        raise ValueError(
            "TensorFlow trains with strategy=mirrored and JAX with strategy=data_parallel; set the other strategy, or "
            f"KERAS_BACKEND={owner} before the start. Received: strategy={config.strategy!r}, KERAS_BACKEND={backend!r}"
        )
    count = _mirror() if backend == "tensorflow" else _distribute()
    try:
        check_shares(config, count)
    except ValueError:
        _reset(backend)
        raise
    print(f"Training on {count} devices ({config.strategy}).")
    return count


def check_shares(config: Config, devices: int) -> None:
    """Raise if a number of devices cannot share the batches of a `Config`.

    Raises:
        ValueError: if the shares are of unequal size; or, with `mining: replica`, if a person's tracklets are on two
            devices, or a device has no two persons.
    """
    by_persons = config.sampler == "persons"
    size = config.persons_per_batch * config.tracklets_per_person if by_persons else config.batch_size
    if size is not None and size % devices:
        raise ValueError(
            f"Each of the {devices} devices takes an equal share of a batch of {size}; choose a multiple of {devices}. "
            f"Received: {_batch(config)}"
        )
    metric = config.triplet_weight or config.min_max_weight
    if config.strategy == "mirrored" and config.mining == "replica" and by_persons and metric:
        persons = config.persons_per_batch
        if persons % devices or persons < 2 * devices:
            raise ValueError(
                f"With mining=replica each of the {devices} devices needs two persons or more, with all their "
                f"tracklets; set persons_per_batch to a multiple of {devices} of at least {2 * devices}, or "
                f"mining=global. Received: {_batch(config)}"
            )


def apply_to_step(model: "TrackletModel", config: Config) -> None:
    """Give a model what a `Config` says about its training step and no file keeps: `batch_norm` and `cached_chunks`."""
    model.cached_chunks = config.cached_chunks
    for layer in model._flatten_layers():
        if hasattr(layer, "over_replicas"):
            layer.over_replicas = config.batch_norm == "global"


def _batch(config: Config) -> str:
    if config.sampler == "persons":
        return (
            f"persons_per_batch={config.persons_per_batch!r}, tracklets_per_person={config.tracklets_per_person!r}, "
            f"mining={config.mining!r}"
        )
    return f"batch_size={config.batch_size!r}"


def _reset(backend: str) -> None:
    if backend == "jax":
        keras.distribution.set_distribution(None)
    elif backend == "tensorflow":
        import tensorflow as tf

        if tf.distribute.has_strategy():
            tf.distribute.experimental_set_strategy(None)


def _mirror() -> int:
    """Mirror models on all GPUs, or all logical CPUs without one."""
    import tensorflow as tf

    if "TF_CONFIG" in os.environ:
        raise ValueError(
            "Keras 3 cannot train under MultiWorkerMirroredStrategy (keras-team/keras#20585); unset TF_CONFIG to train "
            "on this machine, or fit on several with KERAS_BACKEND=jax and keras.distribution. "
            f"Received: TF_CONFIG={os.environ['TF_CONFIG']!r}"
        )
    _reset("tensorflow")
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    tf.distribute.experimental_set_strategy(strategy)
    return len(devices)


_initialized: list[Any] = []


def _distribute() -> int:
    """Share batches over all devices of JAX, and of all machines."""
    addresses = os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES")
    if addresses and not _initialized:
        keras.distribution.initialize()
        _initialized.append(addresses)
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    return len(devices)
