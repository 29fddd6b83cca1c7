"""Embeds tracklets of a data set, and scores a model on its test set."""

import dataclasses

import numpy as np
from tqdm import tqdm

from kreid.data.damage import DamageLog
from kreid.data.tracklet import JUNK, Tracklet
from kreid.evaluation.retrieval import RetrievalResult, evaluate_test


@dataclasses.dataclass(frozen=True)
class Embedded:
    """Embeddings of tracklets, row by row.

    Args:
        tracklets: those that were embedded, in the order given.
        rows: int, their positions in what was given.
        embeddings: float32 `(tracklets, D)`.
        damage: what could not be read.
    """

    tracklets: tuple[Tracklet, ...]
    rows: np.ndarray
    embeddings: np.ndarray
    damage: DamageLog


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


def embed_tracklets(model, tracklets, *, batch_frames=256, max_damaged=0.05, progress=True):
    """Embeds tracklets with a trained model.

    Only the frames that the model selects are read. Unreadable frames are taken out and the rest move up; a tracklet
    without a readable frame is left out and named in `damage`.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`.
        batch_frames: frames at once, padding included; bounds the memory, for tracklets longer than that too where the
            system aggregates vectors (see `TrackletModel.embed_batch`).
        max_damaged: share of unreadable frames above which the run stops.
        progress: show a progress bar.

    Returns:
        An `Embedded`.

    Raises:
        ValueError: if there is nothing to embed, or too much of it is damaged.
    """
    # TensorFlow reads the files; scoring embeddings does without it.
    from kreid.data.pipeline import EvaluationPipeline

    tracklets = tuple(tracklets)
    pipeline = EvaluationPipeline(
        tracklets,
        model.image_size,
        batch_frames=batch_frames,
        select=model.selection.positions,
        max_damaged=max_damaged,
    )
    embeddings = np.zeros((len(tracklets), model.embedding_dim), "float32")
    done = np.zeros(len(tracklets), bool)
    with (
        pipeline.damage.plainly(),
        tqdm(total=len(tracklets), desc="embedding", unit=" tracklets", disable=not progress) as bar,
    ):
        for inputs, rows in pipeline.dataset():
            rows = rows.numpy()
            embeddings[rows] = model.embed_batch(inputs, batch_frames)
            done[rows] = True
            bar.update(len(rows))
    kept = np.flatnonzero(done)
    return Embedded(tuple(tracklets[row] for row in kept), kept, embeddings[kept], pipeline.damage)


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
