"""Several losses on one output."""

from collections.abc import Sequence
from typing import Any

import keras

from kreid._typing import Tensor


@keras.saving.register_keras_serializable(package="kreid")
class WeightedSum(keras.losses.Loss):
    """Weighted sum of losses on one output, since Keras compiles one loss per output.

    Each loss reduces its own values and gets the same labels, predictions and
    sample weights.

    Args:
        losses: list of `keras.losses.Loss`, each with a reduction.
        weights: optional list of numbers, one per loss. Defaults to ones.
        name: name of the loss.

    Call arguments:
        y_true: labels.
        y_pred: predictions.
        sample_weight: optional weights.

    Input shape: that of the losses.
    Output shape: scalar.

    Raises:
        ValueError: if there is no loss, one is not a `Loss` or has no
            reduction, or the number of weights differs.

    Example:

    >>> mean, total = kreid.losses.BatchHardTriplet(1.5), kreid.losses.BatchHardTriplet(1.5, reduction="sum")
    >>> loss = kreid.losses.WeightedSum([mean, total], [1.0, 2.0])
    >>> float(loss([0, 0, 1, 1], np.array([[0.0], [1.0], [3.0], [3.0]], dtype="float32")))
    1.125
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float] | None = None,
        name: str = "weighted_sum",
    ) -> None:
        losses = list(losses)
        for loss in losses:
            if not isinstance(loss, keras.losses.Loss) or loss.reduction in (None, "none"):
                raise ValueError(
                    "`losses` holds keras.losses.Loss objects that have a reduction, such as 'sum_over_batch_size'. "
                    f"Received: losses={losses!r}"
                )
        weights = [1.0] * len(losses) if weights is None else [float(weight) for weight in weights]
        if not losses or len(weights) != len(losses):
            raise ValueError(
                "Give at least one loss, and one weight per loss or none at all. "
                f"Received: losses={losses!r}, weights={weights!r}"
            )
        super().__init__(name=name, reduction="sum")
        self.losses = losses
        self.weights = weights

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the sum; see the class."""
        return sum(
            weight * loss(y_true, y_pred, sample_weight) for weight, loss in zip(self.weights, self.losses, strict=True)
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "losses": [keras.saving.serialize_keras_object(loss) for loss in self.losses],
            "weights": self.weights,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSum":
        """Return the loss that `get_config` describes."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})
