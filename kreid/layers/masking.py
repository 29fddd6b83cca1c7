"""Small helpers that layers share for masks over frames."""

from keras import ops


def mask_of(inputs, mask, axis=1):
    """The mask as bool `(batch, frames)`, or up to another axis of the frames; all True where there is none."""
    if mask is None:
        return ops.ones(ops.shape(inputs)[: axis + 1], dtype="bool")
    return ops.cast(mask, "bool")


def spread(values, inputs):
    """`(batch, frames, ...)` values with as many trailing axes of size 1 as `inputs` needs."""
    missing = len(inputs.shape) - len(values.shape)
    return ops.reshape(values, (*ops.shape(values), *(1,) * missing))


def masked_softmax(scores, mask, axis=-1):
    """Softmax over an axis, or several, among the entries that are real; zeros for the others, and where none is."""
    scores = ops.where(mask, scores, -1e30)
    powers = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=axis, keepdims=True)))
    powers = ops.where(mask, powers, 0.0)
    total = ops.sum(powers, axis=axis, keepdims=True)
    return powers / ops.where(total > 0, total, 1.0)
