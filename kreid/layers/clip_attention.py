"""The embedding of a tracklet from its clips."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import check_per_frame, mask_of, masked_softmax

WEIGHTINGS = ("average", "linear", "sigmoid", "softmax")


@keras.saving.register_keras_serializable(package="kreid")
class ClipAttention(KreidLayer):
    """Embed the clips of a tracklet and average the results with one weight per clip.

    A Dense layer T embeds each clip vector (equation 2), another W gives its weight, `w_i = W . f_Ci` (equation 1),
    and the tracklet's embedding is `f = 1/m sum_i w_i T(f_Ci)` over its m clips (equation 3). A clip's weight depends
    on that clip only. With `clip_lengths` n_i, clips count by their real frames: `f = sum_i n_i w_i T(f_Ci) / sum_i
    n_i`, which is equation 3 if all clips have the same length.

    Masking: masked clips have weight 0, whatever they hold, and neither m nor the sum of n_i counts them. A tracklet
    without a real clip gives zeros. Any number of clips.

    Args:
        embedding_dim: D, length of the embedding; `None` for no T: f is the weighted mean of the clip vectors (Table 1
            without "CA", as T belongs to that module).
        weighting: how W's output becomes the weight: `"sigmoid"` maps it to (0, 1), `"linear"` keeps it as equation 1
            prints it, `"softmax"` makes the weights of a tracklet sum to 1, without the 1/m, and `"average"` has no
            weights (Table 1 without "CA"). `"linear"` needs clip vectors of norm near 1, or a learning rate 300 times
            lower: with vectors of norm 28 and a squared triplet loss it is NaN after 5 steps at TACAN's rate.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: clip vectors.
        mask: optional bool, True on real clips.
        clip_lengths: optional numbers of real frames in each clip; clips of 0 frames are masked.
        return_attention: also return the weight of each clip.

    Input shape: `(batch, clips, C)`; mask and clip lengths `(batch, clips)`.
    Output shape: `(batch, D)`, where D is C without T; attention `(batch, clips)`, float32: the w of equation 3, ones
        for `"average"`, 0 for masked clips.

    Raises:
        ValueError: for an argument out of its range, or inputs, a mask or clip lengths of another shape.

    Example:

    >>> clips = np.random.default_rng(0).random((2, 5, 16), "float32")
    >>> embedding, weights = kreid.layers.ClipAttention(embedding_dim=8)(clips, return_attention=True)
    >>> tuple(embedding.shape), tuple(weights.shape)
    ((2, 8), (2, 5))

    Reference: Li et al., TACAN: Temporal Aggregation with Clip-level Attention for Video-based Person
    Re-identification, 2020, equations 1 to 3. kreid's choices: the weight has a bias that starts at 1, and W
    starts at 0, so that training starts from equal weights (1 for linear ones, 0.73 for sigmoids); T is linear. The
    paper prints no bound, but its Figure 6 shows weights of 0.92 to 0.95, where trained sigmoids are too. `"softmax"`
    is not in the paper. Equation 3 has clips of T frames only; kreid counts the shorter clip of left-over frames by its
    frames, so that each frame of a tracklet counts the same; else one left-over frame would count as much as T others.
    """

    def __init__(self, embedding_dim: int | None = 1024, weighting: str = "sigmoid", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if embedding_dim is not None and (not isinstance(embedding_dim, int) or embedding_dim < 1):
            raise ValueError(
                "embedding_dim is a positive integer, or None for the mean of the clip vectors themselves. "
                f"Received: embedding_dim={embedding_dim!r}"
            )
        if weighting not in WEIGHTINGS:
            raise ValueError(f"Choose one of {', '.join(WEIGHTINGS)}. Received: weighting={weighting!r}")
        self.embedding_dim = embedding_dim
        self.weighting = weighting
        self.transform = None
        if embedding_dim is not None:
            self.transform = keras.layers.Dense(embedding_dim, dtype=self.dtype_policy, name="transform")
        self.weigh = None
        if weighting != "average":
            # A bias does not change a softmax: it would never get a gradient.
            self.weigh = keras.layers.Dense(
                1,
                use_bias=weighting != "softmax",
                kernel_initializer="zeros",
                bias_initializer="ones",
                dtype="float32",
                name="weigh",
            )
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Clip vectors must be (batch, clips, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        if self.transform is not None:
            self.transform.build(input_shape)
        if self.weigh is not None:
            self.weigh.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        clip_lengths: Tensor | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        mask = mask_of(inputs, mask)
        counts = ops.cast(mask, "float32")
        if clip_lengths is not None:
            clip_lengths = ops.convert_to_tensor(clip_lengths)
            check_per_frame("clip_lengths", clip_lengths, inputs)
            counts = counts * ops.cast(clip_lengths, "float32")
            mask = counts > 0
        clips = ops.where(ops.expand_dims(mask, -1), inputs, 0)
        weights = self._weights(ops.cast(clips, "float32"), mask)
        embedded = ops.cast(clips if self.transform is None else self.transform(clips), "float32")
        shares = weights * counts
        sums_to_one = self.weighting == "softmax" and not self.uniform_attention
        total = ops.sum(shares if sums_to_one else counts, axis=1, keepdims=True)
        shares = shares / ops.where(total > 0, total, 1.0)
        if sums_to_one:
            weights = shares
        output = ops.cast(ops.sum(ops.expand_dims(shares, -1) * embedded, axis=1), self.compute_dtype)
        return (output, weights) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.embedding_dim or input_shape[-1])

    def attention_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:2]

    def _weights(self, clips, mask):
        if self.weighting == "average" or self.uniform_attention:
            return ops.cast(mask, "float32")
        weights = self.weigh(clips)[..., 0]
        if self.weighting == "softmax":
            return masked_softmax(weights, mask)
        if self.weighting == "sigmoid":
            weights = ops.sigmoid(weights)
        return ops.where(mask, weights, 0.0)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None
