"""The model whose embeddings a gallery holds."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings

# Squares and their sums stay inside float32; no model gives others.
LARGEST_NORM = 1e15
SMALLEST_NORM = 1e-15


@dataclasses.dataclass(frozen=True)
class GalleryModel:
    """The model whose embeddings a gallery holds; embeddings of another one are not comparable and are refused.

    Args:
        fingerprint: of the model, see `kreid.models.fingerprint`; empty if unknown.
        dimension: values of an embedding.
        metric: `"euclidean"` or `"cosine"`.
        threshold: distance below which two tracklets are taken to show the same person, see
            `kreid.evaluation.fit_verification`; `None` if none was fitted.
        system: name of the model's class; empty if unknown.
        version: of the model, for people; empty if unknown.

    Raises:
        ValueError: if the dimension, the metric or the threshold is impossible.

    Example:

    >>> walks = kreid.gallery.TrackletEmbeddings([[0.0, 1.0]], ["a"], [7], [1], metric="cosine")
    >>> kreid.gallery.GalleryModel.of(walks).dimension
    2
    """

    fingerprint: str
    dimension: int
    metric: str
    threshold: float | None = None
    system: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if self.dimension < 1:
            raise ValueError(f"An embedding has at least one value. Received: dimension={self.dimension!r}")
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"The metric is 'euclidean' or 'cosine'. Received: metric={self.metric!r}")
        if self.threshold is not None and not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ValueError(f"A threshold is a distance above 0. Received: threshold={self.threshold!r}")

    @classmethod
    def of(cls, embeddings: TrackletEmbeddings) -> "GalleryModel":
        """Return the model of a record of embeddings, with the threshold of its passport.

        Args:
            embeddings: a `TrackletEmbeddings`.

        Returns:
            A `GalleryModel`.
        """
        passport = embeddings.passport
        return cls(
            embeddings.model,
            embeddings.embeddings.shape[1],
            embeddings.metric,
            fitted_threshold(passport.verification, embeddings.metric),
            version="" if passport.kreid is None else f"kreid {passport.kreid}",
        )

    @classmethod
    def from_card(cls, card: Mapping[str, Any], version: str = "") -> "GalleryModel":
        """Return the model of an export.

        Args:
            card: of the export, see `kreid.serving.read_card`.
            version: of the export.

        Returns:
            A `GalleryModel`.
        """
        return cls(
            card["fingerprint"],
            card["embedding_dim"],
            card["metric"],
            fitted_threshold(card.get("verification"), card["metric"]),
            card["system"],
            version,
        )

    def check(self, embeddings: TrackletEmbeddings, argument: str = "embeddings") -> None:
        """Check that embeddings are of this model and can be compared.

        Args:
            embeddings: a `TrackletEmbeddings`.
            argument: name of the embeddings in errors.

        Raises:
            ValueError: if they are of another model, or a value is NaN or infinite, or an embedding is out of range.
        """
        own = self.fingerprint, self.dimension, self.metric
        if (embeddings.model, embeddings.embeddings.shape[1], embeddings.metric) != own:
            raise ValueError(
                "Embeddings of two models are not comparable. Embed these tracklets again with the gallery's model "
                "(`kreid evaluate RUN` writes RUN/report/embeddings.npz), or make a new gallery for this model. "
                f"Received: {argument} of model={_short(embeddings.model)}, "
                f"dimension={embeddings.embeddings.shape[1]}, metric={embeddings.metric!r}; the gallery has "
                f"model={_short(self.fingerprint)}{f' ({self.system})' if self.system else ''}, "
                f"dimension={self.dimension}, metric={self.metric!r}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            norms = np.sqrt(np.einsum("nd,nd->n", embeddings.embeddings, embeddings.embeddings, dtype=np.float64))
        smallest = SMALLEST_NORM if self.metric == "cosine" else 0.0
        wrong = np.flatnonzero(~((norms >= smallest) & (norms <= LARGEST_NORM)))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"Embeddings are finite, no longer than {LARGEST_NORM:g}"
                + (f" and, to have a direction, no shorter than {SMALLEST_NORM:g}" if smallest else "")
                + f"; leave out the {len(wrong)} that are not. Received: {argument}[{row}] of id="
                f"{str(embeddings.ids[row])!r} with norm={norms[row]}"
            )

    def no_tracklets(self) -> TrackletEmbeddings:
        """Return an empty record of embeddings of this model."""
        none = np.zeros(0)
        vectors = np.zeros((0, self.dimension), np.float32)
        return TrackletEmbeddings(vectors, none, none, none, metric=self.metric, model=self.fingerprint)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as data that `json` can write."""
        return dataclasses.asdict(self)


def fitted_threshold(verification: Mapping[str, Any] | None, metric: str) -> float | None:
    """Return the threshold of a passport's or a card's `verification`, if it is one of this metric."""
    if verification is None or verification.get("metric", metric) != metric:
        return None
    return verification.get("threshold")


def linking_threshold(verification: Mapping[str, Any] | None, metric: str) -> float | None:
    """Return the threshold of a passport's or a card's `verification` for groups of tracklets, if it has one."""
    linking = None if fitted_threshold(verification, metric) is None else (verification or {}).get("linking")
    return None if linking is None else linking["threshold"]


def _short(fingerprint: str) -> str:
    return f"{fingerprint[:12]!r}" if fingerprint else "unknown"
