"""Score a model on the test set of a data set."""

import typing
from typing import NamedTuple

import numpy as np

from kreid.data.tracklet import JUNK, ReidDataset
from kreid.evaluation.retrieval import evaluate_test
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.gallery.embed import embed_tracklets
from kreid.gallery.embeddings import TrackletEmbeddings

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel


class Evaluated(NamedTuple):
    """Scores of a model on a test set, and the embeddings that were scored.

    Args:
        protocols: protocol -> `RetrievalResult`, see `evaluate_test`.
        embeddings: `TrackletEmbeddings` of the test set without junk; its `query_ids` are in the order of the results'
            arrays.
    """

    protocols: dict[str, RetrievalResult]
    embeddings: TrackletEmbeddings


def evaluate_model(
    model: "TrackletModel",
    dataset: ReidDataset,
    *,
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> Evaluated:
    """Embed the test set and score it under every protocol.

    Junk is never embedded, because it changes no score under any protocol. A tracklet without a readable frame is
    skipped, also as a query, and is named in `unreadable` of the embeddings.

    Args:
        model: a model of `kreid.models`; its metric ranks the gallery.
        dataset: a `ReidDataset`.
        batch_frames: see `embed_tracklets`.
        max_damaged: see `embed_tracklets`.
        progress: show a progress bar.

    Returns:
        An `Evaluated`.

    Raises:
        ValueError: if no query has a match, or too many frames are damaged.
    """
    real = np.flatnonzero([tracklet.person != JUNK for tracklet in dataset.test]).tolist()
    new_row = {row: number for number, row in enumerate(real)}
    embeddings = embed_tracklets(
        model,
        [dataset.test[row] for row in real],
        query_rows=[new_row[row] for row in dataset.query_rows if row in new_row],
        batch_frames=batch_frames,
        max_damaged=max_damaged,
        progress=progress,
    )
    return Evaluated(evaluate_test(embeddings), embeddings)
