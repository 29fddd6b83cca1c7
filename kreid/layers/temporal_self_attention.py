"""Relations between all frames of a tracklet."""

import keras
from keras import ops

from kreid.layers.masking import mask_of, masked_softmax

NORMALIZATIONS = ("none", "mean", "softmax")


@keras.saving.register_keras_serializable(package="kreid")
class TemporalSelfAttention(keras.layers.Layer):
    """Temporal self-attention (TSA): adds to each frame what the others tell of it, the global temporal cues of GLTR.

    `F'' = W (Fbar . M) + F'` (equation 7). The mask M holds a relation for each pair of frames, `M[s, t] = b_s . c_t`
    with embeddings b and c of the frames, both a Dense layer, batch normalisation and ReLU; Fbar is another embedding,
    and all three have C / reduction features. Column t of `Fbar . M` is the sum of all frames by their relation to t.

    M takes `4 frames^2` bytes per tracklet in float32, and nothing is larger but the embeddings: 4 MB for 1,000 frames;
    the softmax makes a few such arrays. Frames are not ordered: they get what they would in any other order.

    Masking: masked frames have no relations, reach no statistics of batch normalisation, and become zeros, whatever
    they hold. Passes the mask on. The number of frames is free.

    Args:
        reduction: alpha, by how much the embeddings are narrower.
        normalize: what becomes of M: `"none"` leaves it as equation 7 has it; `"mean"` divides it by the real length;
            `"softmax"` makes each column sum to 1 over the real frames.
        output_initializer: of W; name of a Keras initialiser.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors.
        mask: optional bool, True on real frames.
        training: normalise by the batch.
        return_attention: also return M.

    Input shape: `(batch, frames, C)`; mask `(batch, frames)`.
    Output shape: the same; attention `(batch, frames, frames)`, float32, M as it is used.

    Raises:
        ValueError: for an argument out of its range, or inputs of another rank.

    Example:

    >>> frames = np.random.default_rng(0).random((2, 16, 8), "float32")
    >>> outputs, attention = kreid.layers.TemporalSelfAttention()(frames, return_attention=True)
    >>> tuple(outputs.shape), tuple(attention.shape), bool((outputs == frames).numpy().all())
    ((2, 16, 8), (2, 16, 16), True)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, equation 7;
    W starts at 0. The paper does not normalise M: what it adds grows with the number of frames, 16 in training and
    hundreds in the tests. `"mean"` is kreid's, so that a tracklet's repetition changes nothing.
    """

    def __init__(self, reduction=2, normalize="mean", output_initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        if not isinstance(reduction, int) or reduction < 1:
            raise ValueError(f"The reduction is a positive integer. Received: reduction={reduction!r}")
        if normalize not in NORMALIZATIONS:
            raise ValueError(f"Choose one of {', '.join(NORMALIZATIONS)}. Received: normalize={normalize!r}")
        self.reduction = reduction
        self.normalize = normalize
        self.output_initializer = output_initializer
        # On vectors float32 costs little.
        self.normalizations = [
            keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float32", name=f"bn_{name}")
            for name in "bc"
        ]
        self.supports_masking = True

    def build(self, input_shape):
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

    def call(self, inputs, mask=None, training=None, return_attention=False):
        mask = mask_of(inputs, mask)
        frames = ops.where(mask[..., None], inputs, 0)
        b, c = (
            ops.relu(normalization(embedding(frames), training=training, mask=mask))
            for embedding, normalization in zip(self.embeddings, self.normalizations, strict=True)
        )
        relations = self._normalized(ops.matmul(b, ops.swapaxes(c, 1, 2)), mask)
        values = ops.cast(self.values(frames), "float32")
        told = ops.matmul(ops.swapaxes(relations, 1, 2), values)
        outputs = self.restore(ops.cast(told, self.compute_dtype)) + frames
        outputs = ops.where(mask[..., None], outputs, 0)
        return (outputs, relations) if return_attention else outputs

    def _normalized(self, relations, mask):
        pairs = ops.logical_and(mask[:, :, None], mask[:, None, :])
        if self.normalize == "softmax":
            return ops.swapaxes(masked_softmax(ops.swapaxes(relations, 1, 2), pairs), 1, 2)
        if self.normalize == "mean":
            length = ops.sum(ops.cast(mask, "float32"), axis=1)[:, None, None]
            relations = relations / ops.maximum(length, 1.0)
        return ops.where(pairs, relations, 0.0)

    def compute_output_spec(self, inputs, mask=None, training=None, return_attention=False):
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        relations = keras.KerasTensor((*inputs.shape[:2], inputs.shape[1]), dtype="float32")
        return (output, relations) if return_attention else output

    def get_config(self):
        config = super().get_config()
        config.update(reduction=self.reduction, normalize=self.normalize, output_initializer=self.output_initializer)
        return config
