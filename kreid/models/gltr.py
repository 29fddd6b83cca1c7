"""GLTR: short-term cues by a dilated temporal pyramid, long-term cues by temporal self-attention."""

from typing import Any

import keras

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.dilated_temporal_pyramid import DilatedTemporalPyramid
from kreid.layers.frame_average import FrameAverage
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.temporal_pyramid_pooling import TemporalPyramidPooling
from kreid.layers.temporal_self_attention import TemporalSelfAttention
from kreid.layers.undilated_temporal_pyramid import UndilatedTemporalPyramid
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel

PYRAMIDS: dict[str, Any] = {
    "dilated": DilatedTemporalPyramid,
    "undilated": UndilatedTemporalPyramid,
    "pooling": TemporalPyramidPooling,
    "none": None,
}


@register_system("gltr")
@keras.saving.register_keras_serializable(package="kreid")
class GLTR(TrackletModel):
    """Global-local temporal representation (GLTR): cues from a frame's neighbours and from all frames of a tracklet.

    An image network, backbone, pooling and one Dense layer, gives each frame d features. A pyramid of parallel
    temporal convolutions adds the neighbours' (equations 5 and 6), `TemporalSelfAttention` those of all frames
    (equation 7); the mean over frames is the embedding (equation 4), which a classifier reads. Trained with the
    softmax loss alone.

    Rows of the paper's Table 2: baseline with `pyramid="none"`, `self_attention=False`; DTP with
    `self_attention=False`; TSA with `pyramid="none"`; GLTR, the defaults. Figure 6: `self_attention=False` with each
    `pyramid` and `num_branches` from 1 to 4. The baseline is the image model when it is trained on single frames.

    Args:
        backbone: one of `kreid.backbones`; the paper's is ResNet-50, or Inception or AlexNet in Table 3.
        num_identities: persons to tell apart in training.
        feature_dim: d, features of a frame.
        pyramid: `"dilated"`, `"undilated"`, `"pooling"` or `"none"`.
        pyramid_activation: after each of its convolutions; name of a Keras activation, such as `"linear"` for none.
        pyramid_scale: where its batch normalisation's scale starts. At 1 a frame's features lie so far apart that a
            triplet loss with a margin of 0.3 outweighs the softmax loss and hinders training; 0.1 suits it.
        pyramid_initializer: of its convolutions: `"identity"` starts with the frames unchanged; or a Keras initialiser.
        num_branches: N, branches of the pyramid; the embedding has N d values, or d without a pyramid.
        self_attention: use `TemporalSelfAttention`.
        attention_normalization: how its mask M is normalised: `"cosine"`, `"mean"`, `"softmax"` or `"none"`, which is
            equation 7 to the letter and diverges at the paper's rate; see `kreid.layers.TemporalSelfAttention`.
        reduction: alpha of the self-attention.
        freeze_backbone: the image network, its Dense layer included, is not trained, and its batch normalisation uses
            the moving statistics in training too. The backbone given stays frozen.
        bnneck: batch normalisation between embedding and classifier, which the paper does not have.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, N d)}` in training; `embedder` gives `(B, N d)`;
        `explainer` adds `frames` `(B, T)`, each frame's share of the mean, with the self-attention
        `self_attention` `(B, T, T)`, its mask M, and the frames' features of figure 3: `features` `(B, T, d)`, F;
        `pyramid_features` `(B, T, N d)`, F'; and `attended_features` `(B, T, N d)`, F''.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.GLTR(backbone, num_identities=10)
    >>> model.embed(np.zeros((2, 6, 64, 32, 3), "uint8"), lengths=np.array([6, 1])).shape
    (2, 384)

    Reference: Li et al., Global-Local Temporal Representations for Video Person Re-Identification, 2019, figure 2,
    equations 2 to 7, Tables 2 and 3, figure 6. The paper extracts d features by its image network without saying how;
    kreid takes a linear Dense layer after the pooling. Section 4.2 trains a 2D CNN and then "DTP and TSA", as if the
    CNN were fixed (`freeze_backbone=True`); section 1 speaks of "end-to-end CNN training", which the recipe follows.
    """

    part_frames = 1

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        feature_dim: int = 128,
        pyramid: str = "dilated",
        pyramid_activation: str = "relu",
        pyramid_scale: float = 1.0,
        pyramid_initializer: str = "identity",
        num_branches: int = 3,
        self_attention: bool = True,
        attention_normalization: str = "cosine",
        reduction: int = 2,
        freeze_backbone: bool = False,
        bnneck: bool = False,
        **kwargs: Any,
    ) -> None:
        if freeze_backbone:
            backbone.trainable = False
        super().__init__(backbone, num_identities, bnneck=bnneck, **kwargs)
        if pyramid not in PYRAMIDS:
            raise ValueError(f"Choose one of {', '.join(PYRAMIDS)}. Received: pyramid={pyramid!r}")
        if not isinstance(feature_dim, int) or feature_dim < 1:
            raise ValueError(f"A frame has at least one feature. Received: feature_dim={feature_dim!r}")
        policy = self.dtype_policy
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.features = keras.layers.Dense(feature_dim, trainable=not freeze_backbone, dtype=policy, name="features")
        self.pyramid: Any = None
        self.self_attention: TemporalSelfAttention | None = None
        if pyramid != "none":
            self.pyramid = PYRAMIDS[pyramid](
                num_branches, pyramid_activation, pyramid_scale, pyramid_initializer, dtype=policy, name="pyramid"
            )
        if self_attention:
            self.self_attention = TemporalSelfAttention(
                reduction, attention_normalization, dtype=policy, name="self_attention"
            )
        self.frame_average = FrameAverage(dtype=policy, name="frame_average")

    @property
    def embedding_layer(self) -> keras.layers.Dense:
        """The Dense layer that makes each frame's vector."""
        return self.features

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        attentions = {"frames": Attention(("frame",), "Weight of each frame")}
        if self.self_attention is not None:
            attentions["self_attention"] = Attention(("frame", "frame"), "Mask M of the self-attention")
        features = {"features": "Features of the frames (F)"}
        if self.pyramid is not None:
            features["pyramid_features"] = "Features after the pyramid (F′)"  # noqa: RUF001
        if self.self_attention is not None:
            features["attended_features"] = "Features after the self-attention (F″)"
        for name, label in features.items():
            attentions[name] = Attention(("frame", "channel"), label, weights=False)
        return attentions

    def encode_parts(self, maps: Tensor, mask: Tensor) -> Any:
        return self.features(self.spatial_average(maps)), mask

    def aggregate_parts(self, vectors: Tensor, mask: Tensor) -> Any:
        attention = {"features": vectors}
        if self.pyramid is not None:
            vectors = attention["pyramid_features"] = self.pyramid(vectors, mask=mask)
        if self.self_attention is not None:
            vectors, attention["self_attention"] = self.self_attention(vectors, mask=mask, return_attention=True)
            attention["attended_features"] = vectors
        embedding, attention["frames"] = self.frame_average(vectors, mask=mask, return_attention=True)
        return embedding, attention
