"""The base of kreid's losses."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor


class IdentityLoss(keras.losses.Loss):
    """Base of the losses that read identity labels.

    A loss computes in float32 whatever the dtype policy and the dtype of the
    model's output: half precision types for `dtype` are raised to float32. Only
    `"float64"` changes anything.

    Keras casts the labels to the loss's dtype before `call`; `labels_of` casts
    them back. Labels from 16,777,217 on are not exact in float32; contiguous
    labels, as the pipeline makes them, are never that large.

    Args:
        reduction: how Keras reduces the values, one per tracklet.
        name: optional name.
        dtype: `None`, `"float32"`, `"float64"` or a dtype policy object.
    """

    def __init__(
        self, reduction: str | None = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ) -> None:
        dtype = keras.dtype_policies.get(dtype or "float32").compute_dtype
        super().__init__(name=name, reduction=reduction, dtype="float64" if dtype == "float64" else "float32")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"reduction": self.reduction, "name": self.name, "dtype": self.dtype}


def labels_of(y_true: Tensor) -> Tensor:
    """Return labels of shape `(batch,)` or `(batch, 1)`, of any dtype, as int32 `(batch,)`.

    Raises:
        ValueError: if they have another shape, such as one-hot labels.
    """
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    if len(labels.shape) > 2 or (len(labels.shape) == 2 and labels.shape[1] not in (1, None)):
        raise ValueError(
            "Labels must be one identity number per tracklet, (batch,) or (batch, 1). "
            f"Received: y_true of shape {tuple(labels.shape)!r}"
        )
    return ops.reshape(labels, [-1])


def check_mining(mining: str) -> None:
    """Raise if `mining` is none of `"global"` and `"replica"`."""
    if mining not in ("global", "replica"):
        raise ValueError(f"`mining` is 'global' or 'replica'. Received: mining={mining!r}")
