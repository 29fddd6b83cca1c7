"""Score a model on a test set with bad frames, without the lines beside it that `evaluate_bad_frames` adds."""

from typing import TYPE_CHECKING

from kreid.data.bad_frames import draw_bad_frames
from kreid.data.tracklet import JUNK, ReidDataset
from kreid.evaluation.retrieval import evaluate_test
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.gallery.bad_frames import lines_of, readable_tracklets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kreid.models import TrackletModel

# Longer tracklets are thinned evenly, as `evaluate_bad_frames` does.
_MOST_FRAMES = 16


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
    real = [row for row, tracklet in enumerate(dataset.test) if tracklet.person != JUNK]
    tracklets, rows = readable_tracklets([dataset.test[row] for row in real], _MOST_FRAMES, max_damaged)
    new_row = {real[row]: number for number, row in enumerate(rows)}
    queries = [new_row[row] for row in dataset.query_rows if row in new_row]
    lines = lines_of(model, None, tracklets)
    persons, cameras = [one.person for one in tracklets], [one.camera for one in tracklets]
    scores = {
        kind: evaluate_test(
            lines.embed(draw_bad_frames(tracklets, kind, share)).model, persons, cameras, queries, model.metric
        )
        for kind in kinds
    }
    return [tracklets[row].id for row in queries], scores
