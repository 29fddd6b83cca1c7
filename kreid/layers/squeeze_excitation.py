"""Squeeze-and-excitation on frame maps."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class SqueezeExcitation(KreidLayer):
    """Weight the channels of each frame's map by a small network on their means (SE).

    Masking: frames do not interact; masked frames become zeros, whatever they hold. Passes masks on.

    Args:
        reduction: r, the factor by which the network's hidden layer is narrower than the maps.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        return_attention: also return the channels' weights.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: that of the inputs; attention: a dict of `channels` `(batch, frames, C)`, float32, between 0 and 1.

    Raises:
        ValueError: for inputs of another rank, or a reduction below 1.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 4, 8, 4, 32), "float32")
    >>> weighted, attention = kreid.layers.SqueezeExcitation()(maps, return_attention=True)
    >>> tuple(weighted.shape), tuple(attention["channels"].shape)
    ((2, 4, 8, 4, 32), (2, 4, 32))

    Reference: Hu et al., Squeeze-and-Excitation Networks, 2018, equations 2 to 4; rows "SE" in Table 5 of Zhang et al.,
    MG-RAFA, 2020.
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"The reduction is a positive integer. Received: reduction={reduction!r}")
        self.reduction = reduction
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5:
            raise ValueError(f"Maps must be (batch, frames, h, w, C). Received: inputs of shape {tuple(input_shape)!r}")
        channels = input_shape[-1]
        hidden = max(1, channels // self.reduction)
        self.squeeze = keras.layers.Dense(hidden, "relu", dtype=self.dtype_policy, name="squeeze")
        self.excite = keras.layers.Dense(channels, "sigmoid", dtype=self.dtype_policy, name="excite")
        self.squeeze.build((None, None, channels))
        self.excite.build((None, None, hidden))

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        x = ops.where(spread(mask_of(inputs, mask), inputs), inputs, 0)
        means = ops.mean(ops.cast(x, "float32"), axis=(2, 3))
        weights = self.excite(self.squeeze(means))
        weights = ops.ones_like(weights) if self.uniform_attention else weights
        output = x * ops.expand_dims(weights, (2, 3))
        return (output, {"channels": ops.cast(weights, "float32")}) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {"channels": (*input_shape[:2], input_shape[-1])}
