"""The scores of queries against a gallery."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """Scores of queries against a gallery, as fractions from 0 to 1.

    The arrays of single queries are `None` in a result that was read back without them, see `from_dict`.

    Args:
        cmc: rank -> fraction of the valid queries with a match within it.
        map: mean average precision over the valid queries.
        minp: mean inverse negative penalty over the valid queries.
        num_queries: number of queries given.
        num_valid: number of queries that have a match in the gallery.
        average_precision: float64 `(queries,)`, NaN where a query is invalid.
        inverse_negative_penalty: float64 `(queries,)`, matches divided by the position of the last one; NaN where a
            query is invalid.
        first_hit: int64 `(queries,)`, position of the first match, from 1; 0 where a query is invalid.

    Reference: Ye et al., Deep Learning for Person Re-identification, 2021, for the inverse negative penalty.

    Example:

    >>> result = kreid.evaluation.evaluate([[0.1, 0.2, 0.3]], [7], [0], [7, 9, 7], [0, 1, 1], ranks=(1, 2))
    >>> result.scores()
    {'rank-1': 0.0, 'rank-2': 1.0, 'mAP': 0.5, 'mINP': 0.5}
    >>> RetrievalResult.from_dict(result.to_dict()).scores() == result.scores()
    True
    """

    cmc: dict[int, float]
    map: float
    minp: float
    num_queries: int
    num_valid: int
    average_precision: np.ndarray | None = None
    inverse_negative_penalty: np.ndarray | None = None
    first_hit: np.ndarray | None = None

    def scores(self) -> dict[str, float]:
        """Return every score by its name: `"rank-1"` and the other ranks, `"mAP"` and `"mINP"`."""
        return {**{f"rank-{rank}": score for rank, score in self.cmc.items()}, "mAP": self.map, "mINP": self.minp}

    def by_query(self) -> dict[str, np.ndarray]:
        """Return the scores of the single queries by the names of `scores`, whose values are their means.

        Returns:
            A dict of float64 arrays `(queries,)`, NaN for a query without a match.

        Raises:
            ValueError: if the result was read back without its queries.
        """
        if self.average_precision is None or self.first_hit is None:
            raise ValueError(
                "This result was read back without the scores of its single queries; give `from_dict` the queries too. "
                "Received: average_precision=None"
            )
        valid = self.first_hit > 0
        ranks = {f"rank-{rank}": np.where(valid, self.first_hit <= rank, np.nan) for rank in self.cmc}
        scores = {**ranks, "mAP": self.average_precision}
        # Files of earlier versions have no negative penalties.
        return scores if self.inverse_negative_penalty is None else {**scores, "mINP": self.inverse_negative_penalty}

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as data that `json` can write. The ranks are strings, as JSON has no other keys."""
        return {
            "cmc": {str(rank): score for rank, score in self.cmc.items()},
            "map": self.map,
            "minp": self.minp,
            "num_queries": self.num_queries,
            "num_valid": self.num_valid,
        }

    def queries_to_dict(self) -> dict[str, list[float | None]]:
        """Return the scores of the single queries as data that `json` can write; null for a query without a match.

        Raises:
            ValueError: see `by_query`.
        """
        by_query = self.by_query()
        return {
            "average_precision": _with_nulls(by_query["mAP"]),
            "inverse_negative_penalty": _with_nulls(by_query["mINP"]),
            "first_match": [int(rank) or None for rank in np.asarray(self.first_hit)],
        }

    @classmethod
    def from_dict(cls, scores: Mapping[str, Any], queries: Mapping[str, Any] | None = None) -> "RetrievalResult":
        """Read back the data of `to_dict`.

        Args:
            scores: data of `to_dict`; other keys are ignored.
            queries: data of `queries_to_dict`; without it the result has no arrays of single queries.

        Returns:
            A `RetrievalResult`.

        Raises:
            ValueError: if a key is missing, or the queries belong to another result.
        """
        try:
            arrays: dict[str, Any] = {}
            if queries is not None:
                arrays = {
                    "average_precision": np.array(queries["average_precision"], np.float64),
                    "first_hit": np.array([rank or 0 for rank in queries["first_match"]], np.int64),
                }
                if "inverse_negative_penalty" in queries:
                    penalties = np.array(queries["inverse_negative_penalty"], np.float64)
                    arrays["inverse_negative_penalty"] = penalties
                if any(len(values) != scores["num_queries"] for values in arrays.values()):
                    raise ValueError(
                        f"The queries belong to another result. Received: {scores['num_queries']} queries in `scores`, "
                        f"{[len(values) for values in arrays.values()]} in `queries`"
                    )
            return cls(
                {int(rank): score for rank, score in scores["cmc"].items()},
                *(scores[name] for name in ("map", "minp", "num_queries", "num_valid")),
                **arrays,
            )
        except KeyError as error:
            raise ValueError(
                f"The scores were not written by `RetrievalResult.to_dict`: {error} is missing. "
                f"Received: scores={scores!r}"
            ) from None


def _with_nulls(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
