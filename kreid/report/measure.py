"""Evaluate a finished run again, on its own data set or on another one."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from kreid.data.tracklet import ReidDataset, Tracklet
from kreid.evaluation.bad_frames import BadFramesResult
from kreid.evaluation.bootstrap import paired_bootstrap, sign_flip_test
from kreid.evaluation.cameras import CameraMatrices, evaluate_cameras
from kreid.evaluation.clusters import cluster_diameters
from kreid.evaluation.rerank import evaluate_reranked
from kreid.evaluation.reranking import Reranking
from kreid.evaluation.retrieval import evaluate_test
from kreid.evaluation.retrieval_result import RetrievalResult
from kreid.evaluation.tables import results_table, score_intervals
from kreid.evaluation.uniform_attention import UniformAttention
from kreid.evaluation.verification import (
    PairDistances,
    VerificationRates,
    equal_error_rate,
    pair_distances,
    rates_at,
    roc,
)
from kreid.gallery import TrackletEmbeddings, embed_to_file
from kreid.runs import FinishedRun

# Enough for the digits shown.
_DRAWS = 2000


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """A run's scores on a test set.

    Args:
        run: the `FinishedRun`.
        embeddings: `TrackletEmbeddings` of the test set.
        tracklets: the `Tracklet` of each row of the embeddings.
        protocols: see `evaluate_test`.
        reranked: see `evaluate_reranked`; empty if re-ranking was not requested.
        bad_frames: see `evaluate_bad_frames`; `None` if it was not requested.
        uniform_attention: see `evaluate_uniform_attention`; `None` if it was not requested.
    """

    run: FinishedRun
    embeddings: TrackletEmbeddings
    tracklets: tuple[Tracklet, ...]
    protocols: dict[str, RetrievalResult]
    reranked: dict[str, RetrievalResult]
    bad_frames: BadFramesResult | None = None
    uniform_attention: UniformAttention | None = None

    @property
    def system(self) -> str:
        """Name of the system as papers write it, such as `STA`."""
        return type(self.run.model).__name__

    @functools.cached_property
    def cameras(self) -> CameraMatrices:
        """Scores by pair of cameras."""
        return evaluate_cameras(self.embeddings)

    @functools.cached_property
    def pairs(self) -> PairDistances | None:
        """Distances of the genuine and impostor pairs, or `None` if there are no pairs of one kind."""
        try:
            return pair_distances(self.embeddings)
        except ValueError:
            return None

    @functools.cached_property
    def at_threshold(self) -> VerificationRates | None:
        """The error rates of this test set at the threshold that the run fitted, or `None`."""
        fitted = self.run.verification
        if not fitted or self.pairs is None or fitted["metric"] != self.embeddings.metric:
            return None
        return rates_at(self.embeddings, threshold=fitted["threshold"])

    @functools.cached_property
    def diameter(self) -> float | None:
        """Mean cluster diameter of the persons with two tracklets or more, or `None` if there are none.

        Embeddings are scaled to length 1 first, so that models can be compared.
        """
        embeddings, persons = self.embeddings.embeddings, self.embeddings.persons
        labels, counts = np.unique(persons[persons > 0], return_counts=True)
        rows = np.isin(persons, labels[counts > 1])
        if not rows.any():
            return None
        chosen = embeddings[rows]
        unit = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-12)
        return float(np.mean(list(cluster_diameters(unit, persons[rows]).values())))

    def diameter_text(self) -> str:
        """Return the mean cluster diameter as a sentence, as in Table 3 of the TACAN paper."""
        if self.diameter is None:
            return "Cluster diameter: no person has two tracklets."
        return (
            f"Cluster diameter {self.diameter:.3f}: the largest distance between two embeddings of a person, scaled to "
            "length 1, as a mean over persons."
        )

    def summary(self) -> str:
        """Return the scores, the cluster diameter, the damage and the requested comparisons as lines for a terminal."""
        lines = [results_table(self.all_scores), self.diameter_text(), self.embeddings.damage_report()]
        lines += [one.table() for one in (self.bad_frames, self.uniform_attention) if one is not None]
        return "\n".join(lines)

    @property
    def all_scores(self) -> dict[str, RetrievalResult]:
        """Results by the name of their column: each protocol, and its re-ranked form if requested."""
        columns = {}
        for name, result in self.protocols.items():
            columns[name] = result
            if name in self.reranked:
                columns[f"{name}, re-ranked"] = self.reranked[name]
        return columns

    def numbers(self) -> dict[str, Any]:
        """Return the data of `report.json`."""
        numbers: dict[str, Any] = {
            "system": self.run.config["system"],
            "model": self.embeddings.model,
            "metric": self.embeddings.metric,
            "changes": self.run.changes,
            "tracklets": len(self.embeddings),
            "queries": len(self.embeddings.query_rows),
            "unreadable": self.embeddings.unreadable.tolist(),
            "damaged_frames": len(self.embeddings.damaged_frames),
        }
        for kind, results in (("protocols", self.protocols), ("reranked", self.reranked)):
            numbers[kind] = {
                name: {score: list(interval) for score, interval in score_intervals(result).items()}
                for name, result in results.items()
            }
        if self.pairs is not None:
            numbers["equal_error_rate"] = equal_error_rate(self.pairs)
        if self.diameter is not None:
            numbers["cluster_diameter"] = self.diameter
        if self.uniform_attention is not None:
            numbers["uniform_attention"] = self.uniform_attention.numbers()
        return numbers


def measure(
    run: FinishedRun,
    dataset: ReidDataset,
    path: str | os.PathLike[str],
    rerank: bool | Reranking = False,
    progress: bool = True,
) -> Measured:
    """Embed a data set's test tracklets into a file and score them.

    Args:
        run: a `FinishedRun`.
        dataset: a `ReidDataset`.
        path: of the file of embeddings, see `embed_to_file`.
        rerank: also score by re-ranking; a `Reranking` sets its options.
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
        evaluate_test(embeddings),
        _rerank(embeddings, rerank, progress),
    )


