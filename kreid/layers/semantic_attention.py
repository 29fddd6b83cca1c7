"""Fusion of a tracklet's vectors from several stages of a network."""

from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer


@keras.saving.register_keras_serializable(package="kreid")
class SemanticAttention(KreidLayer):
    """Fuse a tracklet's vectors from K network stages with weights that the vectors vote for.

    Each vector gives a softmax over the K stages, `u_ij = B(g_i)_j` (equation 7); a stage's weight is the mean of the
    votes, `u_j = 1/K sum_i u_ij` (equation 8); the output is the weighted mean `sum_j u_j g_j`.

    Masking: there are no frames, and no mask.

    Args:
        as_printed: divide the output by K once more, as equation 9 is printed, `1/K sum_j u_j g_j`. The weights
            already sum to 1, so the output is then K times shorter than an average of the vectors, and the gradients
            of a triplet loss with a fixed margin weaker in proportion.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: the stages' vectors, in a fixed order.
        return_attention: also return the stages' weights.

    Input shape: `(batch, K, D)`, K known.
    Output shape: `(batch, D)`; attention `(batch, K)`, float32, summing to 1.

    Raises:
        ValueError: for inputs of another rank, or an unknown number of stages.

    Example:

    >>> vectors = np.random.default_rng(0).random((2, 4, 16), "float32")
    >>> fused, weights = kreid.layers.SemanticAttention()(vectors, return_attention=True)
    >>> tuple(fused.shape), tuple(weights.shape)
    ((2, 16), (2, 4))

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equations 7 to 9. B is one Dense layer that all stages share. Without equation 9's 1/K the rows
    "average" and "attention" of Table 1 have embeddings of the same scale; the order of distances is the same.
    """

    def __init__(self, as_printed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.as_printed = as_printed
        self.classifier: Any = None

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3 or input_shape[1] is None:
            raise ValueError(
                f"The stages' vectors must be (batch, K, D) with a known K. "
                f"Received: inputs of shape {tuple(input_shape)!r}"
            )
        self.classifier = keras.layers.Dense(input_shape[1], dtype=self.dtype_policy, name="classifier")
        self.classifier.build(input_shape)

    def call(self, inputs: Tensor, return_attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        votes = ops.cast(self.classifier(inputs), "float32")
        votes = ops.softmax(ops.zeros_like(votes) if self.uniform_attention else votes, axis=-1)
        weights = ops.mean(votes, axis=1)
        fused = ops.sum(ops.cast(inputs, "float32") * ops.expand_dims(weights, 2), axis=1)
        if self.as_printed:
            fused = fused / inputs.shape[1]
        output = ops.cast(fused, self.compute_dtype)
        return (output, weights) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def attention_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:2]
