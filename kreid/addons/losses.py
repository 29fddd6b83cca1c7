"""TensorFlow Addons' metric losses as Keras 3 losses on the embeddings of a batch.

The classes have the names and arguments of `tensorflow_addons.losses`, and recipes know them as `metric_loss:
tfa.TripletSemiHardLoss`. TensorFlow Addons computes the values. It is imported at the first value, so that saved
models can be loaded without it; `AddonsLoss.check_installed` asks earlier. `NpairsMultilabelLoss` has no class here: a
tracklet has one identity, for which it equals `NpairsLoss`.
"""

from typing import Any, ClassVar

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.addons.package import losses_module
from kreid.distances import pairwise_dot, pairwise_euclidean
from kreid.losses import MetricLoss
from kreid.losses.base import labels_of
from kreid.losses.pairs import check_choice, check_number, having_both, pairs_of

__all__ = [
    "AddonsLoss",
    "ContrastiveLoss",
    "LiftedStructLoss",
    "NpairsLoss",
    "TripletHardLoss",
    "TripletSemiHardLoss",
]

_DISTANCES = ("L2", "squared-L2", "angular")
_REDUCTIONS = ("sum_over_batch_size", "mean")
# Below every logit, and far enough above the least float32 that sums with it stay finite.
_LOWEST = -1e30


class AddonsLoss(MetricLoss):
    """Base of the losses that TensorFlow Addons computes, one number per batch.

    Labels, gathering over replicas and `mining` are those of `MetricLoss`. A batch without a positive and a negative
    for any anchor, where TensorFlow Addons divides by 0, gives 0 with gradients of 0. Values are float32. The number of
    a batch is already a mean, so other reductions and sample weights are refused.

    Args:
        reduction: `"sum_over_batch_size"` or `"mean"`, which are the same here.
        name: name of the loss.
        mining: `"global"` or `"replica"`, see `MetricLoss`.

    Call arguments:
        y_true: identity labels.
        y_pred: embeddings.

    Input shape: labels `(batch,)` or `(batch, 1)`; embeddings `(batch, features)`.
    Output shape: scalar.

    Raises:
        ValueError: for another reduction, sample weights, or a backend other than TensorFlow.
        ImportError: at the first value, without TensorFlow Addons, with the command that installs it.
    """

    function: ClassVar[str]
    """Name of the function in `tensorflow_addons.losses`."""

    def __init__(self, reduction: str = "sum_over_batch_size", name: str | None = None, mining: str = "global") -> None:
        if reduction not in _REDUCTIONS:
            raise ValueError(
                "TensorFlow Addons' losses are means over a batch; set loss_reduction=mean in a recipe, or use one of "
                f"kreid.losses. Received: reduction={reduction!r}"
            )
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "TensorFlow Addons computes with TensorFlow alone; use one of kreid.losses. "
                f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
            )
        super().__init__(reduction=reduction, name=name, mining=mining)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the loss of a batch; see the class."""
        if sample_weight is not None:
            raise ValueError(
                "TensorFlow Addons' losses have no weights of anchors; use one of kreid.losses. "
                f"Received: sample_weight={sample_weight!r}"
            )
        return super().__call__(y_true, y_pred)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the batch's number once per anchor."""
        labels = labels_of(y_true)
        has_terms = self._has_terms(*pairs_of(labels))
        # Without terms value and gradients are NaN: both are left out, not multiplied by 0.
        y_pred = ops.where(has_terms, y_pred, ops.stop_gradient(y_pred))
        value = self._value(getattr(losses_module(), self.function), labels, y_pred)
        return ops.broadcast_to(ops.where(has_terms, value, 0), ops.shape(labels))

    def terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return 1 for each anchor: the number is the batch's."""
        return ops.ones_like(positives[:, 0], dtype="int32")

    def check_installed(self) -> None:
        """Raise if TensorFlow Addons is not installed.

        Raises:
            ImportError: with the command that installs it, or kreid's own losses where it has no package.
        """
        losses_module()

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = super().get_config()
        del config["dtype"]
        return config

    def _has_terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        return ops.any(having_both(positives, negatives))

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must implement _value().")


