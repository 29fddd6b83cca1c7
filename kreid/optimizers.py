"""Optimisers with the weight decay that the papers used."""

from typing import Any

import keras

from kreid._typing import Tensor


class _L2InGradient(keras.optimizers.Optimizer):  # type: ignore[misc]
    """Add `l2 * variable` to each gradient before the update, as PyTorch's `weight_decay` of Adam and SGD does.

    Keras's own `weight_decay` shrinks the variables apart from the update (decoupled, as in AdamW). That is another
    method: with Adam the two differ by the gradient's scale.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if l2 < 0:
            raise ValueError(f"Weight decay cannot be negative. Received: l2={l2!r}")
        self.l2 = l2

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        decay = self.l2 * keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient + decay, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
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

    >>> kreid.optimizers.L2Adam(3e-4, l2=5e-4).l2
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

    >>> kreid.optimizers.L2SGD(0.01, momentum=0.9, l2=5e-4).l2
    0.0005
    """
