"""Sums and means over the replicas of a model that TensorFlow mirrors on several devices.

Outside of a step of such a model, and on other backends, there is one replica, and each function returns its argument.
"""

from typing import Any

import keras

from kreid._typing import Tensor


def num_replicas() -> int:
    """Return the number of replicas that the current step runs on."""
    return 1 if _context() is None else _context().num_replicas_in_sync


def mean_over_replicas(values: Tensor) -> Tensor:
    """Return the mean of the replicas' tensors of equal shape, with its gradient."""
    return _context().all_reduce("MEAN", values) if num_replicas() > 1 else values


def moments_over_replicas(mean: Tensor, variance: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and variance of the values of all replicas from those of each.

    Args:
        mean: the replica's.
        variance: the replica's, biased.
        weight: optional number of values of the replica; replicas have equally many without it.

    Returns:
        Mean and biased variance.
    """
    if num_replicas() == 1:
        return mean, variance
    share = 1.0 if weight is None else weight / keras.ops.maximum(mean_over_replicas(weight), 1)
    whole = mean_over_replicas(share * mean)
    return whole, mean_over_replicas(share * (variance + keras.ops.square(mean - whole)))


def gathered(values: Tensor) -> Tensor:
    """Return the replicas' tensors one after the other along the first axis, with the gradient."""
    if num_replicas() == 1:
        return values
    # Gathering forgets the static shape.
    return keras.ops.reshape(_context().all_gather(values, axis=0), (-1, *values.shape[1:]))


def shared_loss(value: Tensor) -> Tensor:
    """Return a replica's share of a loss: its gradients are added up over the replicas, so that they are averaged."""
    return value / num_replicas() if num_replicas() > 1 else value


def _context() -> Any:
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()
