"""The baseline of all five papers: average pooling over space and time."""

from typing import Any

import keras

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.frame_average import FrameAverage
from kreid.layers.spatial_average import SpatialAverage
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel


@register_system("baseline")
@keras.saving.register_keras_serializable(package="kreid")
class Baseline(TrackletModel):
    """Average pooling: the mean of the frames' mean features, with a batch-norm neck before the classifier.

    Trained with a smoothed identity loss on the logits and a triplet loss on the pooled vector; the classifier sees the
    vector after batch normalisation (BNNeck), as the two losses need differently shaped spaces.

    Args:
        backbone: a `kreid.backbones.Backbone`.
        num_identities: persons to tell apart in training.
        embedding_dim: length of the vector, by a Dense layer after pooling; `None` keeps the backbone's channels.
        embedding_from: `"bnneck"` (after batch normalisation, for the cosine metric) or `"pooled"` (before it).
        metric: `"cosine"` or `"euclidean"`.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, D)}` in training; `embedder` gives `(B, D)`.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.Baseline(backbone, num_identities=10)
    >>> model.embed(np.zeros((2, 4, 64, 32, 3), "uint8"), lengths=np.array([4, 1])).shape
    (2, 128)

    Reference: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019, for BNNeck.
    """

    part_frames = 1

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        embedding_dim: int | None = None,
        embedding_from: str = "bnneck",
        metric: str = "cosine",
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, num_identities, metric=metric, **kwargs)
        if embedding_from not in ("bnneck", "pooled"):
            raise ValueError(f"Choose 'bnneck' or 'pooled'. Received: embedding_from={embedding_from!r}")
        if embedding_from == "bnneck" and self.bnneck is None:
            raise ValueError(
                "Without batch normalisation the embedding is the pooled vector; set embedding_from='pooled'. "
                "Received: embedding_from='bnneck', bnneck=False"
            )
        if embedding_dim is not None and (not isinstance(embedding_dim, int) or embedding_dim < 1):
            raise ValueError(f"The embedding's length is a positive integer. Received: embedding_dim={embedding_dim!r}")
        self.embedding_from = embedding_from
        policy = self.dtype_policy
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.frame_average = FrameAverage(dtype=policy, name="frame_average")
        self.dense = None
        if embedding_dim is not None:
            self.dense = keras.layers.Dense(embedding_dim, dtype=policy, name="dense")

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        return {"frames": Attention(("frame",), "Weight of each frame")}

    def encode_parts(self, maps: Tensor, mask: Tensor) -> Any:
        return self.spatial_average(maps), mask

    def aggregate_parts(self, vectors: Tensor, mask: Tensor) -> Any:
        vector, weights = self.frame_average(vectors, mask=mask, return_attention=True)
        if self.dense is not None:
            vector = self.dense(vector)
        return vector, {"frames": weights}

    def final_embedding(self, vector: Tensor) -> Tensor:
        if self.embedding_from == "pooled" or self.bnneck is None:
            return vector
        return self.bnneck(self.to_float32(vector))
