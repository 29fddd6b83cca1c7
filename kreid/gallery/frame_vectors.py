"""Vectors of single frames: their embeddings, and the mean of the vectors that a system aggregates."""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np

from kreid._quiet import progress_bar
from kreid.data.clips import evenly
from kreid.data.tracklet import Tracklet
from kreid.gallery.embed import embed_tracklets

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel


class FrameEmbeddings(typing.NamedTuple):
    """Embeddings of the single frames of a tracklet.

    Args:
        tracklet: the tracklet, of the embedded frames alone.
        vectors: float32 `(frames, D)`.
        places: int `(frames,)`, ascending positions of the frames in the whole tracklet, from 0.
    """

    tracklet: Tracklet
    vectors: np.ndarray
    places: np.ndarray


def embed_frames(
    model: "TrackletModel",
    tracklets: Sequence[Tracklet],
    *,
    most: int | None = None,
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> list[FrameEmbeddings]:
    """Embed each frame of tracklets alone, as a tracklet of one frame: any system does.

    Unreadable frames are left out.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`.
        most: most frames of a tracklet, spread evenly; `None` for all.
        batch_frames: frames in memory at once.
        max_damaged: share of unreadable frames above which the run stops.
        progress: show a progress bar.

    Returns:
        A list of `FrameEmbeddings`, in the order of the tracklets; one without a readable frame has no rows.

    Raises:
        ValueError: if there are no tracklets, or too many frames are damaged.
    """
    places = [evenly(len(one), most or max(len(one), 1)) for one in tracklets]
    singles = [
        dataclasses.replace(one, id=f"{number}:{place}", frames=(one.frames[place],))
        for number, (one, chosen) in enumerate(zip(tracklets, places, strict=True))
        for place in chosen.tolist()
    ]
    embedded = embed_tracklets(model, singles, batch_frames=batch_frames, max_damaged=max_damaged, progress=progress)
    found = np.array([name.split(":") for name in embedded.ids.tolist()], int).reshape(-1, 2)
    ends = np.searchsorted(found[:, 0], np.arange(len(tracklets) + 1))
    result = []
    for number, one in enumerate(tracklets):
        rows = slice(ends[number], ends[number + 1])
        own = found[rows, 1]
        frames = tuple(one.frames[place] for place in own.tolist())
        result.append(FrameEmbeddings(dataclasses.replace(one, frames=frames), embedded.embeddings[rows], own))
    return result


def mean_frame_vector(
    model: "TrackletModel",
    tracklets: Sequence[Tracklet],
    *,
    frames: int = 4,
    batch_frames: int = 256,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> np.ndarray:
    """Return the mean of frames' vectors, such as `Baseline.with_pooling` subtracts: of train tracklets.

    Each tracklet counts alike, by the mean of some of its frames. Unreadable frames are left out.

    Args:
        model: a model of `kreid.models` that makes a vector of each frame (`part_frames = 1`).
        tracklets: sequence of `Tracklet`.
        frames: frames of each tracklet, spread evenly.
        batch_frames: frames in memory at once, padding included.
        max_damaged: share of unreadable frames above which the run stops.
        progress: show a progress bar.

    Returns:
        float32 `(C,)`, with the channels of the vectors.

    Raises:
        ValueError: for a model without frame vectors, no tracklets, or if too many frames are damaged.
    """
    # Imports TensorFlow.
    from kreid.data.evaluation_pipeline import EvaluationPipeline

    if model.part_frames != 1:
        raise ValueError(
            "Only a system that makes a vector of each frame has a mean frame vector; see `TrackletModel.part_frames`. "
            f"Received: {type(model).__name__} with part_frames={model.part_frames!r}"
        )
    if not tracklets:
        raise ValueError("A mean needs tracklets; give at least one. Received: tracklets=()")
    pipeline = EvaluationPipeline(
        tracklets,
        model.image_size,
        batch_frames=batch_frames,
        select=lambda length: evenly(length, min(length, frames)),
        max_damaged=max_damaged,
    )
    total, count = np.zeros(model.part_encoder.output_shape[-1]), 0
    with (
        pipeline.damage.plainly(),
        progress_bar(total=len(tracklets), desc="mean frame", unit=" tracklets", disable=not progress) as bar,
    ):
        for inputs, rows in pipeline.dataset():
            vectors, lengths = model.part_encoder.predict_on_batch(inputs), inputs["lengths"].numpy()
            mask = np.arange(vectors.shape[1]) < lengths[:, None]
            total += (np.where(mask[..., None], vectors, 0).sum(axis=1, dtype="float64") / lengths[:, None]).sum(axis=0)
            count += len(rows)
            bar.update(len(rows))
    return (total / max(count, 1)).astype("float32")
