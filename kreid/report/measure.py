"""Evaluate a finished run again, on its own data set or on another."""

import dataclasses
import functools

import numpy as np

from kreid.data.tracklet import Tracklet
from kreid.evaluation.bootstrap import bootstrap_interval, paired_bootstrap, sign_flip_test
from kreid.evaluation.cameras import CameraMatrices, evaluate_cameras
from kreid.evaluation.rerank import evaluate_reranked
from kreid.evaluation.retrieval import RetrievalResult, evaluate_test
from kreid.evaluation.verification import equal_error_rate, pair_distances, rates_at, roc
from kreid.gallery.embeddings import TrackletEmbeddings, embed_to_file
from kreid.runs import FinishedRun

# Enough for the digits that are shown.
_DRAWS = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A run's scores on a test set.

    Args:
        run: the `FinishedRun`.
        embeddings: `TrackletEmbeddings` of the test set.
        tracklets: those of the embeddings, row by row.
        protocols: see `evaluate_test`.
        reranked: see `evaluate_reranked`; empty where nobody asked.
    """

    run: FinishedRun
    embeddings: TrackletEmbeddings
    tracklets: tuple[Tracklet, ...]
    protocols: dict[str, RetrievalResult]
    reranked: dict[str, RetrievalResult]

    @functools.cached_property
    def cameras(self) -> CameraMatrices:
        """Scores by pair of cameras."""
        return evaluate_cameras(*self.embeddings.test)

    @functools.cached_property
    def pairs(self):
        """Distances of the genuine and impostor pairs, or `None` where there are none of either."""
        try:
            return pair_distances(*self._labelled)
        except ValueError:
            return None

    @functools.cached_property
    def at_threshold(self):
        """The error rates of this test set at the threshold that the run fitted, or `None`."""
        fitted = self.run.results.get("verification")
        if not fitted or self.pairs is None or fitted["metric"] != self.embeddings.metric:
            return None
        embeddings, persons, cameras, metric = self._labelled
        return rates_at(embeddings, persons, cameras, fitted["threshold"], metric)

    @property
    def _labelled(self):
        found = self.embeddings
        return found.embeddings, found.persons, found.cameras, found.metric

    @property
    def all_scores(self):
        """Results by the name of their column: each protocol, plain and, where asked for, re-ranked."""
        columns = {}
        for name, result in self.protocols.items():
            columns[name] = result
            if name in self.reranked:
                columns[f"{name}, re-ranked"] = self.reranked[name]
        return columns

    def numbers(self):
        """Plain data for `report.json`."""
        found = {
            "system": self.run.config["system"],
            "model": self.embeddings.model,
            "metric": self.embeddings.metric,
            "tracklets": len(self.embeddings),
            "queries": len(self.embeddings.query_rows),
            "unreadable": self.embeddings.unreadable.tolist(),
            "damaged_frames": len(self.embeddings.damaged_frames),
        }
        for kind, results in (("protocols", self.protocols), ("reranked", self.reranked)):
            found[kind] = {
                name: {score: list(interval) for score, interval in intervals(result).items()}
                for name, result in results.items()
            }
        if self.pairs is not None:
            found["equal_error_rate"] = equal_error_rate(self.pairs)
        return found


def measure(run, dataset, path, rerank=False, progress=True):
    """Embeds a data set's test tracklets into a file and scores them.

    Args:
        run: a `FinishedRun`.
        dataset: a `ReidDataset`.
        path: of the file of embeddings, see `embed_to_file`.
        rerank: also score by re-ranking.
        progress: show progress bars.

    Returns:
        A `Measured`.
    """
    embeddings = embed_to_file(
        run.model,
        dataset.test,
        path,
        query_rows=dataset.query_rows,
        max_damaged=run.config.get("max_damaged", 0.05),
        progress=progress,
    )
    by_id = {tracklet.id: tracklet for tracklet in dataset.test}
    return Measured(
        run,
        embeddings,
        tuple(by_id[name] for name in embeddings.ids.tolist()),
        evaluate_test(*embeddings.test),
        evaluate_reranked(*embeddings.test, progress=progress) if rerank else {},
    )


def by_query(result):
    """Scores of the single queries by name, NaN for a query without a match; their means are the scores."""
    valid = result.first_hit > 0
    found = {f"rank-{rank}": np.where(valid, result.first_hit <= rank, np.nan) for rank in result.cmc}
    return {**found, "mAP": result.average_precision, "mINP": result.inverse_negative_penalty}


def intervals(result):
    """`Interval` of every score of a `RetrievalResult`, by name."""
    return {name: bootstrap_interval(scores, draws=_DRAWS) for name, scores in by_query(result).items()}


def differences(measured, compared, protocol):
    """Score of `compared` less that of `measured`, its interval's ends and the p-value of no difference, by name."""
    one, other = by_query(measured.protocols[protocol]), by_query(compared.protocols[protocol])
    return {
        name: (
            *paired_bootstrap(other[name], one[name], draws=_DRAWS),
            sign_flip_test(other[name], one[name], draws=_DRAWS),
        )
        for name in one
    }


def error_curve(pairs, points=200):
    """The curve of `roc` without its infinite end, thinned for drawing over the threshold or over either rate."""
    thresholds, false_match, false_non_match = curve = [values[:-1] for values in roc(pairs)]
    wanted = [
        (thresholds, np.linspace(0, thresholds[-1], points)),
        (false_match, np.geomspace(1 / pairs.num_impostors, 1, points)),
        (-false_non_match, np.linspace(-1, 0, points)),
    ]
    kept = [np.searchsorted(values, places).clip(0, len(thresholds) - 1) for values, places in wanted]
    return [values[np.unique(np.concatenate(kept))] for values in curve]
