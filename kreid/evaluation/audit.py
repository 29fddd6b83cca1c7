"""Audit somebody's results: score them under every protocol, and look for faults in embeddings and labels."""

import dataclasses
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid.data.tracklet import JUNK
from kreid.evaluation import audit_faults as faults
from kreid.evaluation.audit_faults import Finding, Results
from kreid.evaluation.query_scorer import QueryScorer

#: The protocols by name: with or without the queries in the gallery, the form of average precision, and who uses it.
AUDITED = {
    "standard": (False, "standard", "the common toolboxes, such as torchreid and fast-reid; kreid's default"),
    "mars": (True, "trapezoidal", "the code of the MARS authors"),
    "with_queries": (True, "standard", "the code of AP3D, SINet, BiCnet-TKS, TKP and TF-CLIP"),
    "market": (False, "trapezoidal", "the code of the Market-1501 authors, and evaluators made from it"),
}
_METRICS = {"euclidean": "Euclidean distances", "cosine": "cosine distances", "dot": "inner products, not normalised"}


class AuditScore(NamedTuple):
    """Scores under a protocol, or by a mistake.

    Args:
        name: a key of `AUDITED`, or the mistake.
        is_protocol: False for a mistake.
        used_by: who uses the protocol, or the mistake in words.
        distances: the distances, in words.
        rank1: fraction.
        map: fraction.
        num_valid: queries that have a match.
    """

    name: str
    is_protocol: bool
    used_by: str
    distances: str
    rank1: float
    map: float
    num_valid: int


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """What `audit` found.

    Args:
        scores: protocols first, then mistakes and other distances, if they were asked for.
        findings: faults first.
        missing: protocols that the results do not suffice for, and why.
        reported: rank-1 and mAP as percents, or `None`.
        matches: the scores that print the reported ones.
        swapped: whether they match as mAP and rank-1.
    """

    scores: list[AuditScore]
    findings: list[Finding]
    missing: dict[str, str]
    reported: tuple[float, float] | None = None
    matches: list[AuditScore] = dataclasses.field(default_factory=list)
    swapped: bool = False

    @property
    def has_faults(self) -> bool:
        """Whether a finding is a fault."""
        return any(finding.is_fault for finding in self.findings)

    def text(self) -> str:
        """Return the audit as lines for people."""
        lines = [
            f"{score.name:<12}  {100 * score.rank1:5.1f} rank-1  {100 * score.map:5.1f} mAP  {score.num_valid} queries"
            f"  {score.distances}; {'' if score.is_protocol else 'no protocol: '}{score.used_by}"
            for score in self.scores
        ]
        lines += [f"{name:<12}  not scored: {reason}" for name, reason in self.missing.items()]
        if self.reported is not None:
            rank1, mean = self.reported
            lines.append(f"reported      {rank1:5g} rank-1  {mean:5g} mAP")
            order = " if they are read as mAP/rank-1" if self.swapped else ""
            lines += [f"  printed by {score.name} with {score.distances}{order}" for score in self.matches]
            if not self.matches:
                lines.append("  printed by none of these" + self._nearest())
        kinds = {True: "FAULT", False: "note"}
        lines += [f"{kinds[finding.is_fault]} {finding.kind}: {finding.text}" for finding in self.findings]
        return "\n".join(lines if self.has_faults else [*lines, "no faults found"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "scores": [score._asdict() for score in self.scores],
            "missing": self.missing,
            "findings": [finding._asdict() for finding in self.findings],
            "reported": None if self.reported is None else list(self.reported),
            "matches": [[score.name, score.distances] for score in self.matches],
        }

    def _nearest(self) -> str:
        if not self.scores or self.reported is None:
            return ""
        rank1, mean = self.reported
        near = min(self.scores, key=lambda score: abs(100 * score.rank1 - rank1) + abs(100 * score.map - mean))
        return f"; the nearest is {near.name} with {near.distances}: {100 * near.rank1:.2f}/{100 * near.map:.2f}"


def audit(
    query_persons: ArrayLike,
    query_cameras: ArrayLike,
    gallery_persons: ArrayLike,
    gallery_cameras: ArrayLike,
    *,
    query_embeddings: ArrayLike | None = None,
    gallery_embeddings: ArrayLike | None = None,
    distances: ArrayLike | None = None,
    metric: str = "euclidean",
    reported: str | None = None,
) -> Audit:
    """Score results under every protocol, and look for faults in them.

    The faults are NaN, cameras that are misaligned with the embeddings, swapped, constant or a list of frames, queries
    that the gallery holds under other labels, duplicated tracklets, similarities in place of distances, and cosines of
    vectors that are not normalised.

    Args:
        query_persons: integers `(queries,)`; 0 is a distractor, -1 junk.
        query_cameras: integers `(queries,)`.
        gallery_persons: integers `(gallery,)`.
        gallery_cameras: integers `(gallery,)`.
        query_embeddings: array `(queries, features)`; needed without `distances`.
        gallery_embeddings: array `(gallery, features)`, with or without the queries.
        distances: array `(queries, gallery)`, which is scored if it is given.
        metric: `"euclidean"` or `"cosine"`.
        reported: rank-1 and mAP in percent, as in `"85.3/81.2"`: find the protocol, the distances or the mistake that
            prints them.

    Returns:
        An `Audit`.

    Raises:
        ValueError: if arrays are missing or do not fit, or an option is unknown.

    Example:

    >>> rows = np.array([[0.0], [0.1], [0.3], [0.9]])
    >>> found = audit([7], [1], [7, 7, 9, 7], [1, 2, 2, 3], query_embeddings=rows[:1], gallery_embeddings=rows)
    >>> [finding.kind for finding in found.findings]
    ['queries_in_gallery']
    >>> {score.name: round(score.map, 4) for score in found.scores}
    {'standard': 0.8333, 'mars': 0.7917, 'with_queries': 0.8333, 'market': 0.7917}
    """
    wanted = None if reported is None else parse_reported(reported)
    results = _checked(
        {
            "query_persons": query_persons,
            "query_cameras": query_cameras,
            "gallery_persons": gallery_persons,
            "gallery_cameras": gallery_cameras,
        },
        {"query_embeddings": query_embeddings, "gallery_embeddings": gallery_embeddings, "distances": distances},
        metric,
    )
    results, found = faults.fix_lengths(results)
    per_frame = any(finding.kind == "per_frame_cameras" for finding in found)
    # What an evaluator does that reads a list of frames by tracklet number.
    results.query_cameras = results.query_cameras[: results.num_queries]
    results.gallery_cameras = results.gallery_cameras[: results.num_gallery]
    broken = faults.not_finite(results)
    if broken:
        return _audit([], found + broken, dict.fromkeys(AUDITED, "NaN or infinities"), wanted, None)
    odd = faults.odd_distances(results)
    sound: Results | None = results  # With distances that are near 0 for one tracklet embedded twice.
    if results.distances is not None and any(finding.is_fault for finding in odd):
        sound = None if results.query_embeddings is None else dataclasses.replace(results, distances=None)
    copies = np.full(results.num_queries, -1)
    in_gallery: list[Finding] = []
    if sound is not None:
        copies, in_gallery = faults.copies_of_queries(sound)
    if not per_frame:
        found += faults.odd_cameras(results) + in_gallery
        if sound is not None and not any(finding.kind.endswith("cameras") for finding in found):
            found += faults.misaligned_cameras(sound, copies)
    found += faults.duplicates(results) + odd
    scores, missing = _scores(results, copies, per_frame, mistakes=wanted is not None)
    return _audit(scores, found, missing, wanted, reported)


def parse_reported(text: str) -> tuple[float, float]:
    """Return rank-1 and mAP in percent of text such as `"85.3/81.2"`.

    Raises:
        ValueError: for another text, or a score that is no percent.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)\s*", text)
    scores = tuple(float(part) for part in match.groups()) if match else ()
    if len(scores) != 2 or max(scores) > 100:
        raise ValueError(f"Give rank-1 and mAP in percent, as in 85.3/81.2. Received: reported={text!r}")
    if max(scores) <= 1:
        raise ValueError(f"Give rank-1 and mAP in percent, not as fractions. Received: reported={text!r}")
    return scores[0], scores[1]


def _audit(scores, findings, missing, wanted, text):
    findings = sorted(findings, key=lambda finding: not finding.is_fault)
    if wanted is None:
        return Audit(scores, findings, missing)
    # Half a unit of the last digit that is printed, and rounding of the score itself.
    limits = [0.5 * 10 ** -len(part.strip().partition(".")[2]) + 1e-6 for part in (text or "0/0").split("/")]

    def printed_by(rank1, mean):
        """Return the scores that print a rank-1 and a mAP, each given with its limit."""
        return [
            score
            for score in scores
            if abs(100 * score.rank1 - rank1[0]) <= rank1[1] and abs(100 * score.map - mean[0]) <= mean[1]
        ]

    first, second = zip(wanted, limits, strict=True)
    matches = printed_by(first, second)
    swapped = [] if matches else printed_by(second, first)
    return Audit(scores, findings, missing, wanted, matches or swapped, bool(swapped))


def _checked(labels, values, metric):
    if metric not in ("euclidean", "cosine"):
        raise ValueError(f"`metric` is 'euclidean' or 'cosine'. Received: metric={metric!r}")
    arrays = {}
    for name, given in labels.items():
        array = np.asarray(given)
        if array.ndim != 1 or array.dtype.kind not in "iuf" or not np.array_equal(array, np.round(array)):
            raise ValueError(f"`{name}` are whole numbers, one per tracklet. Received: {array.dtype} {array.shape}")
        arrays[name] = array.astype(np.int64)
    for name, given in values.items():
        if given is not None:
            array = np.asarray(given)
            if array.ndim != 2 or array.dtype.kind not in "iuf" or not array.size:
                raise ValueError(f"`{name}` is an array of rows of numbers. Received: {array.dtype} {array.shape}")
            arrays[name] = array if array.dtype.kind == "f" else array.astype(np.float64)
    queries, gallery, distances = (arrays.get(name) for name in ("query_embeddings", "gallery_embeddings", "distances"))
    if (queries is None) != (gallery is None) or (queries is None and distances is None):
        given = sorted(set(arrays) - set(labels))
        raise ValueError(
            f"Give the embeddings of queries and gallery, or their distances. Received: {', '.join(given) or 'neither'}"
        )
    if queries is not None and gallery is not None:
        fits = queries.shape[1] == gallery.shape[1]
        if not fits or (distances is not None and distances.shape != (len(queries), len(gallery))):
            shapes = {name: arrays[name].shape for name in values if name in arrays}
            raise ValueError(f"Embeddings and distances do not fit each other. Received: shapes {shapes}")
    return Results(**arrays, metric=metric)


def _scores(results, copies, per_frame, mistakes):
    scores, missing = [], {}
    queries, gallery = results.query_embeddings, results.gallery_embeddings
    own = results.metric if results.distances is None else "distances"
    metrics = [own]
    if mistakes and queries is not None:
        norms = np.linalg.norm(np.concatenate([queries, gallery]).astype(np.float64), axis=1)
        if norms.max() > 1.01 * norms.min():  # Else all of them rank alike.
            metrics += [metric for metric in _METRICS if metric != own]
    for metric in metrics:
        rows = _columns(results, copies, metric)
        for name, (with_queries, form, used_by) in AUDITED.items():
            if per_frame:
                missing[name] = "the cameras are a list of frames; give one per tracklet"
            elif with_queries and rows.incomplete:
                missing[name] = "it takes distances among the queries, or embeddings"
            else:
                _add(scores, rows, with_queries, form, (name, True, used_by))
        if metric == own and (mistakes or per_frame):
            for form in ("standard", "trapezoidal"):
                words = f"{form} average precision"
                if per_frame:
                    _add(scores, rows, True, form, ("per-frame", False, f"cameras of other tracklets, {words}"))
                itself = rows.without_rule()
                _add(scores, itself, True, form, ("no rule", False, f"no cross-camera rule, {words}"))
    if not scores and not missing:
        missing = dict.fromkeys(AUDITED, "no query has a match in another camera")
    return scores, missing


class _Columns(NamedTuple):
    """Distances to the gallery and to the queries that it lacks."""

    words: str
    blocks: list[tuple[np.ndarray, np.ndarray]]
    queries: tuple[np.ndarray, np.ndarray]
    gallery: tuple[np.ndarray, np.ndarray]
    is_query: np.ndarray
    own: np.ndarray
    incomplete: bool

    def without_rule(self) -> "_Columns":
        """Return columns of which only the query itself is removed: the cameras are numbers of queries."""
        cameras = np.full(len(self.gallery[0]), -1)
        cameras[self.own[self.own >= 0]] = np.flatnonzero(self.own >= 0)
        queries = (self.queries[0], np.arange(len(self.queries[0])))
        return self._replace(queries=queries, gallery=(self.gallery[0], cameras))


def _columns(results, copies, metric):
    queries = (results.query_persons, results.query_cameras)
    gallery = (results.gallery_persons, results.gallery_cameras)
    own, lacking = copies.copy(), np.flatnonzero(copies < 0)
    is_query = np.zeros(results.num_gallery, bool)
    is_query[copies[copies >= 0]] = True
    if metric == "distances":
        blocks, words = list(results.blocks()), "the distances of the file"
        return _Columns(words, blocks, queries, gallery, is_query, own, bool(len(lacking)))
    own[lacking] = results.num_gallery + np.arange(len(lacking))
    gallery = tuple(np.concatenate([mine, theirs[lacking]]) for mine, theirs in zip(gallery, queries, strict=True))
    is_query = np.concatenate([is_query, np.ones(len(lacking), bool)])
    vectors = np.concatenate([results.gallery_embeddings, results.query_embeddings[lacking]])
    blocks = list(faults.metric_blocks(results.query_embeddings, vectors, metric))
    return _Columns(_METRICS[metric], blocks, queries, gallery, is_query, own, False)


def _add(scores, columns, with_queries, form, names):
    """Score one way and append it, if a query has a match."""
    excluded = columns.gallery[0] == JUNK
    if not with_queries:
        excluded = excluded | columns.is_query
    scorer = QueryScorer(columns.queries, columns.gallery, excluded, "stable", (1,))
    for numbers, block in columns.blocks:
        scorer.score(numbers, block)
    if (scorer.first_hit > 0).any():
        result = scorer.result(form)
        name, is_protocol, used_by = names
        scores.append(
            AuditScore(name, is_protocol, used_by, columns.words, result.cmc[1], result.map, result.num_valid)
        )
