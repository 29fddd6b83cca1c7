"""The base of layers that pool frames by their similarities, less what all frames share."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from kreid._replicas import moments_over_replicas
from kreid._typing import Shape, Tensor
from kreid.distances import safe_sqrt
from kreid.layers.base import KreidLayer
from kreid.layers.masking import equal_shares, mask_of


class CentredPooling(KreidLayer):
    """Pool frame vectors by weights that a subclass derives from their cosines after a mean vector is subtracted.

    All frame vectors of a network have a large part in common, so that frames of two persons have cosines near 1;
    without that part they have cosines near 0. In training the part is the mean of the batch's real frames, and
    `moving_mean` follows it; otherwise it is `moving_mean`, as in batch normalisation. A frozen layer
    (`trainable=False`) uses and keeps `moving_mean` in training too. No gradient passes through the mean.

    A subclass implements `frame_weights(units, mask)`.

    Args:
        centre: subtract the mean. `False` makes a layer without `moving_mean`.
        **kwargs: base layer arguments, such as `name` and `dtype`.
    """

    momentum = 0.9

    def __init__(self, centre: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(centre, bool):
            raise ValueError(f"Say True or False. Received: centre={centre!r}")
        self.centre = centre
        self.over_replicas = True
        self.moving_mean: Any = None
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise ValueError(
                f"Frame vectors must be (batch, frames, C). Received: inputs of shape {tuple(input_shape)!r}"
            )
        if self.centre:
            self.moving_mean = self.add_weight(
                shape=(input_shape[-1],),
                initializer="zeros",
                trainable=False,
                dtype="float32",
                autocast=False,
                name="moving_mean",
            )

    def set_mean(self, vector: ArrayLike) -> None:
        """Set `moving_mean`, such as for weights that were trained without this layer; builds the layer if needed.

        Args:
            vector: mean frame vector of training, `(C,)`.

        Raises:
            ValueError: for a layer that subtracts no mean, or another shape or values that are not finite.
        """
        if not self.centre:
            raise ValueError("This layer subtracts no mean; make it with centre=True. Received: centre=False")
        values = np.asarray(ops.convert_to_numpy(vector), "float32")
        if not self.built and values.ndim == 1:
            self.build((None, None, len(values)))
        expected = tuple(self.moving_mean.shape) if self.built else ("C",)
        if values.shape != expected:
            raise ValueError(
                f"The mean frame vector must be of shape {expected}. Received: vector of shape {values.shape}"
            )
        if not np.isfinite(values).all():
            raise ValueError("The mean frame vector must be finite. Received: vector with NaN or infinite values")
        self.moving_mean.assign(values)

    def call(
        self,
        inputs: Tensor,
        mask: Tensor | None = None,
        training: bool | None = None,
        return_attention: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        mask = mask_of(inputs, mask)
        vectors = ops.where(ops.expand_dims(mask, -1), ops.cast(inputs, "float32"), 0.0)
        if self.uniform_attention:
            weights = equal_shares(mask)
        else:
            weights = self.frame_weights(self._units(vectors, mask, training), mask)
        output = ops.cast(ops.sum(vectors * ops.expand_dims(weights, -1), axis=1), self.compute_dtype)
        return (output, weights) if return_attention else output

    def frame_weights(self, units: Tensor, mask: Tensor) -> Tensor:
        """Return float32 weights `(batch, frames)` of sum 1, 0 for masked frames.

        Args:
            units: float32 `(batch, frames, C)`, vectors of length 1; zeros for masked frames and for a frame that
                equals the mean.
            mask: bool `(batch, frames)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement frame_weights().")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def attention_shape(self, input_shape: Shape) -> Shape:
        return input_shape[:2]

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> None:
        return None

    def _units(self, vectors: Tensor, mask: Tensor, training: bool | None) -> Tensor:
        if self.centre:
            vectors = ops.where(ops.expand_dims(mask, -1), vectors - self._mean(vectors, mask, training), 0.0)
        norms = safe_sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
        return vectors / ops.where(norms > 0, norms, 1.0)

    def _mean(self, vectors: Tensor, mask: Tensor, training: bool | None) -> Tensor:
        if not training or not self.trainable:
            return self.moving_mean
        count = ops.sum(ops.cast(mask, "float32"))
        mean = ops.sum(ops.stop_gradient(vectors), axis=(0, 1)) / ops.maximum(count, 1.0)
        if self.over_replicas:
            mean, _ = moments_over_replicas(mean, ops.zeros_like(mean), count)
        self.moving_mean.assign(self.momentum * self.moving_mean + (1 - self.momentum) * mean)
        return mean
