"""Average pooling over the frames of a tracklet, plain or weighted."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Shape, Tensor
from kreid.layers.base import KreidLayer
from kreid.layers.masking import check_per_frame, mask_of, spread


@keras.saving.register_keras_serializable(package="kreid")
class FrameAverage(KreidLayer):
    """Average frame vectors or maps over a tracklet's real frames; with `weights`, a weighted mean.

    Without weights it is the baseline of all five papers. Weights are attentions of frames of any scale: several are
    averaged, `a_i = (w_i + v_i) / 2`, divided by their mean over the N real frames and used as `1/N sum_i a_i f_i`.
    With `balance` each of several is divided by its own mean over the real frames first, so that all count: otherwise a
    distance of 7 would hide a sigmoid of 0.2 to 0.6.
    A very small number is added to each a_i: if all are 0 (a single frame or equal frames under `InterFrameDistance`,
    a dead ReLU) the result is the plain mean, and gradients stay finite. Summed in float32.

    Masking: masked frames have weight 0, whatever they and their weights hold. Without `mask`, the mask that the
    inputs or the weights carry is used. A tracklet without a real frame gives zeros.

    Args:
        axis: axis of the frames. With 2 the frames of each clip are averaged separately: `clips` comes before `frames`
            in all shapes below.
        balance: scale each of several weights to mean 1 before they are averaged. False is equation 2 to the letter,
            for attentions of similar scale.
        **kwargs: base layer arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: frame vectors or maps.
        weights: optional attentions, none negative: one tensor or a list of them.
        mask: optional bool, True on real frames.
        return_attention: also return the share of each frame, `a_i / N`.

    Input shape: `(batch, frames, ...)`; each of weights, and mask, `(batch, frames)`.
    Output shape: `(batch, ...)`; attention `(batch, frames)`, float32, summing to 1.

    Raises:
        ValueError: for another axis, inputs without it, or weights of another shape.

    Example:

    >>> frames, mask = np.array([[[1.0], [3.0], [8.0]]], "float32"), np.array([[True, True, False]])
    >>> float(kreid.layers.FrameAverage()(frames, mask=mask)[0, 0])
    2.0
    >>> intra, inter = np.array([[0.5, 0.5, 0.9]], "float32"), np.array([[0.0, 1.0, 0.9]], "float32")
    >>> round(float(kreid.layers.FrameAverage()(frames, [intra, inter], mask=mask)[0, 0]), 3)
    2.5

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, equations 1 and 2 and "Normalize image-level attention" in algorithm 1. The paper does not say how it
    normalises; mean 1 fits the 1/N of equation 1. It does not say what a zero sum gives. Plain averaging: "Baseline +
    TL + Avg" in Table 1 of Fu et al., STA, 2019.
    """

    # Negligible next to sums of sigmoids, distances and active ReLUs; its inverse fits every float type.
    epsilon = 1e-6

    def __init__(self, axis: int = 1, balance: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if axis not in (1, 2):
            raise ValueError(f"Frames are on axis 1, or on axis 2 after clips. Received: axis={axis!r}")
        self.axis = axis
        self.balance = balance
        self.supports_masking = True
        # Weights are float32 under every policy, and stay so.
        self.autocast = False

    def build(self, inputs_shape: Shape, weights_shape: Any = None) -> None:
        if len(inputs_shape) < self.axis + 2:
            layout = "batch, frames" if self.axis == 1 else "batch, clips, frames"
            raise ValueError(
                f"Frames must be ({layout}, features...). Received: inputs of shape {tuple(inputs_shape)!r}"
            )

    def call(
        self,
        inputs: Tensor,
        weights: Tensor | Sequence[Tensor] | None = None,
        mask: Tensor | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        attentions = list(weights) if isinstance(weights, (list, tuple)) else [] if weights is None else [weights]
        for attention in attentions:
            check_per_frame("weights", attention, inputs, self.axis)
        if mask is None:
            # Keras looks for carried masks itself only where there is one input.
            carried = (getattr(tensor, "_keras_mask", None) for tensor in (inputs, *attentions))
            mask = next((one for one in carried if one is not None), None)
        mask = mask_of(inputs, mask, self.axis)
        a = ops.cast(mask, "float32")
        if attentions and not self.uniform_attention:
            a = [ops.where(mask, ops.cast(attention, "float32") + self.epsilon, 0.0) for attention in attentions]
            # A mean of 1 is a sum of N for each: the division by the whole sum removes the factor N.
            a = sum(map(self._shares, a) if self.balance else a) / len(a)
        shares = self._shares(a)
        x = ops.where(spread(mask, inputs), ops.cast(inputs, "float32"), 0.0)
        output = ops.cast(ops.sum(x * spread(shares, inputs), axis=self.axis), self.compute_dtype)
        return (output, shares) if return_attention else output

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[: self.axis], *input_shape[self.axis + 1 :])

    def attention_shape(self, input_shape: Shape) -> Shape:
        return input_shape[: self.axis + 1]

    def _shares(self, weights: Tensor) -> Tensor:
        """Return weights of sum 1; zeros where all are zeros."""
        return weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), self.epsilon)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None
