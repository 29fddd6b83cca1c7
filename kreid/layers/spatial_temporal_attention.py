"""STA's parameter-free attention over the stripes of all frames."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.distances import safe_sqrt
from kreid.layers.base import KreidLayer
from kreid.layers.masking import mask_of, spread
from kreid.layers.portable import first_largest


@keras.saving.register_keras_serializable(package="kreid")
class SpatialTemporalAttention(KreidLayer):
    """Fuse the frame maps of a tracklet stripe by stripe, weighted by each frame's response there.

    A frame's attention map is its energy, `g = sum_c f^2`, divided by the map's sum (equation 1; the norm of a scalar
    is its absolute value). The map is cut into K horizontal stripes (equation 2); a stripe's score is the sum of its
    attention (equation 3), divided by the same stripe's sum over frames (equation 4). The result is two maps (algorithm
    1): F1 holds, for each stripe, the stripe of the frame with the highest score; F2 the score-weighted sum. The output
    is both, F1 first.

    In training, inter-frame regularisation (equations 5 to 7) adds `regularization` times the Frobenius norm of the
    difference between the attention maps of two different real frames, drawn again at each step.

    Masking: masked frames have weight 0, whatever they hold, and are never drawn or chosen. A tracklet without a real
    frame gives zeros. Any number of frames.

    Args:
        num_stripes: K, the number of horizontal stripes. The papers' best is 4.
        fusion: return F1 and F2 (`True`) or F2 alone ("STA" without "Fusion" in Table 1).
        regularization: lambda of equation 7, 0 for none.
        seed: for drawing the frames of the regularisation.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame maps after a ReLU.
        mask: optional bool, True on real frames.
        training: adds the regularisation when true.
        return_attention: also return the stripe scores S of equation 4 and the maps g of equation 1.

    Input shape: `(batch, frames, h, w, C)`; mask `(batch, frames)`.
    Output shape: `(batch, h, w, 2C)`, or `(batch, h, w, C)` without fusion; attention: a dict of `stripes`
        `(batch, frames, K)` and `maps` `(batch, frames, h, w)`, both float32.

    Raises:
        ValueError: if the height is not divisible by K, for a negative lambda, or inputs or a mask of another shape.

    Example:

    >>> maps = np.random.default_rng(0).random((2, 4, 8, 4, 16), "float32")
    >>> fused, attention = kreid.layers.SpatialTemporalAttention(num_stripes=4)(maps, return_attention=True)
    >>> tuple(fused.shape), tuple(attention["stripes"].shape)
    ((2, 8, 4, 32), (2, 4, 4))

    Reference: Fu et al., STA: Spatial-Temporal Attention for Large-Scale Video-based Person Re-Identification, 2019,
    equations 1 to 7 and algorithm 1. kreid's choices: the regularisation is averaged over the tracklets of
    the batch that have two real frames or more (also where the other losses are sums over the batch), a frame whose map
    is all zero has zero attention, and the first of equal scores wins. The paper gives no lambda; kreid takes 0.1.
    """

    def __init__(
        self,
        num_stripes: int = 4,
        fusion: bool = True,
        regularization: float = 0.1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(num_stripes, int) or num_stripes < 1:
            raise ValueError(f"The number of stripes must be a positive integer. Received: num_stripes={num_stripes!r}")
        if regularization < 0:
            raise ValueError(f"The regularisation cannot be negative. Received: regularization={regularization!r}")
        self.num_stripes = num_stripes
        self.fusion = fusion
        self.regularization = regularization
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 5:
            raise ValueError(f"Maps must be (batch, frames, h, w, C). Received: inputs of shape {tuple(input_shape)!r}")
        if input_shape[2] is None or input_shape[3] is None or input_shape[2] % self.num_stripes:
            raise ValueError(
                f"The map's size must be known and its height divisible by the number of stripes; choose num_stripes "
                f"among the height's divisors. "
                f"Received: num_stripes={self.num_stripes!r}, inputs of shape {tuple(input_shape)!r}"
            )

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        mask = mask_of(inputs, mask)
        _, _, h, w, channels = inputs.shape
        batch, frames = ops.shape(inputs)[:2]
        f = ops.where(spread(mask, inputs), inputs, 0)

        # Energies in float32: squares of float16 features overflow.
        energy = ops.sum(ops.square(ops.cast(f, "float32")), axis=-1)
        if self.uniform_attention:
            energy = ops.where(spread(mask, energy), ops.ones_like(energy), 0.0)
        g = _share(energy, axis=(2, 3))
        scores = ops.sum(ops.reshape(g, (batch, frames, self.num_stripes, -1)), axis=-1)
        scores = _share(scores, axis=1)
        if training and self.regularization:
            self.add_loss(self.regularization * self._inter_frame_difference(g, mask))

        # Both fusions are one product: per stripe, frames x (one-hot of the best frame, scores).
        weights = [scores]
        if self.fusion:
            best = first_largest(ops.where(ops.expand_dims(mask, 2), scores, -1.0), axis=1)
            # Of equal scores none is the highest.
            weights.insert(0, scores if self.uniform_attention else best)
        weights = ops.cast(ops.stack(weights, axis=-1), f.dtype)
        stripes = ops.reshape(f, (batch, frames, self.num_stripes, (h // self.num_stripes) * w, channels))
        # In this order of the factors whole rows of features are moved, never single features.
        fused = ops.transpose(ops.einsum("btkm,btkpc->bkmpc", weights, stripes), (0, 1, 3, 2, 4))
        output = ops.reshape(fused, (batch, h, w, self._maps_out * channels))
        return (output, {"stripes": scores, "maps": g}) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, _, h, w, channels = input_shape
        return (batch, h, w, self._maps_out * channels)

    def attention_shape(self, input_shape: Shape) -> dict[str, Shape]:
        return {"stripes": (*input_shape[:2], self.num_stripes), "maps": input_shape[:4]}

    @property
    def _maps_out(self):
        return 2 if self.fusion else 1

    def _inter_frame_difference(self, g, mask):
        """Return equation 6 for one random pair of different real frames per tracklet, averaged over tracklets."""
        draw = keras.random.uniform(ops.shape(mask), seed=self.seed_generator)
        draw = ops.where(mask, draw, -1.0)
        first = first_largest(draw, axis=1)
        second = first_largest(ops.where(first > 0, -2.0, draw), axis=1)
        difference = ops.einsum("bt,bthw->bhw", first - second, g)
        pairs = ops.cast(ops.sum(ops.cast(mask, "int32"), axis=1) >= 2, "float32")
        norms = safe_sqrt(ops.sum(ops.square(difference), axis=(1, 2))) * pairs
        return ops.sum(norms) / ops.maximum(ops.sum(pairs), 1.0)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None


def _share(x, axis):
    """Return each value's share of the sum over `axis`; zeros where the sum is zero."""
    total = ops.sum(x, axis=axis, keepdims=True)
    return x / ops.where(total > 0, total, 1.0)
