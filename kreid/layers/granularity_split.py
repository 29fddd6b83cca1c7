"""Channel groups of frame maps, each at its own granularity."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer


@keras.saving.register_keras_serializable(package="kreid")
class GranularitySplit(KreidLayer):
    """Cut the channels of frame maps into groups and average-pool the m-th group by 2^(m-1) in height and width.

    Masking: frames do not interact; pass the mask to the next layer yourself.

    Args:
        num_groups: N, the number of groups.
        pool: pool the groups (`True`) or keep all at full resolution.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.

    Input shape: `(batch, frames, h, w, C)`.
    Output shape: a list of N maps `(batch, frames, h / 2^(m-1), w / 2^(m-1), C / N)`.

    Raises:
        ValueError: if the groups do not divide the channels, or the map cannot be halved N - 1 times.

    Example:

    >>> parts = kreid.layers.GranularitySplit(4)(np.ones((2, 3, 16, 8, 64), "float32"))
    >>> [tuple(part.shape[2:]) for part in parts]
    [(16, 8, 16), (8, 4, 16), (4, 2, 16), (2, 1, 16)]

    Reference: Zhang et al., Multi-Granularity Reference-Aided Attentive Feature Aggregation, 2020, section 3.3.
    """

    def __init__(self, num_groups: int = 4, pool: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_groups, int) or num_groups < 1:
            raise ValueError(f"At least one group is needed. Received: num_groups={num_groups!r}")
        self.num_groups = num_groups
        self.pool = pool

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5 or None in input_shape[2:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        _, _, height, width, channels = input_shape
        if channels % self.num_groups:
            raise ValueError(
                f"Choose a number of groups that divides the {channels} channels. "
                f"Received: num_groups={self.num_groups!r}"
            )
        most = next(n for n in range(1, 64) if height % 2**n or width % 2**n)
        if self.pool and self.num_groups > most:
            raise ValueError(
                f"A map of {height}x{width} can be halved {most - 1} times: take at most {most} granularities, or "
                f"larger maps (a larger image, last_stride=1). Received: num_groups={self.num_groups!r}"
            )

    def call(self, inputs: Tensor) -> list[Tensor]:
        parts = ops.split(inputs, self.num_groups, axis=-1)
        if not self.pool:
            return parts
        return [parts[0], *(pooled(part, (2**m, 2**m)) for m, part in enumerate(parts[1:], 1))]

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        batch, frames, height, width, channels = input_shape
        scales = [2**m if self.pool else 1 for m in range(self.num_groups)]
        return [(batch, frames, height // s, width // s, channels // self.num_groups) for s in scales]


def pooled(maps, size):
    """Return the frame maps average-pooled in float32 by `(height, width)`, which must divide the maps' size."""
    if tuple(size) == (1, 1):
        return maps
    flat = ops.cast(ops.reshape(maps, (-1, *maps.shape[2:])), "float32")
    # Strides are given: on JAX Keras derives wrong ones.
    flat = ops.cast(ops.average_pool(flat, tuple(size), strides=tuple(size)), maps.dtype)
    return ops.reshape(flat, (*ops.shape(maps)[:2], *flat.shape[1:]))
