"""Functional models on frames, and the shapes of their batches."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


class FrameModel(keras.Model):
    """A functional model on frames that refuses frames of another dtype.

    Every replica of a mirrored model runs the whole batch, and Keras joins their outputs: one of them is kept.
    """

    def predict_on_batch(self, x: Mapping[str, Any]) -> Any:
        count = len(next(iter(x.values())))
        return keras.tree.map_structure(lambda output: output[:count], super().predict_on_batch(x))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return super().call(checked_dtype(inputs), training=training, mask=mask)


def checked_dtype(inputs: Any) -> Any:
    """Return the inputs if their frames are uint8: Keras would cast others silently, frames of 0..1 to black."""
    frames = inputs.get("frames") if isinstance(inputs, Mapping) else None
    dtype = getattr(frames, "dtype", None)
    if dtype is not None and keras.backend.standardize_dtype(dtype) != "uint8":
        raise ValueError(
            "Frames must be uint8 RGB values of 0..255; multiply values of 0..1 by 255, round and cast. "
            f"Received: frames of dtype {keras.backend.standardize_dtype(dtype)}"
        )
    return inputs


def of_common_shape(batch: Mapping[str, Any], frames: bool = True) -> dict[str, np.ndarray]:
    """Pad a batch to numbers of tracklets and frames of the form `2^n` or `3 * 2^n`.

    JAX compiles once for each shape, and batches of evaluation have nearly as many shapes as there are batches.

    Args:
        batch: arrays by name, tracklets first, then frames; `"lengths"` has no frames.
        frames: pad the number of frames too.
    """
    padded = {}
    for name, values in batch.items():
        values = np.asarray(values)
        axes = 2 if frames and name != "lengths" else 1
        widths = [(0, _common_size(size) - size) for size in values.shape[:axes]]
        padded[name] = np.pad(values, [*widths, *[(0, 0)] * (values.ndim - axes)])
    return padded


def _common_size(size: int) -> int:
    power = 1 << (size - 1).bit_length()
    return power if power // 4 * 3 < size else power // 4 * 3
