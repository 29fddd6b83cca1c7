"""What the losses of this package share."""

import keras
from keras import ops


class IdentityLoss(keras.losses.Loss):
    """Base of the losses that read identity labels.

    A loss computes in float32 whatever the dtype policy and the dtype of the
    model's output: half precision types for `dtype` are raised to float32. Only
    `"float64"` changes anything.

    Keras casts the labels to the loss's dtype before `call`; `labels_of` undoes
    that. Labels from 16,777,217 on do not survive float32: contiguous labels,
    as the pipeline makes them, never get there.

    Args:
        reduction: how Keras reduces the values, one per tracklet.
        name: optional name.
        dtype: `None`, `"float32"` or `"float64"`.
    """

    def __init__(self, reduction="sum_over_batch_size", name=None, dtype=None):
        dtype = keras.dtype_policies.get(dtype or "float32").compute_dtype
        super().__init__(name=name, reduction=reduction, dtype="float64" if dtype == "float64" else "float32")

    def get_config(self):
        """Returns the arguments this loss was made with."""
        return {"reduction": self.reduction, "name": self.name, "dtype": self.dtype}


def labels_of(y_true):
    """Returns labels of shape `(batch,)` or `(batch, 1)`, of any dtype, as int32 `(batch,)`."""
    return ops.reshape(ops.cast(ops.convert_to_tensor(y_true), "int32"), [-1])
