"""Score a model on the test set of a data set."""

import dataclasses

import numpy as np

from kreid.data.damage import DamageLog
from kreid.data.tracklet import JUNK, Tracklet
from kreid.evaluation.retrieval import RetrievalResult, evaluate_test
from kreid.gallery.embed import embed_tracklets


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Scores of a model on a test set.

    Args:
        protocols: a dict from the protocol's name to its `RetrievalResult`, see `evaluate_test`.
        queries: the queries that could be read, in the order of the results' arrays.
        damage: what could not be read.
    """

    protocols: dict[str, RetrievalResult]
    queries: tuple[Tracklet, ...]
    damage: DamageLog


def evaluate_model(model, dataset, *, batch_frames=256, max_damaged=0.05, progress=True):
    """Embeds the test set and scores it under every protocol.

    Junk is never embedded: no protocol lets it change a score. A tracklet without a readable frame is left out, as a
    query too, and named in `damage`.

    Args:
        model: a model of `kreid.models`; its metric ranks the gallery.
        dataset: a `ReidDataset`.
        batch_frames: see `embed_tracklets`.
        max_damaged: see `embed_tracklets`.
        progress: show a progress bar.

    Returns:
        An `Evaluated`.

    Raises:
        ValueError: if no query has a match, or too much is damaged.
    """
    real = np.flatnonzero([tracklet.person != JUNK for tracklet in dataset.test])
    embedded = embed_tracklets(
        model,
        [dataset.test[row] for row in real],
        batch_frames=batch_frames,
        max_damaged=max_damaged,
        progress=progress,
    )
    place = {int(row): number for number, row in enumerate(real[embedded.rows])}
    query_rows = [place[row] for row in dataset.query_rows if row in place]
    protocols = evaluate_test(
        embedded.embeddings,
        [tracklet.person for tracklet in embedded.tracklets],
        [tracklet.camera for tracklet in embedded.tracklets],
        query_rows,
        metric=model.metric,
    )
    return Evaluated(protocols, tuple(embedded.tracklets[row] for row in query_rows), embedded.damage)
