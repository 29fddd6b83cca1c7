"""Optimisers with the weight decay that the papers used, and warming up for any learning rate."""

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


@keras.saving.register_keras_serializable(package="kreid")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Raise a learning rate linearly from a tenth of it in the first steps, then leave it as it is.

    Args:
        rate: a number, or a Keras schedule, whose steps count from the start of the warm-up.
        steps: of the warm-up.

    Raises:
        ValueError: for less than one step.

    Example:

    >>> rate = kreid.optimizers.WarmUp(1.0, steps=9)
    >>> [round(float(rate(step)), 2) for step in (0, 1, 8, 9, 100)]
    [0.1, 0.2, 0.9, 1.0, 1.0]

    Reference: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019, section 3.1.
    """

    def __init__(self, rate: "float | keras.optimizers.schedules.LearningRateSchedule", steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"Warming up takes at least one step. Received: steps={steps!r}")
        self.rate = rate
        self.steps = steps

    def __call__(self, step: Tensor) -> Tensor:
        """Return the learning rate of a step, counted from 0."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        share = keras.ops.cast(step, "float32") / self.steps
        return rate * keras.ops.minimum(0.1 + 0.9 * share, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"rate": keras.saving.serialize_keras_object(self.rate), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        """Make a schedule from `get_config()`."""
        return cls(keras.saving.deserialize_keras_object(config["rate"]), config["steps"])
