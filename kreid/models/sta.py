"""STA: parameter-free spatial-temporal attention."""

from typing import Any

import keras

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.frame_average import FrameAverage
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.spatial_temporal_attention import SpatialTemporalAttention
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel


@register_system("sta")
@keras.saving.register_keras_serializable(package="kreid")
class STA(TrackletModel):
    """Spatial-temporal attention (STA): stripes of the frames that respond most, and a weighted mean of all.

    Backbone, `SpatialTemporalAttention`, global average pooling and one Dense layer, whose output X is the embedding;
    a classifier without bias on X (equation 10). Trained with the softmax loss on the logits, the batch-hard triplet
    loss on X, and the layer's inter-frame regularisation.

    Args:
        backbone: a `kreid.backbones.Backbone`; the paper's is ResNet-50 with last stride 1.
        num_identities: persons to tell apart in training.
        embedding_dim: length of X.
        attention: `"spatial_temporal"`, or `"average"` for the mean of the frames (rows of Table 1 without "STA"; then
            the three arguments that follow have no effect).
        num_stripes: K horizontal stripes; the map's height must be divisible by it (Table 3: 2, 4, 8).
        fusion: use F1 and F2 (Table 1's "Fusion"), or F2 alone.
        regularization: lambda of equation 7, 0 for none (Table 1's "Reg").
        bnneck: batch normalisation between X and the classifier, which the paper does not have. From random weights
            the part that all frames share hides their differences, and without it the classifier hardly learns.
        seed: of the regularisation's frames.
        test_selection: which frames are embedded, see `kreid.layers.FrameSelection`.
        test_frames: how many (Table 2: 2, 4, 6, 8).
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, embedding_dim)}` in training; `embedder` gives
        `(B, embedding_dim)`; `explainer` adds `stripes` `(B, N, K)` and `maps` `(B, N, h, w)`, or `frames`
        `(B, N)` of the average.

    Raises:
        ValueError: for an argument out of its range, or a map that cannot be cut into K stripes.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    >>> model = kreid.models.STA(backbone, num_identities=10)
    >>> model.embed(np.zeros((2, 6, 64, 32, 3), "uint8"), lengths=np.array([6, 1])).shape
    (2, 1024)

    Reference: Fu et al., STA: Spatial-Temporal Attention for Large-Scale Video-based Person Re-Identification, 2019.
    The paper does not give the length of X; kreid takes 1024. Test frames are spread evenly where the paper draws them.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        embedding_dim: int = 1024,
        attention: str = "spatial_temporal",
        num_stripes: int = 4,
        fusion: bool = True,
        regularization: float = 0.1,
        bnneck: bool = False,
        seed: int | None = None,
        test_selection: str = "evenly",
        test_frames: int | None = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone,
            num_identities,
            bnneck=bnneck,
            test_selection=test_selection,
            test_frames=test_frames,
            **kwargs,
        )
        if embedding_dim < 1:
            raise ValueError(f"The embedding needs at least one value. Received: embedding_dim={embedding_dim!r}")
        if attention not in ("average", "spatial_temporal"):
            raise ValueError(f"Choose 'average' or 'spatial_temporal'. Received: attention={attention!r}")
        policy = self.dtype_policy
        self.attention: SpatialTemporalAttention | None = None
        if attention == "average":
            self.frame_average = FrameAverage(dtype=policy, name="frame_average")
        else:
            self.attention = SpatialTemporalAttention(
                num_stripes, fusion, regularization, seed, dtype=policy, name="attention"
            )
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.dense = keras.layers.Dense(embedding_dim, dtype=policy, name="dense")

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        if self.attention is None:
            return {"frames": Attention(("frame",), "Weight of each frame")}
        return {
            "stripes": Attention(("frame", "stripe"), "Stripe scores"),
            "maps": Attention(("frame", "height", "width"), "Attention within each frame"),
        }

    def aggregate(self, maps: Tensor, mask: Tensor) -> Any:
        if self.attention is None:
            vectors, weights = self.frame_average(self.spatial_average(maps), mask=mask, return_attention=True)
            return self.dense(vectors), {"frames": weights}
        fused, attention = self.attention(maps, mask=mask, return_attention=True)
        return self.dense(self.spatial_average(fused)), attention
