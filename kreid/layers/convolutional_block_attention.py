"""The convolutional block attention module on frame maps."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class ConvolutionalBlockAttention(KreidLayer):
    """Weight each frame's map by channel, then by position (CBAM).

    A channel's weight is `sigmoid(MLP(mean) + MLP(max))` of its values over the positions; a position's weight is the
    sigmoid of a convolution over mean and maximum of its channels.

    Masking: frames do not interact; masked frames become zeros, whatever they hold. Passes masks on.

    Args:
        reduction: r, the factor by which the network's hidden layer is narrower than the maps.
        kernel_size: width of the convolution's kernel, odd.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        return_attention: also return both kinds of weights.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: that of the inputs; attention: a dict of `channels` `(batch, frames, C)` and `maps` `(batch, frames,
        h, w)`, both float32, between 0 and 1.

    Raises:
        ValueError: for inputs of another rank or of unknown size, a reduction below 1 or an even kernel.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 4, 8, 4, 32), "float32")
    >>> weighted, attention = kreid.layers.ConvolutionalBlockAttention()(maps, return_attention=True)
    >>> tuple(weighted.shape), tuple(attention["channels"].shape), tuple(attention["maps"].shape)
    ((2, 4, 8, 4, 32), (2, 4, 32), (2, 4, 8, 4))

    Reference: Woo et al., CBAM: Convolutional Block Attention Module, 2018, equations 1 to 3; rows "CBAM" in Table 5 of
    Zhang et al., MG-RAFA, 2020. As in the equations, neither the network nor the convolution has a bias.
    """

    def __init__(self, reduction: int = 16, kernel_size: int = 7, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"The reduction is a positive integer. Received: reduction={reduction!r}")
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"The kernel size must be odd: the kernel needs a centre. Received: kernel_size={kernel_size!r}"
            )
        self.reduction = reduction
        self.kernel_size = kernel_size
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5 or None in input_shape[2:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        *_, height, width, channels = input_shape
        hidden = max(1, channels // self.reduction)
        policy = self.dtype_policy
        self.first = keras.layers.Dense(hidden, "relu", use_bias=False, dtype=policy, name="first")
        self.second = keras.layers.Dense(channels, use_bias=False, dtype=policy, name="second")
        self.spatial = keras.layers.Conv2D(
            1, self.kernel_size, padding="same", activation="sigmoid", use_bias=False, dtype=policy, name="spatial"
        )
        self.first.build((None, None, channels))
        self.second.build((None, None, hidden))
        self.spatial.build((None, height, width, 2))

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        x = ops.where(spread(mask_of(inputs, mask), inputs), inputs, 0)
        summaries = (ops.cast(ops.mean(ops.cast(x, "float32"), axis=(2, 3)), x.dtype), ops.max(x, axis=(2, 3)))
        channels = ops.sigmoid(sum(self.second(self.first(summary)) for summary in summaries))
        channels = ops.ones_like(channels) if self.uniform_attention else channels
        x = x * ops.expand_dims(channels, (2, 3))

        positions = [ops.cast(ops.mean(ops.cast(x, "float32"), axis=-1), x.dtype), ops.max(x, axis=-1)]
        positions = ops.reshape(ops.stack(positions, axis=-1), (-1, *inputs.shape[2:4], 2))
        maps = ops.reshape(self.spatial(positions), ops.shape(inputs)[:4])
        maps = ops.ones_like(maps) if self.uniform_attention else maps
        output = x * ops.expand_dims(maps, -1)
        if not return_attention:
            return output
        return output, {"channels": ops.cast(channels, "float32"), "maps": ops.cast(maps, "float32")}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {"channels": (*input_shape[:2], input_shape[-1]), "maps": input_shape[:4]}
