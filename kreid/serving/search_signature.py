"""The signature `search`: a small gallery inside an export, so that any server of it says who, or nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kreid.data.tracklet import DISTRACTOR
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import Gallery
from kreid.gallery.gallery_model import LARGEST_NORM, SMALLEST_NORM, GalleryModel
from kreid.serving.row_groups import by_row_groups, checked_batch

if TYPE_CHECKING:
    import tensorflow as tf

    from kreid.serving.signatures import Limits

COUNT = 5
# Of a gallery inside an export: a request compares each row with all of them, and the embeddings are in memory.
MAX_TRACKLETS = 10_000
MAX_VALUES = 1 << 22
# Distances of a group of rows.
_GROUP_DISTANCES = 1 << 20
_NOBODY = -1
# Cosine distances, and shares of squared ones, up to this are rounding errors in float64, as in
# `kreid.distances.distance_matrix`.
_ROUNDING = 32 * np.finfo(np.float64).eps


@dataclasses.dataclass(frozen=True)
class FixedGallery:
    """The tracklets of a gallery at the time of an export.

    Args:
        tracklets: a `TrackletEmbeddings`, in the order of the ids.
        threshold: distance below which a person counts as found; `None` if all count.
        count: persons of an answer.
    """

    tracklets: TrackletEmbeddings
    threshold: float | None
    count: int

    @classmethod
    def of(cls, gallery: Gallery, model: GalleryModel, count: int = COUNT) -> FixedGallery:
        """Read a gallery for the export of a model.

        Args:
            gallery: to read.
            model: that is exported.
            count: persons of an answer; fewer if the gallery has fewer.

        Returns:
            A `FixedGallery`.

        Raises:
            ValueError: if the gallery is of another model, empty or too large, or the count is below 1.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"`gallery_count` must be an integer of at least 1. Received: gallery_count={count!r}")
        own = gallery.model
        if (own.fingerprint, own.dimension, own.metric) != (model.fingerprint, model.dimension, model.metric):
            raise ValueError(
                "Embeddings of two models are not comparable. Embed the gallery's tracklets again with the exported "
                "model (`kreid evaluate RUN` writes RUN/report/embeddings.npz, and `kreid gallery add NEW_GALLERY "
                "RUN/report/embeddings.npz` makes a gallery). Received: a gallery of "
                f"model={own.fingerprint[:12] or 'unknown'!r}; the export has model={model.fingerprint[:12]!r}"
            )
        most = min(MAX_TRACKLETS, MAX_VALUES // own.dimension)
        tracklets = gallery.read()
        if not 1 <= len(tracklets) <= most:
            raise ValueError(
                f"An export of {own.dimension} features holds a gallery of 1 to {most} tracklets; serve a larger one "
                f"with `kreid serve EXPORT --gallery GALLERY`. Received: a gallery of {len(tracklets)} tracklets"
            )
        return cls(tracklets, own.threshold, min(count, int(_groups(tracklets.persons).max()) + 1))

    def to_dict(self) -> dict[str, Any]:
        """Return what the card says of the gallery."""
        persons = self.tracklets.persons
        return {
            "tracklets": len(persons),
            "persons": len(set(persons.tolist()) - {DISTRACTOR}),
            "threshold": self.threshold,
            "count": self.count,
        }


def search_signature(gallery: FixedGallery, limits: Limits, verification: Mapping[str, Any] | None) -> Any:
    """Return the function of the signature, and the variable with the embeddings.

    The nearest tracklet of each person counts, and each tracklet of an unknown person, as in `Gallery.search` by
    person; equal distances are in the order of the ids.

    Args:
        gallery: to search.
        limits: of a batch.
        verification: the fitted threshold, whose calibration gives probabilities; `None` gives none.
    """
    import tensorflow as tf

    tracklets, count = gallery.tracklets, gallery.count
    dim, metric = tracklets.embeddings.shape[1], tracklets.metric
    stored = tf.Variable(tracklets.embeddings, trainable=False, name="gallery")
    groups = tf.constant(_groups(tracklets.persons), tf.int32)
    num_groups = int(_groups(tracklets.persons).max()) + 1
    persons, ids = tf.constant(tracklets.persons, tf.int64), tf.constant(tracklets.ids.tolist())
    limit = np.inf if gallery.threshold is None else gallery.threshold
    calibration = (verification or {}).get("calibration")
    spec = tf.TensorSpec([None, dim], tf.float32, "embedding")

    def nearest(embedding: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # A row that a gallery would refuse finds nobody. Comparisons with NaN are false.
        embedding = tf.cast(embedding, tf.float64)
        norm = tf.norm(embedding, axis=1)
        known = (norm <= LARGEST_NORM) & (norm >= (SMALLEST_NORM if metric == "cosine" else 0.0))
        embedding = tf.where(known[:, None], embedding, 1.0)
        distance = _distances(embedding, tf.cast(stored, tf.float64), metric)
        # Rounded, so that equal embeddings have equal distances wherever they are in the product.
        order = tf.argsort(tf.cast(distance, tf.float32), axis=1, stable=True)
        ranks = tf.argsort(order, axis=1)
        best = tf.math.unsorted_segment_min(tf.transpose(ranks), groups, num_groups)
        first = -tf.math.top_k(-tf.transpose(best), count).values
        rows = tf.gather(order, first, batch_dims=1)
        found = tf.gather(distance, rows, batch_dims=1)
        near = (found < limit) & known[:, None]
        return (
            tf.where(near, tf.gather(persons, rows), _NOBODY),
            tf.where(near, tf.gather(ids, rows), ""),
            tf.where(known[:, None], tf.cast(found, tf.float32), np.nan),
        )

    @tf.function(input_signature=[spec], autograph=False)
    def search(embedding):
        embedding = checked_batch(embedding, spec.shape, limits)
        outputs = [(tf.int64, [count]), (tf.string, [count]), (tf.float32, [count])]
        rows = tf.ones([tf.shape(embedding)[0]], tf.int32)
        found = by_row_groups(
            rows,
            max(1, _GROUP_DISTANCES // len(tracklets)),
            lambda start, ones: nearest(embedding[start : start + tf.size(ones)]),
            outputs,
        )
        answer = dict(zip(("person", "tracklet", "distance"), found, strict=True))
        if calibration:
            answer["probability"] = tf.sigmoid(calibration["offset"] - calibration["scale"] * answer["distance"])
        return answer

    return search, stored


def described(gallery: FixedGallery, verification: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return inputs and outputs of the signature, for the card."""
    shape = f"[B, {gallery.count}]"
    outputs = {"person": f"int64 {shape}", "tracklet": f"string {shape}", "distance": f"float32 {shape}"}
    if (verification or {}).get("calibration"):
        outputs["probability"] = f"float32 {shape}"
    return {"inputs": {"embedding": f"float32 [B, {gallery.tracklets.embeddings.shape[1]}]"}, "outputs": outputs}


def _groups(persons: np.ndarray) -> np.ndarray:
    """Number the persons from 0, with numbers of their own for unknown ones."""
    unknown = persons == DISTRACTOR
    keys = np.where(unknown, -1 - np.arange(len(persons)), persons)
    return np.unique(keys, return_inverse=True)[1]


def _distances(embedding: tf.Tensor, stored: tf.Tensor, metric: str) -> tf.Tensor:
    import tensorflow as tf

    product = tf.matmul(embedding, stored, transpose_b=True)
    squares, own = (tf.reduce_sum(values * values, axis=1) for values in (stored, embedding))
    if metric == "cosine":
        distance = tf.clip_by_value(1 - product / (tf.sqrt(own)[:, None] * tf.sqrt(squares)), 0.0, 2.0)
        return tf.where(distance < _ROUNDING, tf.zeros_like(distance), distance)
    scale = own[:, None] + squares
    squared = scale - 2 * product
    return tf.sqrt(tf.where(squared < _ROUNDING * scale, tf.zeros_like(squared), squared))
