"""Embed the tracklets of a data set."""

import dataclasses

import numpy as np
from tqdm import tqdm

from kreid.data.damage import DamageLog
from kreid.data.tracklet import Tracklet


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
