"""Score a model on a test set with bad frames, without the lines beside it that `evaluate_bad_frames` adds."""

from typing import TYPE_CHECKING

from kreid.data.bad_frames import draw_bad_frames
from kreid.data.tracklet import ReidDataset
from kreid.evaluation.bad_frames import evaluate_rows, readable_test
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.gallery.bad_frames import lines_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kreid.models import TrackletModel


def score_bad_frames(
    model: "TrackletModel", dataset: ReidDataset, kinds: "Sequence[str]", share: float, max_damaged: float = 0.05
) -> "tuple[list[str], Mapping[str, dict[str, RetrievalResult]]]":
    """Score a model on a test set whose tracklets, queries and gallery alike, have bad frames of one kind.

    The faults are the same for every model. These are the model's own scores of
    `kreid.evaluation.evaluate_bad_frames`, which embeds three times as much for its average and its oracle.

    Args:
        model: a model of `kreid.models`.
        dataset: a `ReidDataset`.
        kinds: see `kreid.data.draw_bad_frames`.
        share: of bad frames in each tracklet.
        max_damaged: share of unreadable frames above which the run stops.

    Returns:
        The ids of the queries, in the order of the results' arrays, and the results by kind and protocol.
    """
    tracklets, queries = readable_test(dataset, max_damaged)
    lines = lines_of(model, None, tracklets)
    scores = {
        kind: evaluate_rows(
            lines.embed(draw_bad_frames(tracklets, kind, share)).model, tracklets, queries, model.metric
        )
        for kind in kinds
    }
    return [tracklets[row].id for row in queries], scores
