"""Score a model on tracklets with bad frames, beside average pooling and an oracle that knows the bad frames."""

import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kreid._quiet import progress_bar
from kreid.data.bad_frames import KINDS, BadTracklet, check_kinds, draw_bad_frames
from kreid.data.tracklet import JUNK, ReidDataset, Tracklet
from kreid.evaluation.retrieval import evaluate_test
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.evaluation.switches import SwitchScores, can_switch, centred_frames, switch_scores
from kreid.gallery.bad_frames import lines_of, readable_tracklets

if typing.TYPE_CHECKING:
    from kreid.models import TrackletModel

#: Bad frames are counted in this many parts of a tracklet.
OF = 8
# A gap below half a point of mAP is not divided by.
_LEAST_GAP = 0.005
LINES = ("model", "average", "oracle")
#: Longer tracklets are thinned evenly to so many frames.
MOST_FRAMES = 16


class BadFramesScores(NamedTuple):
    """Scores with one kind of bad frames, by protocol.

    Args:
        kind: one of `kreid.data.bad_frames.KINDS`, or `"none"` for tracklets as they are.
        bad: bad frames of 8, or the same share of a tracklet of another length.
        model: protocol -> `RetrievalResult` of the model.
        average: of average pooling, empty if the model has no such form.
        oracle: of average pooling over the good frames alone, or empty.
    """

    kind: str
    bad: int
    model: dict[str, RetrievalResult]
    average: dict[str, RetrievalResult]
    oracle: dict[str, RetrievalResult]

    def gap_closed(self, protocol: str = "mars") -> float | None:
        """Return `(model - average) / (oracle - average)` in mAP; `None` for a gap under half a point."""
        if not self.average:
            return None
        model, average, oracle = (line[protocol].map for line in (self.model, self.average, self.oracle))
        return (model - average) / (oracle - average) if oracle - average >= _LEAST_GAP else None


class BadFramesResult(NamedTuple):
    """Scores of a model with bad frames.

    Args:
        scores: without bad frames, then by kind and count.
        seed: of the draws.
        remark: why there is no average and no oracle, or empty.
        switches: how well switches to another person are found; `None` without that kind, or for short tracklets alone.
    """

    scores: tuple[BadFramesScores, ...]
    seed: int
    remark: str = ""
    switches: SwitchScores | None = None

    def mean_map(self, line: str = "model", protocol: str = "mars") -> float | None:
        """Return a line's mean mAP over the kinds, each with the most bad frames; `None` for a line that is not there.

        Args:
            line: `"model"`, `"average"` or `"oracle"`.
            protocol: see `evaluate_test`.
        """
        most = max(one.bad for one in self.scores)
        results = [getattr(one, line) for one in self.scores if one.bad == most]
        return float(np.mean([result[protocol].map for result in results])) if all(results) else None

    def table(self, protocol: str = "mars") -> str:
        """Return the scores of a protocol as a plain-text table, in per cent.

        Args:
            protocol: see `evaluate_test`.
        """
        rows = [["bad frames", "of 8", *(f"{line} {score}" for line in LINES for score in ("rank-1", "mAP")), "closed"]]
        for one in self.scores:
            cells = [one.kind, str(one.bad)]
            for line in LINES:
                results = getattr(one, line)
                cells += [_percent(results[protocol].cmc[1]), _percent(results[protocol].map)] if results else ["", ""]
            closed = one.gap_closed(protocol)
            rows.append([*cells, "" if closed is None else f"{100 * closed:.0f}%"])
        widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]).rstrip() for row in rows]
        means = [f"{line} {_percent(mean)}" for line in LINES if (mean := self.mean_map(line, protocol)) is not None]
        most = max(one.bad for one in self.scores)
        lines.append(f"Mean mAP with {most} of {OF} bad frames, protocol {protocol}: {', '.join(means)}.")
        lines += [self.switches.text()] if self.switches else []
        return "\n".join([*lines, *([self.remark] if self.remark else [])])

    def numbers(self) -> dict[str, Any]:
        """Return the scores as data that `json` can write, as fractions."""
        protocols = list(self.scores[0].model)
        return {
            "seed": self.seed,
            "of": OF,
            "remark": self.remark,
            "scores": [
                {
                    "kind": one.kind,
                    "bad": one.bad,
                    **{line: {name: _two(result) for name, result in getattr(one, line).items()} for line in LINES},
                    "gap_closed": {name: one.gap_closed(name) for name in protocols},
                }
                for one in self.scores
            ],
            "mean_map": {line: {name: self.mean_map(line, name) for name in protocols} for line in LINES},
            "switches": None if self.switches is None else self.switches.numbers(),
        }