def _rerank(embeddings: TrackletEmbeddings, rerank: bool | Reranking, progress: bool) -> dict[str, RetrievalResult]:
    if rerank is False:
        return {}
    reranking = Reranking() if rerank is True else rerank
    return evaluate_reranked(embeddings, reranking=reranking, progress=progress)


def differences(measured: Measured, compared: Measured, protocol: str) -> dict[str, tuple[float, float, float, float]]:
    """Compare the scores of two runs on the same queries.

    Args:
        measured: the run's scores.
        compared: the other run's scores.
        protocol: name of the protocol.

    Returns:
        A dict from the score's name to the mean difference `compared - measured`, the ends of its interval, and its
        p-value.
    """
    one, other = (each.protocols[protocol].by_query() for each in (measured, compared))
    return {
        name: (
            *paired_bootstrap(other[name], one[name], draws=_DRAWS),
            sign_flip_test(other[name], one[name], draws=_DRAWS),
        )
        for name in one
    }


def error_curve(pairs: PairDistances, points: int = 200) -> list[np.ndarray]:
    """Return fewer points of the curve of `roc`, for drawing.

    Args:
        pairs: a `PairDistances`.
        points: points spread evenly over the thresholds, and over each rate; the false-match rate is logarithmic.

    Returns:
        Thresholds, false-match rates and false non-match rates, without the infinite threshold.
    """
    thresholds, false_match, false_non_match = curve = [values[:-1] for values in roc(pairs)]
    even = [
        (thresholds, np.linspace(0, thresholds[-1], points)),
        (false_match, np.geomspace(1 / pairs.num_impostors, 1, points)),
        (-false_non_match, np.linspace(-1, 0, points)),
    ]
    positions = [np.searchsorted(values, chosen).clip(0, len(thresholds) - 1) for values, chosen in even]
    drawn = np.unique(np.concatenate(positions))
    return [values[drawn] for values in curve]


def percent(share: float) -> str:
    """Format a share in per cent, with one digit after the point."""
    return f"{100 * share:.1f}"


def run_names(runs: Sequence[Measured]) -> list[str]:
    """Return the shortest distinct names of runs: their folders' names, with as many parents as needed."""
    parts = [one.run.path.resolve().parts for one in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(runs):
            break
    return names
