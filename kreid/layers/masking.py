"""Small helpers that layers share for masks over frames."""

from keras import ops


def mask_of(inputs, mask):
    """The mask as bool `(batch, frames)`, all True where there is none."""
    if mask is None:
        return ops.ones(ops.shape(inputs)[:2], dtype="bool")
    return ops.cast(mask, "bool")


def spread(values, inputs):
    """`(batch, frames, ...)` values with as many trailing axes of size 1 as `inputs` needs."""
    missing = len(inputs.shape) - len(values.shape)
    return ops.reshape(values, (*ops.shape(values), *(1,) * missing))
