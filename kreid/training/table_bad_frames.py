"""Embed a test set with bad frames."""

from typing import TYPE_CHECKING

import numpy as np

from kreid.data.bad_frames import FAULT_WIDTH, draw_bad_frames
from kreid.data.tracklet import JUNK, ReidDataset
from kreid.gallery.embeddings import TrackletEmbeddings

if TYPE_CHECKING:
    from kreid.models import TrackletModel


def embed_bad_frames(model: "TrackletModel", dataset: ReidDataset, kind: str, share: float) -> TrackletEmbeddings:
    """Embed the test set of a data set, queries and gallery, with bad frames; junk is left out.

    The faults are the same for every model, see `kreid.data.draw_bad_frames`. A tracklet with an unreadable frame is
    left out.

    Args:
        model: a model of `kreid.models`.
        dataset: a `ReidDataset`.
        kind: see `draw_bad_frames`.
        share: of the frames of each tracklet.

    Returns:
        A `TrackletEmbeddings`.
    """
    from kreid.data.evaluation_pipeline import EvaluationPipeline
    from kreid.data.spoil import spoil

    real = [row for row, tracklet in enumerate(dataset.test) if tracklet.person != JUNK]
    drawn = draw_bad_frames([dataset.test[row] for row in real], kind, share)
    pipeline = EvaluationPipeline([one.tracklet for one in drawn], model.image_size)
    vectors = np.zeros((len(drawn), model.embedding_dim), np.float32)
    embedded = np.zeros(len(drawn), bool)
    for inputs, rows in pipeline.dataset():
        numbers = rows.numpy()
        frames, lengths = inputs["frames"], inputs["lengths"].numpy()
        faults = np.zeros((*frames.shape[:2], FAULT_WIDTH), np.int32)
        for place, row in enumerate(numbers):
            faults[place, : len(drawn[row].faults)] = drawn[row].faults[: faults.shape[1]]
        flat = spoil(np.reshape(frames, (-1, *frames.shape[2:])), faults.reshape(-1, FAULT_WIDTH), (kind,))
        batch = {"frames": np.reshape(flat, frames.shape), "lengths": lengths}
        whole = np.array([length == len(drawn[row].faults) for row, length in zip(numbers, lengths, strict=True)])
        vectors[numbers[whole]] = model.embed_batch(batch)[whole]
        embedded[numbers[whole]] = True
    kept = np.flatnonzero(embedded).tolist()
    new_row = {real[row]: number for number, row in enumerate(kept)}
    return TrackletEmbeddings(
        vectors[kept],
        np.array([drawn[row].tracklet.id for row in kept], np.str_),
        np.array([drawn[row].tracklet.person for row in kept]),
        np.array([drawn[row].tracklet.camera for row in kept]),
        np.array([new_row[row] for row in dataset.query_rows if row in new_row]),
        model.metric,
    )
