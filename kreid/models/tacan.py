"""TACAN: temporal aggregation within clips, and clip-level attention."""

from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from kreid._typing import Tensor
from kreid.backbones.base import Backbone
from kreid.layers.clip_attention import ClipAttention
from kreid.layers.frame_average import FrameAverage
from kreid.layers.frames_to_clips import FramesToClips
from kreid.layers.spatial_average import SpatialAverage
from kreid.layers.temporal_attention import TemporalAttention
from kreid.models.attention import Attention
from kreid.models.systems import register_system
from kreid.models.tracklet_model import TrackletModel


@register_system("tacan")
@keras.saving.register_keras_serializable(package="kreid")
class TACAN(TrackletModel):
    """Temporal aggregation with clip-level attention (TACAN): frames to clips, clips to one weighted mean.

    A tracklet is cut into clips of T adjacent frames (`FramesToClips`); each clip becomes one vector by attention over
    its frames (`TemporalAttention`); each clip vector is embedded and weighted, and their mean f is the embedding
    (`ClipAttention`, equations 1 to 3). A clip counts by its real frames, as the last one may hold fewer than T. A
    classifier without bias reads f. Trained with the softmax loss on the logits, and the batch-hard triplet and the
    min-max loss on f.

    Training takes m clips per tracklet as m times T frames, clip after clip; `embed` takes whole tracklets, whose last
    clip is padded and masked. The two attentions are rows "TA" and "CA" of Table 1.

    Args:
        backbone: a `kreid.backbones.Backbone`; the paper's is ResNet-50 or SE-ResNet-50.
        num_identities: persons to tell apart in training.
        clip_length: T, frames of a clip.
        frame_attention: `"temporal"`, or `"average"` for the mean of a clip's frames (Table 1 without "TA").
        clip_attention: see `weighting` of `kreid.layers.ClipAttention`: `"sigmoid"` bounds the weights as Figure 6
            shows them, `"linear"` is equation 1 to the letter and needs small features or a low learning rate,
            `"average"` is the mean of the clips (Table 1 without "CA").
        embedding_dim: D, length of f; `None` for no embedding layer, so that f has the backbone's channels. The paper
            puts that layer into the clip attention (section 3.3), so Table 1's rows without "CA" have none.
        hidden_dim: of the temporal attention.
        bnneck: batch normalisation between f and the classifier, which the paper does not have; it helps training from
            random weights.
        normalize: scale f to length 1 for the metric losses and for retrieval. Without it the squared triplet loss
            grows with the square of ImageNet features of norm 28: linear weights diverge, sigmoids saturate at 0.
        **kwargs: the other arguments of `kreid.models.TrackletModel`.

    Input shape: `{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}`.
    Output shape: `{"logits": (B, num_identities), "features": (B, D)}` in training; `embedder` gives `(B, D)`;
        `explainer` adds the clips' weights `clips` `(B, m)` and the frames' weights within their clips `frames`
        `(B, m, clip_length)`.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32))
    >>> model = kreid.models.TACAN(backbone, num_identities=10, embedding_dim=16)
    >>> frames = np.zeros((2, 6, 64, 32, 3), "uint8")
    >>> model.embed(frames).shape
    (2, 16)
    >>> (first, last, weight), *_ = model.clip_weights(frames, lengths=np.array([6, 3]))[0]
    >>> first, last, round(weight, 2)
    (0, 3, 0.73)

    Reference: Li et al., TACAN: Temporal Aggregation with Clip-level Attention for Video-based Person
    Re-identification, 2020. The paper trains on clips ("the unit for training is a video clip"), where the weight of
    the only clip just scales f; kreid trains on several clips per tracklet, and the paper's form is `num_frames`
    equal to `clip_length` in the recipe. The paper neither bounds the weights nor scales f; kreid does both by default,
    as the weights in Figure 6 (0.92 to 0.95) and the distances in Table 3 (below 1) are those of such a model, and as
    training diverges from ImageNet features without them.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        *,
        clip_length: int = 4,
        frame_attention: str = "temporal",
        clip_attention: str = "sigmoid",
        embedding_dim: int | None = 1024,
        hidden_dim: int = 256,
        bnneck: bool = False,
        normalize: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, num_identities, bnneck=bnneck, normalize=normalize, **kwargs)
        if frame_attention not in ("average", "temporal"):
            raise ValueError(f"Choose 'average' or 'temporal'. Received: frame_attention={frame_attention!r}")
        self.clip_length = clip_length
        policy = self.dtype_policy
        self.to_clips = FramesToClips(clip_length, name="clips")
        self.spatial_average = None
        if frame_attention == "temporal":
            self.within_clips = TemporalAttention(hidden_dim, dtype=policy, name="frame_attention")
        else:
            self.spatial_average = SpatialAverage(dtype=policy, name="spatial_average")
            self.within_clips = FrameAverage(axis=2, dtype=policy, name="frame_average")
        # On one vector per clip float32 costs nothing, and the embedding keeps its digits.
        self.over_clips = ClipAttention(embedding_dim, clip_attention, dtype="float32", name="clip_attention")

    @property
    def embedding_layer(self) -> keras.layers.Dense | None:
        """The Dense layer that makes f, in the clip attention, or `None`."""
        return self.over_clips.transform

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns."""
        return {
            "clips": Attention(("clip",), "Weight of each clip"),
            "frames": Attention(("clip", "clip_frame"), "Weight of each frame within its clip"),
        }

    @property
    def part_frames(self) -> int:  # type: ignore[override]
        """Frames of a clip, as clips have vectors."""
        return self.clip_length

    def encode_parts(self, maps: Tensor, mask: Tensor) -> Any:
        frames = maps if self.spatial_average is None else self.spatial_average(maps)
        clips, real = self.to_clips(frames, mask=mask)
        vectors, weights = self.within_clips(clips, mask=real, return_attention=True)
        # The clip's number of real frames is the last value of its vector, so that it is there when chunks are joined.
        vectors = ops.cast(vectors, "float32")
        counts = ops.sum(ops.cast(real, "float32"), axis=-1, keepdims=True)
        return ops.concatenate([vectors, counts], axis=-1), ops.any(real, axis=-1), {"frames": weights}

    def aggregate_parts(self, vectors: Tensor, mask: Tensor) -> Any:
        embedding, weights = self.over_clips(
            vectors[..., :-1], mask=mask, clip_lengths=vectors[..., -1], return_attention=True
        )
        return embedding, {"clips": weights}

    def clip_weights(self, frames: ArrayLike, lengths: ArrayLike | None = None) -> list[list[tuple[int, int, float]]]:
        """Return the weight of each clip of a tracklet, as in figures 4 and 6.

        Args:
            frames: as for `embed`.
            lengths: as for `embed`.

        Returns:
            A list per tracklet of `(first_frame, last_frame, weight)`, one for each clip.

        Raises:
            ValueError: as `embed` does.
        """
        batch = self.checked_batch(frames, lengths)
        weights = self.explainer.predict_on_batch(batch)["clips"]
        rows = []
        for length, row in zip(batch["lengths"], weights, strict=True):
            positions = self.selection.positions(int(length)).tolist()
            clips = [positions[i : i + self.clip_length] for i in range(0, len(positions), self.clip_length)]
            rows.append([(clip[0], clip[-1], float(weight)) for clip, weight in zip(clips, row, strict=False)])
        return rows