class _Triplet(AddonsLoss):
    """The two triplet losses."""

    def __init__(self, margin: float, distance_metric: str, **kwargs: Any) -> None:
        check_number("margin", margin)
        check_choice("distance_metric", distance_metric, _DISTANCES)
        super().__init__(**kwargs)
        self.margin = margin
        self.distance_metric = distance_metric

    def get_config(self) -> dict[str, Any]:
        return {"margin": self.margin, "distance_metric": self.distance_metric, **super().get_config()}


@keras.saving.register_keras_serializable(package="kreid.addons")
class TripletSemiHardLoss(_Triplet):
    """TensorFlow Addons' triplet loss with semi-hard negatives.

    See `AddonsLoss` for labels, batches without terms, reductions and errors. It equals
    `kreid.losses.SemiHardTriplet(margin)`, with the distance of the same meaning.

    Args:
        margin: number of at least 0.
        distance_metric: `"L2"` for Euclidean distances, `"squared-L2"` for their squares, or `"angular"` for cosine
            distances.
        reduction: see `AddonsLoss`.
        name: name of the loss.
        mining: see `AddonsLoss`.

    Example:

    >>> kreid.addons.losses.TripletSemiHardLoss(margin=0.5).margin
    0.5

        value = kreid.addons.losses.TripletSemiHardLoss()(labels, embeddings)  # Needs TensorFlow Addons.

    Reference: Schroff et al., FaceNet, 2015; `tensorflow_addons.losses.triplet_semihard_loss`.
    """

    function = "triplet_semihard_loss"

    def __init__(
        self,
        margin: float = 1.0,
        distance_metric: str = "L2",
        reduction: str = "sum_over_batch_size",
        name: str = "triplet_semihard_loss",
        mining: str = "global",
    ) -> None:
        super().__init__(margin, distance_metric, reduction=reduction, name=name, mining=mining)

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        return function(labels, embeddings, margin=self.margin, distance_metric=self.distance_metric)


@keras.saving.register_keras_serializable(package="kreid.addons")
class TripletHardLoss(_Triplet):
    """TensorFlow Addons' triplet loss with the hardest positive and negative of each anchor.

    See `AddonsLoss` for labels, batches without terms, reductions and errors. It equals
    `kreid.losses.BatchHardTriplet(margin)`, with the distance of the same meaning, where each anchor has a positive and
    a negative. TensorFlow Addons counts the other anchors too.

    Args:
        margin: number of at least 0.
        soft: use `log(1 + exp(...))` in place of `max(0, margin + ...)`.
        distance_metric: see `TripletSemiHardLoss`.
        reduction: see `AddonsLoss`.
        name: name of the loss.
        mining: see `AddonsLoss`.

    Example:

    >>> kreid.addons.losses.TripletHardLoss(soft=True).soft
    True

    Reference: Hermans et al., 2017; `tensorflow_addons.losses.triplet_hard_loss`.
    """

    function = "triplet_hard_loss"

    def __init__(
        self,
        margin: float = 1.0,
        soft: bool = False,
        distance_metric: str = "L2",
        reduction: str = "sum_over_batch_size",
        name: str = "triplet_hard_loss",
        mining: str = "global",
    ) -> None:
        if not isinstance(soft, bool):
            raise ValueError(f"`soft` is True or False. Received: soft={soft!r}")
        super().__init__(margin, distance_metric, reduction=reduction, name=name, mining=mining)
        self.soft = soft

    def get_config(self) -> dict[str, Any]:
        return {"soft": self.soft, **super().get_config()}

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        return function(labels, embeddings, margin=self.margin, soft=self.soft, distance_metric=self.distance_metric)


@keras.saving.register_keras_serializable(package="kreid.addons")
class LiftedStructLoss(AddonsLoss):
    """TensorFlow Addons' lifted structured loss, of Euclidean distances.

    See `AddonsLoss` for labels, batches without terms, reductions and errors. It equals
    `kreid.losses.LiftedStructure(margin)`.

    Args:
        margin: number of at least 0.
        reduction: see `AddonsLoss`.
        name: name of the loss.
        mining: see `AddonsLoss`.

    Example:

    >>> kreid.addons.losses.LiftedStructLoss(margin=2.0).margin
    2.0

    Reference: Song et al., 2016; `tensorflow_addons.losses.lifted_struct_loss`.
    """

    function = "lifted_struct_loss"

    def __init__(
        self,
        margin: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "lifted_struct_loss",
        mining: str = "global",
    ) -> None:
        check_number("margin", margin)
        super().__init__(reduction=reduction, name=name, mining=mining)
        self.margin = margin

    def get_config(self) -> dict[str, Any]:
        return {"margin": self.margin, **super().get_config()}

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        return function(labels, embeddings, margin=self.margin)


