"""RTF: multi-stage temporal fusion with attention within and between frames."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.frame_average import FrameAverage
from kreid.layers.inter_frame_distance import InterFrameDistance
from kreid.layers.inter_frame_relation import InterFrameRelation
from kreid.layers.intra_frame_attention import IntraFrameAttention
from kreid.layers.semantic_attention import SemanticAttention
from kreid.layers.spatial_average import SpatialAverage
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel

FUSIONS = ("feature_average", "early", "late", "multi_stage")
SEMANTICS = ("average", "attention", "attention_as_printed")
ATTENTIONS = (
    "average",
    "intra",
    "inter_euclidean",
    "inter_relation",
    "intra_inter_euclidean",
    "intra_inter_relation",
)
STAGES = (1, 2, 3, 4)


@register_system("rtf")
@keras.saving.register_keras_serializable(package="kreid")
class RTF(TrackletModel):
    """Multi-stage fusion (RTF): frame maps are fused after several stages, and each fused map goes on as one image.

    The frames pass the backbone once. Their pooled vectors give one weight per frame, by its own content
    (`IntraFrameAttention`) and by its relation to the others (`InterFrameDistance` or `InterFrameRelation`). These
    weights fuse the frame maps after each chosen stage (equation 1); a fused map passes the remaining stages with
    the same weights but separate batch-norm statistics (`Backbone`'s branches), is pooled and goes through one
    Dense layer that all share. `SemanticAttention` fuses the stages' vectors into the embedding g.

    Rows of the paper's Table 1 (all with `attention="average"`): `fusion` `"feature_average"`, `"early"`, `"late"`,
    `"multi_stage"` with `semantic="average"` and with `"attention"`. Rows of Table 2: `fusion="late"` with each
    `attention`, and the defaults. Frames pass only the stages that a row needs.

    Args:
        backbone: a `kreid.backbones.Backbone`; the paper's is ResNet-50. Where it lacks branches that the fused
            maps need, the model works on a copy that has them, `model.backbone`.
        num_identities: persons to tell apart in training.
        embedding_dim: length of g.
        fusion: `"multi_stage"` (after `stages`), `"early"` (after the second), `"late"` (after the fourth) or
            `"feature_average"` (the mean of the frames' own vectors; `attention` does not apply). The last is the image
            model when it is trained on single frames.
        stages: the stages, of 1 to 4, after which `"multi_stage"` fuses; `None` for all.
        semantic: how the stages' vectors are fused: `"attention"`, `"average"`, or `"attention_as_printed"`, which
            divides by the number of stages once more (see `SemanticAttention`). One stage needs none of them.
        attention: the frames' weights: `"average"` for equal ones, `"intra"`, `"inter_euclidean"`, `"inter_relation"`,
            `"intra_inter_euclidean"` or `"intra_inter_relation"`.
        relation_dim: d_r of `InterFrameRelation`.
        relation_normalization: `"unit"` or `"none"`, how `InterFrameRelation` scales the vectors that it compares.
        balance_attentions: scale w and v to mean 1 before equation 2 averages them; see `kreid.layers.FrameAverage`.
        bnneck: batch normalisation between g and the classifier.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, embedding_dim)}` in training; `embedder` gives
        `(B, embedding_dim)`; `explainer` adds `frames` `(B, N)`, each frame's share, summing to 1, and where they are
        used `intra` and `inter` `(B, N)`, w and v of equations 3 to 6, and `stages` `(B, K)`, u of equation 8; and the
        maps of figure 5, `map_1` `(B, h, w)` for the map fused after stage 1 and so on, means of channels' magnitudes.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.RTF(backbone, num_identities=10)
    >>> model.embed(np.zeros((2, 6, 64, 32, 3), "uint8"), lengths=np.array([6, 1])).shape
    (2, 768)

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, algorithm 1, figures 2 and 4, Tables 1 and 2. The paper does not say which features the attention
    reads; kreid takes the pooled maps of the last stage, once for all stages. Equation 2 adds w, between 0 and 1, and
    v, of any scale: a Euclidean v near 7 would hide w, and the row "intra/inter" would be the row "inter"; kreid
    scales both to mean 1 first. The paper does not give the losses: kreid adds the batch normalisation,
    with a smoothed identity loss after it and a triplet loss on g.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        embedding_dim: int = 768,
        fusion: str = "multi_stage",
        stages: Sequence[int] | None = None,
        semantic: str = "attention",
        attention: str = "intra_inter_relation",
        relation_dim: int = 128,
        relation_normalization: str = "unit",
        balance_attentions: bool = True,
        bnneck: bool = True,
        **kwargs: Any,
    ) -> None:
        for name, value, choices in (
            ("fusion", fusion, FUSIONS),
            ("semantic", semantic, SEMANTICS),
            ("attention", attention, ATTENTIONS),
        ):
            if value not in choices:
                raise ValueError(f"Choose one of {', '.join(choices)}. Received: {name}={value!r}")
        listed = list(stages) if isinstance(stages, (list, tuple)) else []
        if stages is not None and (not listed or sorted(listed) != [stage for stage in STAGES if stage in listed]):
            raise ValueError(f"Stages are a list of some of 1 to 4, or None for all. Received: stages={stages!r}")
        if not isinstance(embedding_dim, int) or embedding_dim < 1:
            raise ValueError(f"The embedding needs at least one value. Received: embedding_dim={embedding_dim!r}")
        fused_after = {"early": (2,), "late": (4,), "feature_average": ()}.get(fusion, tuple(sorted(listed or STAGES)))
        backbone = backbone.with_branches([stage for stage in fused_after if stage < 4])
        super().__init__(backbone, num_identities, bnneck=bnneck, **kwargs)
        self.fused_after = fused_after

        policy = self.dtype_policy
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.intra = self.inter = None
        if fused_after and "intra" in attention:
            self.intra = IntraFrameAttention(dtype=policy, name="intra")
        if fused_after and "euclidean" in attention:
            self.inter = InterFrameDistance(dtype=policy, name="inter")
        elif fused_after and "relation" in attention:
            self.inter = InterFrameRelation(relation_dim, normalize=relation_normalization, dtype=policy, name="inter")
        self.frame_fusion = FrameAverage(balance=balance_attentions, dtype=policy, name="frame_fusion")
        self.dense = keras.layers.Dense(embedding_dim, dtype=policy, name="dense")
        self.stage_fusion = None
        if len(fused_after) > 1:
            # Stages take the place of frames in the plain mean.
            if semantic == "average":
                self.stage_fusion = FrameAverage(dtype=policy, name="stage_fusion")
            else:
                printed = semantic == "attention_as_printed"
                self.stage_fusion = SemanticAttention(printed, dtype=policy, name="stage_fusion")

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        attentions = {"frames": Attention(("frame",), "Weight of each frame")}
        if self.intra is not None:
            attentions["intra"] = Attention(("frame",), "Weight by the frame itself (w)")
        if self.inter is not None:
            attentions["inter"] = Attention(("frame",), "Weight by its relation to the others (v)")
        if self.stage_fusion is not None:
            attentions["stages"] = Attention(("stage",), "Weight of each stage (u)")
        for stage in self.fused_after:
            label = f"Map fused after stage {stage}, mean of channels"
            attentions[f"map_{stage}"] = Attention(("height", "width"), label, weights=False)
        return attentions

    def frame_maps(self, frames: Tensor) -> dict[str, Tensor]:
        """Return the frame maps that are fused or weight the frames, by their stage: `"stage_1"` to `"stage_4"`."""
        weighted = self.intra is not None or self.inter is not None
        needed = {*self.fused_after, *({4} if weighted or not self.fused_after else ())}
        maps = {}
        for number, stage in enumerate(self.backbone.stages[: max(needed)], 1):
            frames = stage(frames)
            if number in needed:
                maps[f"stage_{number}"] = frames
        return maps

    def aggregate(self, maps: dict[str, Tensor], mask: Tensor) -> Any:
        if not self.fused_after:
            vectors = self.dense(self.spatial_average(maps["stage_4"]))
            vector, weights = self.frame_fusion(vectors, mask=mask, return_attention=True)
            return vector, {"frames": weights}
        attention = self._frame_attention(maps, mask)
        weights = list(attention.values()) or None
        vectors = []
        for stage in self.fused_after:
            fused, attention["frames"] = self.frame_fusion(
                maps[f"stage_{stage}"], weights, mask=mask, return_attention=True
            )
            attention[f"map_{stage}"] = ops.mean(ops.abs(fused), axis=-1)
            for later in self.backbone.stages[stage:]:
                fused = later(fused, branch=stage)
            vectors.append(self.dense(self.spatial_average(fused)))
        if self.stage_fusion is None:
            return vectors[0], attention
        vector, attention["stages"] = self.stage_fusion(ops.stack(vectors, axis=1), return_attention=True)
        return vector, attention

    def _frame_attention(self, maps: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
        """Return the attentions whose sum weights the frames, by name; none where all weights are equal."""
        layers = {name: layer for name, layer in (("intra", self.intra), ("inter", self.inter)) if layer is not None}
        if not layers:
            return {}
        vectors = self.spatial_average(maps["stage_4"])
        return {name: layer(vectors, mask=mask) for name, layer in layers.items()}


# Files from before the class had the paper's acronym.
keras.saving.get_custom_objects()["kreid>MultiStageFusion"] = RTF
