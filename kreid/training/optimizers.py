"""Optimisers with the weight decay that the papers used."""

from typing import Any

import keras

from kreid.training.config import Config
from kreid.training.schedules import learning_rate


class _L2InGradient:
    """Add `l2 * variable` to each gradient before the update, as PyTorch's `weight_decay` of Adam and SGD does.

    Keras's own `weight_decay` shrinks the variables apart from the update (decoupled, as in AdamW). That is another
    method: with Adam the two differ by the gradient's scale.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if l2 < 0:
            raise ValueError(f"Weight decay cannot be negative. Received: l2={l2!r}")
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        decay = self.l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient + decay, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="kreid")
class L2Adam(_L2InGradient, keras.optimizers.Adam):
    """Adam with L2 regularisation of all variables in the gradient.

    Args:
        *args: of `keras.optimizers.Adam`.
        l2: coefficient, PyTorch's `weight_decay`.
        **kwargs: of `keras.optimizers.Adam`.

    Raises:
        ValueError: for a negative coefficient.

    Example:

    >>> kreid.training.L2Adam(3e-4, l2=5e-4).l2
    0.0005
    """


@keras.saving.register_keras_serializable(package="kreid")
class L2SGD(_L2InGradient, keras.optimizers.SGD):
    """SGD with L2 regularisation of all variables in the gradient.

    Args:
        *args: of `keras.optimizers.SGD`.
        l2: coefficient, PyTorch's `weight_decay`.
        **kwargs: of `keras.optimizers.SGD`.

    Raises:
        ValueError: for a negative coefficient.

    Example:

    >>> kreid.training.L2SGD(0.01, momentum=0.9, l2=5e-4).l2
    0.0005
    """


def build_optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Make the optimiser of a `Config`, with its learning-rate schedule.

    Args:
        config: a `kreid.training.Config`.
        steps_per_epoch: steps of one epoch; the schedule counts steps.

    Returns:
        A Keras optimiser.
    """
    rate = learning_rate(config, steps_per_epoch)
    l2 = config.weight_decay_kind == "l2"
    decay = {"l2": config.weight_decay} if l2 else {"weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return (L2SGD if l2 else keras.optimizers.SGD)(rate, momentum=config.momentum, **decay)
    return (L2Adam if l2 else keras.optimizers.Adam)(rate, **decay)
