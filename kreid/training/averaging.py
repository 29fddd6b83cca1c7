"""The moving average of a model's weights, which the optimiser keeps."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np

from kreid.optimizers import L2SGD, L2Adam

if TYPE_CHECKING:
    from kreid.models import TrackletModel


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Let a model have its averaged weights for a while, then exactly its own again.

    Unlike Keras's `SwapEMAWeights`, whose swap by addition and subtraction rounds, this leaves the run as it was, bit
    for bit. A model whose optimiser averages nothing stays as it is. The moving statistics of batch normalisation are
    those of training: they are moving averages themselves, over fewer steps.

    Args:
        model: compiled with `L2Adam` or `L2SGD`, or not compiled.

    Example:

    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    >>> model.compile(kreid.optimizers.L2SGD(1.0, use_ema=True, ema_momentum=0.5), "mae")
    >>> _ = model.fit(np.ones((4, 1)), np.full((4, 1), 9.0), batch_size=1, verbose=0)
    >>> model.set_weights([np.full((1, 1), 7.0)])
    >>> with kreid.training.averaged_weights(model):
    ...     averaged = float(model.get_weights()[0][0, 0])
    >>> averaged < 7, float(model.get_weights()[0][0, 0])
    (True, 7.0)
    """
    optimizer = getattr(model, "optimizer", None)
    # Loss scaling in float16 wraps the optimiser.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    pairs = optimizer.averages() if isinstance(optimizer, (L2Adam, L2SGD)) else []
    own = [np.array(keras.ops.convert_to_numpy(variable)) for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(keras.ops.copy(average))
        yield
    finally:
        for (variable, _), value in zip(pairs, own, strict=True):
            variable.assign(value)


def averaged_model(model: "TrackletModel") -> "TrackletModel":
    """Return a copy of a model with its averaged weights, not compiled.

    Args:
        model: see `averaged_weights`; a loaded checkpoint, compiled.

    Returns:
        A model of the same class.
    """
    twin = type(model).from_config(model.get_config())
    with averaged_weights(model):
        twin.set_weights(model.get_weights())
    return twin