def evaluate_bad_frames(
    model: "TrackletModel",
    dataset: ReidDataset,
    *,
    kinds: Sequence[str] = KINDS,
    counts: Sequence[int] = (1, 2, 3),
    seed: int = 0,
    places: str = "by_kind",
    most_frames: int = MOST_FRAMES,
    max_damaged: float = 0.05,
    progress: bool = True,
) -> BadFramesResult:
    """Score a model on a test set whose tracklets, queries and gallery alike, have bad frames.

    Beside the model there are two lines. *Average* is the model with equal weights in place of its attention, see
    `kreid.models.with_uniform_attention`: average pooling of the same features. *Oracle* is the average over the good
    frames alone, which no model is told. For a model that makes one vector of each frame (`part_frames = 1`: the
    baseline, GLTR) all three aggregate the same vectors, and each image goes through the backbone once. All other
    models embed every draw, the oracle's tracklets without their bad frames.

    With the kind `"another_person"`, `kreid.evaluation.switch_scores` counts which of the switches with the most bad
    frames are found by the embeddings of single frames.

    Args:
        model: a model of `kreid.models`; it selects its test frames of the tracklets with bad frames.
        dataset: a `ReidDataset`.
        kinds: some of `kreid.data.bad_frames.KINDS`.
        counts: numbers of bad frames of 8, 1 to 7; a tracklet of another length has the same share, see
            `kreid.data.bad_frames.bad_count`. Tracklets without bad frames are always scored too.
        seed: int, 0 or more, of the draws, which are the same for all models; see `kreid.data.draw_bad_frames`.
        places: see `kreid.data.BadFrames`.
        most_frames: longer tracklets are thinned evenly to so many frames first.
        max_damaged: share of unreadable frames above which the run stops; others are left out before the draw.
        progress: show a progress bar.

    Returns:
        A `BadFramesResult`. It has the model alone, and says why, if the model's weights cannot be replaced.

    Raises:
        ValueError: for unknown kinds, counts out of their range, a test set in which no query has a match, or too many
            damaged frames.
    """
    from kreid.models.uniform_attention import with_uniform_attention

    check_kinds(kinds)
    counts = sorted(set(counts) - {0})
    if not counts or counts[0] < 0 or counts[-1] >= OF or any(count != int(count) for count in counts):
        raise ValueError(f"Bad frames of {OF} are numbers from 1 to {OF - 1}. Received: counts={counts!r}")
    try:
        uniform, remark = with_uniform_attention(model), ""
    except ValueError as error:
        uniform, remark = None, f"No average and no oracle: {error}"
    tracklets, queries = readable_test(dataset, max_damaged, most_frames)
    lines = lines_of(model, uniform, tracklets)
    scores = []
    draws = [("none", 0), *((kind, count) for kind in dict.fromkeys(kinds) for count in reversed(counts))]
    with progress_bar(total=len(draws), desc="bad frames", unit=" draws", disable=not progress) as bar:
        for kind, count in draws:
            drawn = _drawn(tracklets, kind, count, seed, places)
            scored = [
                {} if line is None else evaluate_rows(line, tracklets, queries, model.metric)
                for line in lines.embed(drawn)
            ]
            scores.append(BadFramesScores(kind, count, *scored))
            bar.update()
    order = {kind: number for number, kind in enumerate(["none", *kinds])}
    scores.sort(key=lambda one: (order[one.kind], one.bad))
    switches = None
    if "another_person" in kinds and any(can_switch(one, counts[-1] / OF) for one in tracklets):
        vectors = centred_frames(lines.frame_embeddings())
        switches = switch_scores(vectors, tracklets, share=counts[-1] / OF, seed=seed)
    return BadFramesResult(tuple(scores), seed, remark, switches)


def readable_test(
    dataset: ReidDataset, max_damaged: float, most_frames: int = MOST_FRAMES
) -> tuple[list[Tracklet], list[int]]:
    """Return the test tracklets without junk and unreadable frames, thinned evenly, and the rows of the queries.

    Args:
        dataset: a `ReidDataset`.
        max_damaged: see `evaluate_bad_frames`.
        most_frames: see `evaluate_bad_frames`.

    Raises:
        ValueError: if too many frames are damaged.
    """
    real = [row for row, tracklet in enumerate(dataset.test) if tracklet.person != JUNK]
    tracklets, rows = readable_tracklets([dataset.test[row] for row in real], most_frames, max_damaged)
    new_row = {real[row]: number for number, row in enumerate(rows)}
    return tracklets, [new_row[row] for row in dataset.query_rows if row in new_row]


def evaluate_rows(
    embeddings: np.ndarray, tracklets: Sequence[Tracklet], queries: Sequence[int], metric: str
) -> dict[str, RetrievalResult]:
    """Return the results by protocol of the embeddings of these tracklets.

    Args:
        embeddings: `(tracklets, D)`.
        tracklets: of the rows.
        queries: rows of the queries.
        metric: see `evaluate_test`.
    """
    persons = [tracklet.person for tracklet in tracklets]
    cameras = [tracklet.camera for tracklet in tracklets]
    return evaluate_test(embeddings, persons, cameras, queries, metric)


def _drawn(tracklets: Sequence[Tracklet], kind: str, count: int, seed: int, places: str) -> list[BadTracklet]:
    # Without bad frames all kinds are alike.
    return draw_bad_frames(tracklets, KINDS[-1] if kind == "none" else kind, count / OF, seed=seed, places=places)


def _two(result: RetrievalResult) -> dict[str, float]:
    return {"rank-1": result.cmc[1], "mAP": result.map}


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
