"""From the attentions of frames to the weights of a mean over frames."""

import keras
from keras import ops

from kreid.layers.masking import mask_of


@keras.saving.register_keras_serializable(package="kreid")
class FrameWeights(keras.layers.Layer):
    """Averages attentions of frames and scales them to mean 1 over each tracklet's real frames.

    `a_i = (w_i + v_i) / 2`, then divided by the mean of a. What comes out are the weights of equation 1,
    `1/N sum_i a_i f_i`, which they make a weighted mean.

    A very small number is added to each a_i: where all are 0 (a single frame or equal frames under
    `InterFrameDistance`, a ReLU that gives nothing) the weights are 1, the plain mean, and gradients stay finite.

    Masking: masked frames get 0, whatever they hold; passes the mask on. A tracklet with no real frame gives zeros.

    Args:
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: the attentions, none negative: one tensor or a list of them.
        mask: optional bool, True on real frames.

    Input shape: `(batch, frames)`, or a list of such; mask `(batch, frames)`.
    Output shape: `(batch, frames)`, float32.

    Raises:
        ValueError: for inputs of another rank.

    Example:

    >>> intra, inter = np.array([[0.5, 0.5, 0.9]], "float32"), np.array([[0.0, 1.0, 0.9]], "float32")
    >>> weights = kreid.layers.FrameWeights()([intra, inter], mask=np.array([[True, True, False]]))
    >>> keras.ops.convert_to_numpy(weights).round(1).tolist()
    [[0.5, 1.5, 0.0]]

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equation 2 and "Normalize image-level attention" in algorithm 1. The paper does not say how it
    normalises; mean 1 fits the 1/N of equation 1. Nor does it say what a zero sum gives.
    """

    # Beside sums of sigmoids, distances and active ReLUs nothing, and its inverse fits every float type.
    epsilon = 1e-6

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True
        # Attentions are float32 under every policy, and stay so.
        self.autocast = False

    def build(self, input_shape):
        for shape in input_shape if isinstance(input_shape[0], (tuple, list)) else [input_shape]:
            if len(shape) != 2:
                raise ValueError(f"Attentions must be (batch, frames). Received: inputs of shape {tuple(shape)!r}")

    def call(self, inputs, mask=None):
        attentions = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        mask = mask_of(attentions[0], self._one(mask))
        mean = sum(ops.cast(attention, "float32") for attention in attentions) / len(attentions)
        a = ops.where(mask, mean + self.epsilon, 0.0)
        length = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)
        return a * (length / ops.maximum(ops.sum(a, axis=1, keepdims=True), self.epsilon))

    @staticmethod
    def _one(mask):
        """The mask, where Keras gives one for each of several inputs."""
        if isinstance(mask, (list, tuple)):
            return next((one for one in mask if one is not None), None)
        return mask

    def compute_mask(self, inputs, previous_mask=None):
        return self._one(previous_mask)

    def compute_output_spec(self, inputs, mask=None):
        first = inputs[0] if isinstance(inputs, (list, tuple)) else inputs
        return keras.KerasTensor(first.shape, dtype="float32")
