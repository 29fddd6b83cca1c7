"""Relations between all frames of a tracklet."""

import math
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.distances import safe_sqrt
from kreid.layers.base import KreidLayer
from kreid.layers.masking import equal_shares, mask_of, masked_softmax
from kreid.layers.normalization import BatchNormalization

NORMALIZATIONS = ("cosine", "mean", "softmax", "none")


@keras.saving.register_keras_serializable(package="kreid")
class TemporalSelfAttention(KreidLayer):
    """Temporal self-attention (TSA): add to each frame a sum over all frames, the global temporal cues of GLTR.

    `F'' = W (Fbar . M) + F'` (equation 7). The mask M holds a relation for each pair of frames, `M[s, t] = b_s . c_t`
    with embeddings b and c of the frames, both a Dense layer, batch normalisation and ReLU; Fbar is another embedding,
    and all three have C / reduction features. Column t of `Fbar . M` is the sum of all frames, each weighted by its
    relation to t.

    M takes `4 frames^2` bytes per tracklet in float32: 4 MB for 1,000 frames; only the embeddings are larger. The
    softmax makes a few arrays of that size. The order of the frames does not matter.

    Masking: masked frames have no relations, do not enter the statistics of batch normalisation, and become zeros,
    whatever they hold. Passes the mask on. Any number of frames.

    Args:
        reduction: alpha, the factor by which the embeddings are narrower.
        normalize: how M is normalised. `"cosine"` scales both embeddings of a frame to length 1 and divides M by the
            real length: entries between 0 and 1/T. `"mean"` only divides it by the real length, and `"none"` keeps it
            as in equation 7: both grow with the embeddings' width. With SGD at 0.01 on frame vectors of norm 5 or more
            `"mean"` overshoots and `"none"` is NaN within 50 steps; they need a rate 1,000 times lower. `"softmax"`
            divides M by the square root of the embeddings' width, then makes each column sum to 1 over the real frames.
        output_initializer: name of a Keras initialiser for W.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.
        training: normalise by the batch's statistics.
        return_attention: also return M.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: the same; attention `(batch, frames, frames)`, float32, M as it is used.

    Raises:
        ValueError: for an argument out of its range, or inputs or a mask of another shape.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 16, 8), "float32")
    >>> outputs, attention = kreid.layers.TemporalSelfAttention()(frames, return_attention=True)
    >>> tuple(outputs.shape), tuple(attention.shape), bool((outputs == frames).numpy().all())
    ((2, 16, 8), (2, 16, 16), True)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, equation 7;
    W starts at 0. The paper does not normalise M: the sum grows with the number of frames, 16 in training and
    hundreds in tests. kreid divides it by their number, so that a tracklet's repetition changes nothing, and takes the
    cosine of the embeddings, as products of 192 of their values are near 60 at the start.
    """

    def __init__(
        self, reduction: int = 2, normalize: str = "cosine", output_initializer: str = "zeros", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"The reduction is a positive integer. Received: reduction={reduction!r}")
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"Choose one of {', '.join(NORMALIZATIONS)}. Received: normalize={normalize!r}")
        self.reduction = reduction
        self.normalize = normalize
        self.output_initializer = output_initializer
        # On vectors float32 costs little.
        self.normalizations = [BatchNormalization(dtype="float32", name=f"bn_{name}") for name in "bc"]
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        channels = input_shape[-1]
        width = max(1, channels // self.reduction)
        policy = self.dtype_policy
        self.embeddings = [keras.layers.Dense(width, use_bias=False, dtype=policy, name=name) for name in "bc"]
        self.values = keras.layers.Dense(width, dtype=policy, name="values")
        self.restore = keras.layers.Dense(
            channels, kernel_initializer=self.output_initializer, dtype=policy, name="restore"
        )
        for layer in (*self.embeddings, self.values):
            layer.build((None, None, channels))
        for layer in (*self.normalizations, self.restore):
            layer.build((None, None, width))

    def call(
        self, inputs: Tensor, mask: Tensor | None = None, training: bool | None = None, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        mask = mask_of(inputs, mask)
        frames = ops.where(ops.expand_dims(mask, -1), inputs, 0)
        b, c = (
            ops.relu(normalization(embedding(frames), training=training, mask=mask))
            for embedding, normalization in zip(self.embeddings, self.normalizations, strict=True)
        )
        b, c = ops.cast(b, "float32"), ops.cast(c, "float32")
        if self.normalize == "cosine":
            b, c = (x / ops.maximum(safe_sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True)), 1e-6) for x in (b, c))
        relations = self._normalized(ops.matmul(b, ops.swapaxes(c, 1, 2)), mask)
        values = ops.cast(self.values(frames), "float32")
        gathered = ops.matmul(ops.swapaxes(relations, 1, 2), values)
        outputs = self.restore(ops.cast(gathered, self.compute_dtype)) + frames
        outputs = ops.where(ops.expand_dims(mask, -1), outputs, 0)
        return (outputs, relations) if return_attention else outputs

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def attention_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:2], input_shape[1])

    def _normalized(self, relations, mask):
        pairs = ops.logical_and(ops.expand_dims(mask, 2), ops.expand_dims(mask, 1))
        if self.uniform_attention:
            return equal_shares(pairs, axis=1)
        if self.normalize == "softmax":
            relations = relations / math.sqrt(self.values.units)
            return ops.swapaxes(masked_softmax(ops.swapaxes(relations, 1, 2), pairs), 1, 2)
        if self.normalize in ("cosine", "mean"):
            length = ops.expand_dims(ops.sum(ops.cast(mask, "float32"), axis=1), (1, 2))
            relations = relations / ops.maximum(length, 1.0)
        return ops.where(pairs, relations, 0.0)
