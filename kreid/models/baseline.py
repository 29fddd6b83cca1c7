"""The baseline of all five papers: average pooling over space and time, or a robust pooling over time."""

import dataclasses
from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.agreement_pooling import AgreementPooling
from kreid.layers.centred_pooling import CentredPooling
from kreid.layers.frame_average import FrameAverage
from kreid.layers.majority_pooling import MajorityPooling
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.stripe_average import StripeAverage
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel

POOLINGS = ("average", "agreement", "majority")


@register_system("baseline")
@keras.saving.register_keras_serializable(package="kreid")
class Baseline(TrackletModel):
    """Average pooling: the mean of the frames' mean features, with a batch-norm neck before the classifier.

    Trained with a smoothed identity loss on the logits and a triplet loss on the pooled vector; the classifier sees the
    vector after batch normalisation (BNNeck), as the two losses need differently shaped spaces.

    Where a tracker switches between persons, a tracklet has frames of another one. `pooling` leaves such frames out, by
    layers without trained parameters, so `with_pooling` changes it after training too. They pool any system's frame
    vectors: a system with `part_frames = 1` has them in `aggregate_parts`, as in the second example.

    `num_stripes` adds part features: the map is cut into horizontal stripes, and each stripe's mean has a head of its
    own. The embedding is the whole frame's vector followed by those of the stripes, from the top to the bottom.

    Args:
        backbone: a `kreid.backbones.Backbone`.
        num_identities: persons to tell apart in training.
        embedding_dim: length of the vector, by a Dense layer after pooling; `None` keeps the backbone's channels.
        num_stripes: horizontal stripes with heads, 0 for none. The map's height must be divisible by it.
        embedding_from: `"bnneck"` (after batch normalisation, for the cosine metric) or `"pooled"` (before it).
        pooling: over frames: `"average"`, `"agreement"` (see `kreid.layers.AgreementPooling`) or `"majority"` (see
            `kreid.layers.MajorityPooling`).
        pooling_threshold: of `MajorityPooling`.
        agreement_temperature: factor `t` of `AgreementPooling`.
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

    >>> class RobustGLTR(kreid.models.GLTR):
    ...     def __init__(self, backbone, num_identities, **kwargs):
    ...         super().__init__(backbone, num_identities, **kwargs)
    ...         self.frame_average = kreid.layers.MajorityPooling(dtype=self.dtype_policy)
    >>> RobustGLTR(backbone, num_identities=10).embed(np.zeros((2, 4, 64, 32, 3), "uint8")).shape
    (2, 384)

    Reference: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019, for BNNeck.
    """

    part_frames = 1

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        embedding_dim: int | None = None,
        num_stripes: int = 0,
        embedding_from: str = "bnneck",
        pooling: str = "average",
        pooling_threshold: float = 0.25,
        agreement_temperature: float = 10.0,
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
        if not isinstance(num_stripes, int) or num_stripes < 0 or (num_stripes and embedding_dim is not None):
            raise ValueError(
                "The number of stripes is 0 or a positive integer; with stripes there is no Dense layer: set "
                f"embedding_dim=None. Received: num_stripes={num_stripes!r}, embedding_dim={embedding_dim!r}"
            )
        if embedding_dim is not None and (not isinstance(embedding_dim, int) or embedding_dim < 1):
            raise ValueError(f"The embedding's length is a positive integer. Received: embedding_dim={embedding_dim!r}")
        check_pooling(pooling)
        self.embedding_from = embedding_from
        self.pooling = pooling
        policy = self.dtype_policy
        self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
        self.stripe_average = None
        if num_stripes:
            self.stripe_average = StripeAverage(num_stripes, dtype=policy, name="stripe_average")
        self.stripe_heads = [self.new_head(self.bnneck is not None, f"_{k}") for k in range(1, num_stripes + 1)]
        # Each layer checks its own argument, also where another one pools.
        poolings = {
            "average": FrameAverage(dtype=policy, name="frame_average"),
            "agreement": AgreementPooling(agreement_temperature, dtype=policy, name="agreement_pooling"),
            "majority": MajorityPooling(pooling_threshold, dtype=policy, name="majority_pooling"),
        }
        self.frame_pooling = poolings[pooling]
        self.dense = None
        if embedding_dim is not None:
            self.dense = keras.layers.Dense(embedding_dim, dtype=policy, name="dense")

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        return {"frames": Attention(("frame",), "Weight of each frame")}

    @classmethod
    def loss_heads(cls, *, num_stripes: int = 0, **settings: Any) -> dict[str, float]:
        """Return the weight of each head's losses: 1 on the whole frame's, and 1 in all on the stripes'."""
        return {"": 1.0, **{f"_{k}": 1.0 / num_stripes for k in range(1, num_stripes + 1)}}

    @property
    def loss_targets(self) -> tuple[str, ...]:  # type: ignore[override]
        """The outputs that take the label."""
        heads = self.loss_heads(num_stripes=len(self.stripe_heads))
        return tuple(f"{output}{head}" for head in heads for output in ("logits", "features"))

    def encode_parts(self, maps: Tensor, mask: Tensor) -> Any:
        vectors = self.spatial_average(maps)
        if self.stripe_average is not None:
            stripes = self.stripe_average(maps)
            vectors = ops.concatenate([vectors, *(stripes[..., k, :] for k in range(stripes.shape[-2]))], axis=-1)
        return vectors, mask

    def aggregate_parts(self, vectors: Tensor, mask: Tensor) -> Any:
        vector, weights = self.frame_pooling(vectors, mask=mask, return_attention=True)
        if self.dense is not None:
            vector = self.dense(vector)
        return vector, {"frames": weights}

    def training_outputs(self, vector: Tensor) -> dict[str, Tensor]:
        whole, *stripes = self._by_head(vector)
        outputs = super().training_outputs(whole)
        for k, (stripe, (bnneck, classifier)) in enumerate(zip(stripes, self.stripe_heads, strict=True), 1):
            outputs[f"logits_{k}"] = classifier(stripe if bnneck is None else bnneck(stripe))
            outputs[f"features_{k}"] = self.scaled(stripe)
        return outputs

    def final_embedding(self, vector: Tensor) -> Tensor:
        if self.embedding_from == "pooled" or self.bnneck is None:
            return vector
        necks = [self.bnneck, *(neck for neck, _ in self.stripe_heads)]
        parts = [neck(part) for neck, part in zip(necks, self._by_head(vector), strict=True)]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    def _by_head(self, vector: Tensor) -> list[Tensor]:
        """Return the parts of the aggregated vector in float32: the whole frame's, then the stripes'."""
        vector = self.to_float32(vector)
        return ops.split(vector, 1 + len(self.stripe_heads), axis=-1) if self.stripe_heads else [vector]

    def with_pooling(
        self,
        pooling: str,
        mean: ArrayLike | None = None,
        *,
        pooling_threshold: float | None = None,
        agreement_temperature: float | None = None,
    ) -> "Baseline":
        """Return this model with the same weights, copied, and another pooling over frames.

        Args:
            pooling: `"average"`, `"agreement"` or `"majority"`.
            mean: mean frame vector of training, `(C,)` with the backbone's channels, see
                `kreid.gallery.mean_frame_vector`. By default that of this model's own pooling or, without a Dense layer
                between, of its batch-norm neck, which has followed the mean of the pooled vectors.
            pooling_threshold: see `Baseline`; `None` keeps this model's.
            agreement_temperature: see `Baseline`; `None` keeps this model's.

        Returns:
            A `Baseline`, not compiled, to evaluate, save and export. Its passport has no scores and no threshold: they
            were this model's.

        Raises:
            ValueError: for an unknown pooling, an argument out of its range, or without a mean where neither the
                model's pooling nor its neck has one.

        Example:

        >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
        >>> model = kreid.models.Baseline(backbone, num_identities=10)
        >>> model.with_pooling("majority").pooling
        'majority'
        """
        config = {**self.get_config(), "pooling": pooling}
        given = {"pooling_threshold": pooling_threshold, "agreement_temperature": agreement_temperature}
        config |= {name: value for name, value in given.items() if value is not None}
        twin = type(self).from_config(config)
        own, its = ({id(weight) for weight in model.frame_pooling.weights} for model in (self, twin))
        kept = [weight for weight in self.weights if id(weight) not in own]
        for weight, other in zip((w for w in twin.weights if id(w) not in its), kept, strict=True):
            weight.assign(other)
        twin.passport = dataclasses.replace(twin.passport, scores=None, verification=None)
        if isinstance(twin.frame_pooling, CentredPooling):
            mean = self.mean_frame_vector if mean is None else mean
            if mean is None:
                raise ValueError(
                    "This model has no mean of its frame vectors before its Dense layer; give one, such as "
                    "kreid.gallery.mean_frame_vector(model, tracklets) of train tracklets. Received: mean=None"
                )
            twin.frame_pooling.set_mean(mean)
        return twin

    @property
    def mean_frame_vector(self) -> Tensor | None:
        """The mean frame vector of training, `(C,)`, if the pooling or the neck has followed it, or `None`."""
        if isinstance(self.frame_pooling, CentredPooling):
            return self.frame_pooling.moving_mean
        if self.bnneck is None or self.dense is not None:
            return None
        return ops.concatenate([neck.moving_mean for neck in (self.bnneck, *(neck for neck, _ in self.stripe_heads))])


def check_pooling(pooling: str) -> None:
    """Raise `ValueError` unless there is such a pooling."""
    if pooling not in POOLINGS:
        raise ValueError(f"Choose one of {', '.join(POOLINGS)}. Received: pooling={pooling!r}")
