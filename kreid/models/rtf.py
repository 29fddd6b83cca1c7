"""RTF: multi-stage temporal fusion with attention within and between frames."""

import keras
from keras import ops

from kreid.layers.frame_average import FrameAverage
from kreid.layers.inter_frame_distance import InterFrameDistance
from kreid.layers.inter_frame_relation import InterFrameRelation
from kreid.layers.intra_frame_attention import IntraFrameAttention
from kreid.layers.semantic_attention import SemanticAttention
from kreid.layers.spatial_average import SpatialAverage
from kreid.models.attention import Attention
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


@keras.saving.register_keras_serializable(package="kreid")
class MultiStageFusion(TrackletModel):
    """Multi-stage fusion (RTF): frame maps are fused after several stages, and each fused map goes on as one image.

    The frames pass the backbone once. From their pooled vectors comes one weight per frame, by its own content
    (`IntraFrameAttention`) and by its relation to the others (`InterFrameDistance` or `InterFrameRelation`). With these
    weights the frame maps after each chosen stage are fused (equation 1); a fused map passes the remaining stages with
    the same weights but batch-norm statistics of its own (`StagedBackbone`'s branches), is pooled and goes through one
    Dense layer that all share. `SemanticAttention` fuses the stages' vectors into the embedding g.

    Rows of the paper's Table 1 (all with `attention="average"`): `fusion` `"feature_average"`, `"early"`, `"late"`,
    `"multi_stage"` with `semantic="average"` and with `"attention"`. Rows of Table 2: `fusion="late"` with each
    `attention`, and the defaults. Frames pass only the stages that a row needs.

    Args:
        backbone: a `kreid.backbones.StagedBackbone`; the paper's is ResNet-50. Where it lacks branches that the fused
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
        bnneck: batch normalisation between g and the classifier.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "embedding": (B, embedding_dim)}` in training; `embedder` gives
        `(B, embedding_dim)`; `explainer` adds `frames` `(B, N)`, each frame's share, summing to 1, and where they are
        used `intra` and `inter` `(B, N)`, w and v of equations 3 to 6, and `stages` `(B, K)`, u of equation 8.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.MultiStageFusion(backbone, num_identities=10)
    >>> model.embed(np.zeros((2, 6, 64, 32, 3), "uint8"), lengths=np.array([6, 1])).shape
    (2, 768)

    Reference: Jiang et al., Rethinking Temporal Fusion for Video-based Person Re-identification on Semantic and Time
    Aspect, 2020, algorithm 1, figures 2 and 4, Tables 1 and 2. The paper does not say which features the attention
    reads; kreid takes the pooled maps of the last stage, once for all stages. Nor does it give the losses: kreid adds
    the batch normalisation, for a smoothed identity loss behind it and a triplet loss on g.
    """

    def __init__(
        self,
        backbone,
        num_identities,
        *,
        embedding_dim=768,
        fusion="multi_stage",
        stages=None,
        semantic="attention",
        attention="intra_inter_relation",
        relation_dim=128,
        bnneck=True,
        **kwargs,
    ):
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
        self.dense_dim = embedding_dim
        self.fusion = fusion
        self.stages = listed or None
        self.semantic = semantic
        self.attention = attention
        self.relation_dim = relation_dim
        self.use_bnneck = bnneck
        self.fused_after = {"early": (2,), "late": (4,), "feature_average": ()}.get(
            fusion, tuple(sorted(stages or STAGES))
        )
        self.weighted = bool(self.fused_after) and attention != "average"
        backbone = backbone.with_branches([stage for stage in self.fused_after if stage < 4])
        super().__init__(backbone, num_identities, **kwargs)

    def make_layers(self, policy):
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.intra = self.inter = None
        if self.weighted:
            if "intra" in self.attention:
                self.intra = IntraFrameAttention(dtype=policy, name="intra")
            if "euclidean" in self.attention:
                self.inter = InterFrameDistance(dtype=policy, name="inter")
            elif "relation" in self.attention:
                self.inter = InterFrameRelation(self.relation_dim, dtype=policy, name="inter")
        self.frame_fusion = FrameAverage(dtype=policy, name="frame_fusion")
        self.dense = keras.layers.Dense(self.dense_dim, dtype=policy, name="dense")
        self.stage_fusion = None
        if len(self.fused_after) > 1:
            # Stages take the place of frames in the plain mean.
            if self.semantic == "average":
                self.stage_fusion = FrameAverage(dtype=policy, name="stage_fusion")
            else:
                printed = self.semantic == "attention_as_printed"
                self.stage_fusion = SemanticAttention(printed, dtype=policy, name="stage_fusion")
        self.make_head(self.use_bnneck)

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
        return attentions

    def encode(self, frames, mask):
        maps = self._frame_maps(frames)
        if not self.fused_after:
            vectors = self.dense(self.spatial_average(maps[4]))
            vector, shares = self.frame_fusion(vectors, mask=mask, return_attention=True)
            return vector, {"frames": shares}
        weights, attention = self._attention(maps, mask)
        vectors = []
        for stage in self.fused_after:
            fused, attention["frames"] = self.frame_fusion(maps[stage], weights, mask=mask, return_attention=True)
            for later in self.backbone.stages[stage:]:
                fused = later(fused, branch=stage)
            vectors.append(self.dense(self.spatial_average(fused)))
        if self.stage_fusion is None:
            return vectors[0], attention
        vector, attention["stages"] = self.stage_fusion(ops.stack(vectors, axis=1), return_attention=True)
        return vector, attention

    def _frame_maps(self, frames):
        """Frame maps by the number of the stage that they leave, up to the last that is needed."""
        last = max(self.fused_after, default=4) if not self.weighted else 4
        maps = {0: frames}
        for number, stage in enumerate(self.backbone.stages[:last], 1):
            maps[number] = stage(maps[number - 1])
        return maps

    def _attention(self, maps, mask):
        """The attentions that weight the frames (`None` for equal weights), and the same attentions by name."""
        if not self.weighted:
            return None, {}
        vectors = self.spatial_average(maps[4])
        layers = {"intra": self.intra, "inter": self.inter}
        attention = {name: layer(vectors, mask=mask) for name, layer in layers.items() if layer is not None}
        return list(attention.values()), attention

    def get_config(self):
        config = super().get_config()
        config.update(
            embedding_dim=self.dense_dim,
            fusion=self.fusion,
            stages=self.stages,
            semantic=self.semantic,
            attention=self.attention,
            relation_dim=self.relation_dim,
            bnneck=self.use_bnneck,
        )
        return config