@keras.saving.register_keras_serializable(package="kreid.addons")
class NpairsLoss(AddonsLoss):
    """TensorFlow Addons' N-pair loss, of inner products.

    TensorFlow Addons takes the similarities of pairs. The pair of an identity is its first and second embedding in the
    batch, the first one being the anchor; further ones, and identities with one embedding, are left out. See
    `AddonsLoss` for labels, batches without terms, reductions and errors. It equals
    `kreid.losses.NPairs(miner="one")`.

    Args:
        reduction: see `AddonsLoss`.
        name: name of the loss.
        mining: see `AddonsLoss`.

    Example:

    >>> kreid.addons.losses.NpairsLoss().function
    'npairs_loss'

    Reference: Sohn, 2016; `tensorflow_addons.losses.npairs_loss`.
    """

    function = "npairs_loss"

    def __init__(
        self, reduction: str = "sum_over_batch_size", name: str = "npairs_loss", mining: str = "global"
    ) -> None:
        super().__init__(reduction=reduction, name=name, mining=mining)

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        positives, _ = pairs_of(labels)
        positions = ops.arange(ops.shape(labels)[0])
        earlier = ops.logical_and(positives, positions[None, :] < positions[:, None])
        place = ops.sum(ops.cast(earlier, "int32"), axis=1)  # Among the embeddings of the identity.
        seconds = ops.logical_and(positives, place[None, :] == 1)
        anchors = ops.logical_and(place == 0, ops.any(seconds, axis=1))
        partner = ops.argmax(ops.cast(seconds, "int32"), axis=1)
        similarities = ops.take(pairwise_dot(embeddings), partner, axis=1)
        # The shape stays the batch's, for XLA: a row that is no anchor gives 0, and the mean is over anchors.
        both = ops.logical_and(anchors[:, None], anchors[None, :])
        itself = positions[:, None] == positions[None, :]
        similarities = ops.where(both, similarities, ops.where(itself, 0.0, _LOWEST))
        mean = function(ops.cast(positions, "float32"), similarities)
        share = ops.mean(ops.cast(anchors, "float32"))
        return ops.divide_no_nan(mean, share)


@keras.saving.register_keras_serializable(package="kreid.addons")
class ContrastiveLoss(AddonsLoss):
    """TensorFlow Addons' contrastive loss, of Euclidean distances.

    TensorFlow Addons takes the distances of pairs; here they are all pairs of the batch. See `AddonsLoss` for labels,
    reductions and errors. It is twice `kreid.losses.Contrastive(margin)`: TensorFlow Addons leaves out the factor 1/2
    of the paper.

    Args:
        margin: number of at least 0.
        reduction: see `AddonsLoss`.
        name: name of the loss.
        mining: see `AddonsLoss`.

    Example:

    >>> kreid.addons.losses.ContrastiveLoss(margin=2.0).margin
    2.0

    Reference: Hadsell et al., 2006, equation 4; `tensorflow_addons.losses.contrastive_loss`.
    """

    function = "contrastive_loss"

    def __init__(
        self,
        margin: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str = "contrastive_loss",
        mining: str = "global",
    ) -> None:
        check_number("margin", margin)
        super().__init__(reduction=reduction, name=name, mining=mining)
        self.margin = margin

    def get_config(self) -> dict[str, Any]:
        return {"margin": self.margin, **super().get_config()}

    def _has_terms(self, positives: Tensor, negatives: Tensor) -> Tensor:
        return ops.any(ops.logical_or(positives, negatives))

    def _value(self, function: Any, labels: Tensor, embeddings: Tensor) -> Tensor:
        positives, negatives = pairs_of(labels)
        pairs = ops.cast(ops.logical_or(positives, negatives), "float32")
        values = function(ops.cast(positives, "float32"), pairwise_euclidean(embeddings), margin=self.margin)
        return ops.sum(values * pairs) / ops.sum(pairs)
