"""MG-RAFA: multi-granularity reference-aided attentive feature aggregation."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.convolutional_block_attention import ConvolutionalBlockAttention
from kreid.layers.frame_average import FrameAverage
from kreid.layers.granularity_split import GranularitySplit
from kreid.layers.non_local import NonLocal
from kreid.layers.reference_aided_aggregation import ReferenceAidedAggregation
from kreid.layers.relation_aware_attention import RelationAwareAttention
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.squeeze_excitation import SqueezeExcitation
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel

# The layer that weights a group's maps before they are averaged, of Tables 2 (the baseline), 4 and 5.
BEFORE_AVERAGING: dict[str, Any] = {
    "average": None,
    "non_local_space": (NonLocal, {"across_frames": False}),
    "non_local_space_time": (NonLocal, {"across_frames": True}),
    "relation_aware": (RelationAwareAttention, {}),
    "squeeze_excitation": (SqueezeExcitation, {}),
    "convolutional_block": (ConvolutionalBlockAttention, {}),
}


@register_system("mg_rafa")
@keras.saving.register_keras_serializable(package="kreid")
class MGRAFA(TrackletModel):
    """Multi-granularity reference-aided aggregation (MG-RAFA): one attention per granularity over all of a tracklet.

    Backbone and `ReferenceAidedAggregation`, whose vector v is the embedding; batch normalisation and a classifier
    without bias on v. Trained with a smoothed identity loss on the logits and the batch-hard triplet loss on v, and
    with the mean over the granularities of the same two on each one's part v_g, which has its own batch normalisation
    and classifier (equation 7).

    The attentions that Tables 4 and 5 compare it with weight the maps, or each granularity's, before the average over
    space and time.

    Args:
        backbone: a `kreid.backbones.Backbone`; the paper's is ResNet-50 with last stride 1.
        num_identities: persons to tell apart in training.
        attention: `"reference_aided"`; `"average"` for none (Table 2's baseline); or, before averaging,
            `"non_local_space"`, `"non_local_space_time"` (Table 4), `"relation_aware"` (RGA-SC),
            `"squeeze_excitation"` (SE) or `"convolutional_block"` (CBAM, Table 5).
        num_granularities: N, see `kreid.layers.ReferenceAidedAggregation`, like the six arguments that follow.
        num_splits: S, the channel groups, with one granularity; `None` for N.
        references: `"temporal_mean"`, `"grid"` (Table 3) or `"none"` (Table 2, "MG-AFA").
        reference_grid: `[height, width, frames]` for `"grid"`.
        num_frames: T for `"grid"`, the most frames a tracklet may have there.
        reduction: s.
        score_scale: where the scale of the scores' batch normalisation starts.
        granularity_losses: also train each v_g. With one group v_1 is v itself.
        test_selection: which frames are embedded, see `kreid.layers.FrameSelection`.
        test_frames: how many.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, C)}` in training, with `logits_1`, `features_1`
        `(B, C / N)` and so on where the granularities are trained; `embedder` gives `(B, C)`; `explainer` adds
        `maps_1` to `maps_N`, `(B, test_frames, h_m, w_m)`, and the other maps of an attention, numbered the same way.

    Raises:
        ValueError: for an argument out of its range, arguments that do not go together, or maps too small for N.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    >>> model = kreid.models.MGRAFA(backbone, num_identities=10, num_granularities=2)
    >>> model.embed(np.zeros((2, 6, 64, 32, 3), "uint8"), lengths=np.array([6, 1])).shape
    (2, 128)
    >>> model.loss_targets
    ('logits', 'features', 'logits_1', 'features_1', 'logits_2', 'features_2')

    Reference: Zhang et al., Multi-Granularity Reference-Aided Attentive Feature Aggregation for Video-based Person
    Re-identification, 2020. The matched v is read as v before batch normalisation. Equation 7 with one granularity
    would count v twice; kreid counts it once. Row "SG-RAFA (S=4)" has losses on its splits, so that it differs from
    "MG-RAFA (N=4)" only in the granularities.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        attention: str = "reference_aided",
        num_granularities: int = 4,
        num_splits: int | None = None,
        references: str = "temporal_mean",
        reference_grid: Sequence[int] | None = None,
        num_frames: int = 8,
        reduction: int = 8,
        score_scale: float = 1.0,
        granularity_losses: bool = True,
        test_selection: str = "chunk_firsts",
        test_frames: int | None = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, num_identities, test_selection=test_selection, test_frames=test_frames, **kwargs)
        known = ("reference_aided", *BEFORE_AVERAGING)
        if attention not in known:
            raise ValueError(f"Choose one of {', '.join(known)}. Received: attention={attention!r}")
        if attention != "reference_aided" and (references, reference_grid) != ("temporal_mean", None):
            raise ValueError(
                f"Attention {attention!r} has no references; leave them out. "
                f"Received: references={references!r}, reference_grid={reference_grid!r}"
            )
        if references == "grid" and (test_frames is None or test_frames > num_frames):
            raise ValueError(
                f"A grid's references are made for {num_frames} frames; let test_selection keep at most as many. "
                f"Received: test_selection={test_selection!r}, test_frames={test_frames!r}"
            )
        self.attention = attention
        self.num_groups = _num_groups(num_granularities, num_splits)
        self.heads = self.loss_heads(
            num_granularities=num_granularities, num_splits=num_splits, granularity_losses=granularity_losses
        )

        policy = self.dtype_policy
        self.aggregation = None
        if attention == "reference_aided":
            self.aggregation = ReferenceAidedAggregation(
                num_granularities=num_granularities,
                num_splits=num_splits,
                references=references,
                reference_grid=reference_grid,
                num_frames=num_frames,
                reduction=reduction,
                score_scale=score_scale,
                dtype=policy,
                name="aggregation",
            )
        else:
            self.split = GranularitySplit(self.num_groups, num_granularities > 1, dtype=policy, name="granularities")
            layer, arguments = BEFORE_AVERAGING[attention] or (None, {})
            self.weighting = [
                layer(**arguments, dtype=policy, name=f"{attention}_{m}")
                for m in range(1, self.num_groups + 1)
                if layer is not None
            ]
            self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
            self.frame_average = FrameAverage(dtype=policy, name="frame_average")
        self.group_heads = [self.new_head(self.bnneck is not None, suffix) for suffix in self.heads if suffix]

    @classmethod
    def loss_heads(
        cls,
        *,
        num_granularities: int = 4,
        num_splits: int | None = None,
        granularity_losses: bool = True,
        **settings: Any,
    ) -> dict[str, float]:
        """Return the weight of each head's losses: 1 on v, and 1/N on each of N granularities (equation 7)."""
        groups = _num_groups(num_granularities, num_splits)
        if groups == 1 or not granularity_losses:
            return {"": 1.0}
        return {"": 1.0, **{f"_{g}": 1.0 / groups for g in range(1, groups + 1)}}

    @property
    def loss_targets(self) -> tuple[str, ...]:  # type: ignore[override]
        """The outputs that take the label."""
        return tuple(f"{output}{head}" for head in self.heads for output in ("logits", "features"))

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        groups = range(1, self.num_groups + 1)
        maps = {f"maps_{g}": Attention(("frame", "height", "width"), f"Attention of channel group {g}") for g in groups}
        channels = {
            f"channels_{g}": Attention(("frame", "channel"), f"Channel weights of channel group {g}") for g in groups
        }
        frames = {"frames": Attention(("frame",), "Weight of each frame")}
        by_kind = {
            "reference_aided": maps,
            "average": frames,
            "squeeze_excitation": {**channels, **frames},
            "relation_aware": {**maps, **channels, **frames},
            "convolutional_block": {**maps, **channels, **frames},
        }
        return by_kind.get(self.attention, {**maps, **frames})

    def aggregate(self, maps: Tensor, mask: Tensor) -> Any:
        if self.aggregation is not None:
            return self.aggregation(maps, mask=mask, return_attention=True)
        parts, attention = self.split(maps), {}
        for m, layer in enumerate(self.weighting):
            parts[m], weights = layer(parts[m], mask=mask, return_attention=True)
            attention.update({f"{name}_{m + 1}": value for name, value in weights.items()})
        frames = ops.concatenate([self.spatial_average(part) for part in parts], axis=-1)
        vector, attention["frames"] = self.frame_average(frames, mask=mask, return_attention=True)
        return vector, attention

    def training_outputs(self, vector: Tensor) -> dict[str, Tensor]:
        outputs = super().training_outputs(vector)
        if self.group_heads:
            parts = ops.split(self.to_float32(vector), self.num_groups, axis=-1)
            for g, (part, (bnneck, classifier)) in enumerate(zip(parts, self.group_heads, strict=True), 1):
                outputs[f"logits_{g}"] = classifier(part if bnneck is None else bnneck(part))
                outputs[f"features_{g}"] = self.scaled(part)
        return outputs


def _num_groups(num_granularities: int, num_splits: int | None) -> int:
    """Return the number of channel groups: one for each granularity, or S of them with one granularity."""
    groups = num_granularities if num_splits is None else num_splits
    for name, value in (("num_granularities", num_granularities), ("num_splits", groups)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is a positive integer. Received: {name}={value!r}")
    if num_granularities > 1 and groups != num_granularities:
        raise ValueError(
            "Several granularities are the splits; leave num_splits out. "
            f"Received: num_splits={num_splits!r}, num_granularities={num_granularities!r}"
        )
    return groups
