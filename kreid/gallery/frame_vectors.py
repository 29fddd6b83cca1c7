"""The vectors that a system makes of single frames, before it aggregates them."""

import typing
from collections.abc import Sequence

import numpy as np

from kreid._quiet import progress_bar
from kreid.data.clips import evenly
from kreid.data.tracklet import Tracklet

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel


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
