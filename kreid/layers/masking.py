"""Helpers for masks over frames, which the layers share."""

from collections.abc import Sequence

from keras import ops

from kreid._typing import Tensor

_LAYOUTS = {1: "(batch, frames)", 2: "(batch, clips, frames)"}


def mask_of(inputs: Tensor, mask: Tensor | None, axis: int = 1) -> Tensor:
    """Return the mask as bool `(batch, frames)`, or up to another axis of the frames; all True for `None`.

    Raises:
        ValueError: if the mask has another rank or, where shapes are known, another shape.
    """
    if mask is None:
        return ops.ones(ops.shape(inputs)[: axis + 1], dtype="bool")
    mask = ops.convert_to_tensor(mask)
    check_per_frame("mask", mask, inputs, axis)
    return ops.cast(mask, "bool")


def check_per_frame(name: str, values: Tensor, inputs: Tensor, axis: int = 1) -> None:
    """Raise `ValueError` unless there is one value per frame, as far as the shapes are known."""
    shape, expected = tuple(values.shape), tuple(inputs.shape[: axis + 1])
    if len(shape) != len(expected) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(shape, expected, strict=False)
    ):
        hint = "; kreid.layers.LengthsToMask makes a mask from lengths" if name == "mask" else ""
        raise ValueError(
            f"{name} must be {_LAYOUTS[axis]}, one value per frame of the inputs{hint}. "
            f"Received: {name} of shape {shape!r}, inputs of shape {tuple(inputs.shape)!r}"
        )


def lengths_of(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return the lengths as int32 `(batch,)`.

    Raises:
        ValueError: if they have another rank or, where shapes are known, another shape.
    """
    lengths = ops.convert_to_tensor(lengths)
    batch = frames.shape[0]
    if len(lengths.shape) != 1 or (None not in (batch, lengths.shape[0]) and batch != lengths.shape[0]):
        raise ValueError(
            "lengths must be (batch,), the number of real frames of each tracklet. "
            f"Received: lengths of shape {tuple(lengths.shape)!r}, frames of shape {tuple(frames.shape)!r}"
        )
    return ops.cast(lengths, "int32")


def spread(values: Tensor, inputs: Tensor) -> Tensor:
    """Return `(batch, frames, ...)` values with as many trailing axes of size 1 as `inputs` needs."""
    missing = len(inputs.shape) - len(values.shape)
    return ops.reshape(values, (*ops.shape(values), *(1,) * missing))


def equal_shares(mask: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
    """Return float32 weights that are equal for real entries and sum to 1 over the axes; zeros where none is real."""
    return masked_softmax(ops.zeros_like(mask, dtype="float32"), mask, axis)


def masked_softmax(scores: Tensor, mask: Tensor, axis: int | Sequence[int] = -1) -> Tensor:
    """Softmax over one or several axes among the real entries; 0 for masked entries, also if all are masked."""
    scores = ops.where(mask, scores, -1e30)
    powers = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=axis, keepdims=True)))
    powers = ops.where(mask, powers, 0.0)
    total = ops.sum(powers, axis=axis, keepdims=True)
    return powers / ops.where(total > 0, total, 1.0)
