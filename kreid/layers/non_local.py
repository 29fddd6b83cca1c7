"""The non-local block on frame maps."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, masked_softmax, spread
from kreid.layers.normalization import BatchNormalization


@keras.saving.register_keras_serializable(package="kreid")
class NonLocal(KreidLayer):
    """Add to every position of frame maps a sum over all positions, weighted by similarity (non-local block).

    `y_i = sum_j softmax_j(theta(x_i) . phi(x_j)) g(x_j)`, and `z_i = BN(W y_i) + x_i`. Positions are those of the same
    frame, or of all frames of the tracklet.

    Masking: masked frames enter no sum and no batch-norm statistic, and become zeros. Passes masks on. Any number of
    frames.

    Args:
        across_frames: sum over all frames of the tracklet (`True`) or over the position's own frame.
        reduction: the factor by which theta, phi and g are narrower than the maps.
        starts_as_identity: the batch normalisation's scale starts at 0, as in the paper.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.
        return_attention: also return each position's mean share of the sums.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: that of the inputs; attention: a dict of `maps` `(batch, frames, h, w)`, float32, which sum to 1 over
        a frame or, across frames, over a tracklet.

    Raises:
        ValueError: for inputs of another rank or of unknown size, or a reduction below 1.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 4, 8, 4, 16), "float32")
    >>> layer = kreid.layers.NonLocal(across_frames=True)
    >>> bool((layer(maps).numpy() == maps).all())
    True

    Reference: Wang et al., Non-local Neural Networks, 2018, equations 1, 3 (embedded Gaussian) and 6, section 3.3; rows
    "NL(S)" and "NL(ST)" in Table 4 of Zhang et al., MG-RAFA, 2020. No embedding has a bias, as the equations have none:
    softmax would cancel phi's, and batch normalisation g's and W's.
    """

    def __init__(
        self, across_frames: bool = False, reduction: int = 2, starts_as_identity: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"The reduction is a positive integer. Received: reduction={reduction!r}")
        self.across_frames = across_frames
        self.reduction = reduction
        self.starts_as_identity = starts_as_identity
        self.bn = BatchNormalization(0.0 if starts_as_identity else 1.0, dtype=self.dtype_policy, name="bn")
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5 or None in input_shape[2:]:
            raise ValueError(
                "Maps must be (batch, frames, h, w, C) with known h, w and C. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        channels = input_shape[-1]
        narrow = max(1, channels // self.reduction)
        for name, given, units in (
            ("theta", channels, narrow),
            ("phi", channels, narrow),
            ("g", channels, narrow),
            ("w", narrow, channels),
        ):
            dense = keras.layers.Dense(units, use_bias=False, dtype=self.dtype_policy, name=name)
            dense.build((None, None, given))
            setattr(self, name, dense)
        self.bn.build(input_shape)

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        mask = mask_of(inputs, mask)
        x = ops.where(spread(mask, inputs), inputs, 0)
        _, _, height, width, channels = inputs.shape
        # One set of positions for each tracklet, or for each of its frames.
        size = (ops.shape(inputs)[0], -1) if self.across_frames else (-1, height * width)
        nodes = ops.reshape(x, (*size, channels))
        real = ops.reshape(ops.repeat(mask, height * width, axis=1), size)

        # In float32, as softmax is: the products are not scaled and overflow float16.
        theta, phi = (ops.cast(layer(nodes), "float32") for layer in (self.theta, self.phi))
        products = ops.matmul(theta, ops.transpose(phi, (0, 2, 1)))
        products = ops.zeros_like(products) if self.uniform_attention else products
        weights = masked_softmax(products, ops.expand_dims(real, 1))
        gathered = self.w(ops.matmul(ops.cast(weights, self.compute_dtype), self.g(nodes)))
        gathered = ops.reshape(gathered, ops.shape(inputs))
        output = self.bn(gathered, mask=mask, training=training) + x
        output = ops.where(spread(mask, output), output, 0)
        if not return_attention:
            return output
        asking = ops.cast(real, "float32")
        asking = asking / ops.maximum(ops.sum(asking, axis=1, keepdims=True), 1.0)
        shares = ops.einsum("ri,rij->rj", asking, weights)
        return output, {"maps": ops.reshape(shares, ops.shape(inputs)[:4])}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {"maps": input_shape[:4]}
