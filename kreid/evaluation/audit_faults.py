"""Faults in somebody's embeddings, distances and labels, which change the scores."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from kreid.distances import distance_matrix

# Distances up to this share of a query's median distance are those of one tracklet embedded twice.
_SAME = 1e-4
_BLOCK_BYTES = 2**27
# Comparisons below this number of queries say nothing.
_FEWEST = 20
_SHIFTS = [shift for size in range(1, 6) for shift in (size, -size)]


class Finding(NamedTuple):
    """Something that an audit found.

    Args:
        kind: its name, such as `"constant_cameras"`.
        is_fault: whether scores are wrong because of it; else it is worth knowing.
        text: a sentence on it.
    """

    kind: str
    is_fault: bool
    text: str


@dataclasses.dataclass(eq=False)
class Results:
    """Embeddings or distances of queries and a gallery, with labels; see `kreid.evaluation.audit`."""

    query_persons: np.ndarray
    query_cameras: np.ndarray
    gallery_persons: np.ndarray
    gallery_cameras: np.ndarray
    query_embeddings: np.ndarray | None = None
    gallery_embeddings: np.ndarray | None = None
    distances: np.ndarray | None = None
    metric: str = "euclidean"

    @property
    def num_queries(self) -> int:
        """The number of rows of distances, or of the queries' embeddings."""
        rows = self.query_embeddings if self.distances is None else self.distances
        assert rows is not None
        return len(rows)

    @property
    def num_gallery(self) -> int:
        """The number of columns of distances, or of the gallery's embeddings."""
        if self.distances is not None:
            return self.distances.shape[1]
        assert self.gallery_embeddings is not None
        return len(self.gallery_embeddings)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the numbers of some queries, and their distances to the gallery."""
        if self.distances is not None:
            yield np.arange(len(self.distances)), self.distances
            return
        assert self.query_embeddings is not None and self.gallery_embeddings is not None
        yield from metric_blocks(self.query_embeddings, self.gallery_embeddings, self.metric)


def metric_blocks(queries: np.ndarray, gallery: np.ndarray, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the numbers of some queries and their distances, by a metric or by `"dot"`, 1 less the inner product."""
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(gallery))))
    for start in range(0, len(queries), step):
        rows = queries[start : start + step]
        if metric == "dot":
            block = (1 - rows.astype(np.float64) @ gallery.T.astype(np.float64)).astype(np.float32)
        else:
            block = distance_matrix(rows, gallery, metric)
        yield np.arange(start, start + len(rows)), block


def fix_lengths(results: Results) -> tuple[Results, list[Finding]]:
    """Find labels of the wrong number, and exchange those of queries and gallery where they are swapped.

    Returns:
        The results, and findings. Labels that are still too many are lists of frames.

    Raises:
        ValueError: if labels are too few, or persons do not fit.
    """
    found = []
    counts = {"query": results.num_queries, "gallery": results.num_gallery}
    for labels in ("persons", "cameras"):
        names = [f"query_{labels}", f"gallery_{labels}"]
        query, gallery = (getattr(results, name) for name in names)
        if counts["query"] != counts["gallery"] and (len(gallery), len(query)) == tuple(counts.values()):
            text = (
                f"{names[0]} and {names[1]} are swapped: {len(query)} and {len(gallery)} of them for "
                f"{counts['query']} queries and {counts['gallery']} gallery entries. They were exchanged here."
            )
            found.append(Finding(f"swapped_{labels}", True, text))
            results = dataclasses.replace(results, **{names[0]: gallery, names[1]: query})
    for side, count in counts.items():
        for labels in ("persons", "cameras"):
            name = f"{side}_{labels}"
            number = len(getattr(results, name))
            if number > count and labels == "cameras":
                text = (
                    f"{name} holds {number} cameras for {count} tracklets, as a list of frames does. An evaluator that "
                    "reads it by tracklet number uses the cameras of other tracklets."
                )
                found.append(Finding("per_frame_cameras", True, text))
            elif number != count:
                raise ValueError(f"Give one label per tracklet. Received: {name} of {number} for {count} tracklets")
    return results, found


def not_finite(results: Results) -> list[Finding]:
    """Find NaN and infinities."""
    found = []
    for name in ("distances", "query_embeddings", "gallery_embeddings"):
        values = getattr(results, name)
        if values is not None:
            rows = ~np.isfinite(values).all(axis=1)
            if rows.any():
                text = (
                    f"{np.count_nonzero(rows)} of {len(rows)} rows of {name} hold NaN or infinities, the first is row "
                    f"{int(np.argmax(rows))}. NaN ranks last or first by the evaluator's sorting: nothing is scored."
                )
                found.append(Finding("not_finite", True, text))
    return found


def odd_cameras(results: Results) -> list[Finding]:
    """Find cameras that cannot be cameras: constant, one per tracklet, one per person, or more of them than persons."""
    sides = {"query": results.query_cameras, "gallery": results.gallery_cameras}
    numbers = {side: np.unique(cameras) for side, cameras in sides.items()}
    persons = np.concatenate([results.query_persons, results.gallery_persons])
    cameras = np.concatenate(list(sides.values()))
    real = persons > 0
    count, num_persons = len(np.unique(cameras)), len(np.unique(persons[real]))
    constant = [side for side, found in numbers.items() if len(found) == 1 and len(sides[side]) >= _FEWEST]
    if count == 1:
        text = f"All cameras are {cameras[0]}: the cross-camera rule removes every match."
        return [Finding("constant_cameras", True, text)]
    if len(constant) == 2:
        text = (
            "The queries are of one camera and the gallery is of another, so the cross-camera rule removes nothing. "
            "That is right for sets of two cameras such as PRID2011 and iLIDS-VID, and wrong for MARS."
        )
        return [Finding("one_camera_each", False, text)]
    found = []
    if constant:
        other = next(side for side in sides if side not in constant)
        text = (
            f"All {constant[0]}_cameras are {numbers[constant[0]][0]}, but the {other} has {len(numbers[other])}: "
            "a fault, unless all were taken there."
        )
        found.append(Finding("constant_cameras", True, text))
    if count > num_persons > 1 and len(cameras) >= _FEWEST:
        text = (
            f"There are {count} cameras and {num_persons} persons: persons and cameras may be swapped, or the cameras "
            "are numbers of frames or tracklets."
        )
        found.append(Finding("swapped_persons_and_cameras", True, text))
    pairs = np.unique(np.stack([persons, cameras])[:, real], axis=1)
    if pairs.shape[1] == num_persons:
        found.append(Finding("one_camera_per_person", True, "Each person is in one camera: no query can have a match."))
    return found


def copies_of_queries(results: Results) -> tuple[np.ndarray, list[Finding]]:
    """Find the queries in the gallery.

    Returns:
        int64 `(queries,)`, the gallery entry that is the query itself, with its person and camera, or -1; and findings
        on it, and on queries that the gallery holds under other labels.
    """
    copies = np.full(results.num_queries, -1)
    as_match, other_person, total = [], [], 0
    for numbers, block in results.blocks():
        limits = _SAME * np.median(np.abs(block), axis=1)
        for query, row, limit in zip(numbers.tolist(), block, limits, strict=True):
            same = np.flatnonzero(np.abs(row) <= limit)
            persons = results.gallery_persons[same] == results.query_persons[query]
            cameras = results.gallery_cameras[same] == results.query_cameras[query]
            total += bool(len(same))
            if (persons & cameras).any():
                copies[query] = same[np.argmax(persons & cameras)]
            elif persons.any():
                as_match.append(query)
            elif len(same):
                other_person.append(query)
    found = []
    number = np.count_nonzero(copies >= 0)
    if number:
        text = (
            f"{number} of {len(copies)} queries are in the gallery, with their person and camera. The protocols mars "
            "and with_queries have it so; standard and market leave them out."
        )
        found.append(Finding("queries_in_gallery", False, text))
    if as_match:
        text = (
            f"{len(as_match)} of {len(copies)} queries are in the gallery under another camera, so that each finds "
            f"itself as a match (the first is query {as_match[0]})."
        )
        found.append(Finding("queries_match_themselves", True, text))
    if other_person:
        text = (
            f"{len(other_person)} of {len(copies)} queries are in the gallery as another person (the first is query "
            f"{other_person[0]})."
        )
        found.append(Finding("queries_as_other_persons", True, text))
    if total >= _FEWEST and len(as_match) + len(other_person) > total / 10:
        text = (
            f"The labels of {len(as_match) + len(other_person)} queries differ from those of the same tracklets in the "
            "gallery: cameras or persons are out of line with the embeddings."
        )
        found.append(Finding("misaligned_labels", True, text))
    return copies, found


def duplicates(results: Results) -> list[Finding]:
    """Find gallery entries, and queries, that come more than once."""
    found = []
    distances = results.distances
    for side in ("gallery", "query"):
        rows = getattr(results, f"{side}_embeddings")
        if rows is None and distances is not None:
            rows = distances.T if side == "gallery" else distances
            if rows.shape[1] < _FEWEST:  # A few distances may be equal by chance.
                continue
        rows = np.ascontiguousarray(rows)
        seen: dict[bytes, int] = {}
        first = np.array(
            [seen.setdefault(hashlib.blake2b(row, digest_size=16).digest(), number) for number, row in enumerate(rows)],
            np.int64,
        )
        again = np.flatnonzero(first != np.arange(len(first)))
        if not len(again):
            continue
        persons = getattr(results, f"{side}_persons")
        others = np.count_nonzero(persons[again] != persons[first[again]])
        text = (
            f"{len(again)} of {len(first)} tracklets of the {side} are duplicates of earlier ones (row {again[0]} of "
            f"row {first[again[0]]}), {others} of them as another person. Each counts again."
        )
        found.append(Finding(f"duplicates_in_{side}", True, text))
    return found


def misaligned_cameras(results: Results, copies: np.ndarray) -> list[Finding]:
    """Find cameras that fit the distances better when they are shifted, or do not fit at all.

    Two tracklets of a person are more alike within a camera than across cameras. The share of such comparisons that
    hold is near a half if cameras are out of line with embeddings.
    """
    groups = _groups(results, copies)
    share, error, number = _share_nearer(groups, results.query_cameras, results.gallery_cameras)
    found: list[Finding] = []
    if number < _FEWEST:
        return found
    best = (share, "", 0)
    for side in ("query", "gallery"):
        for shift in _SHIFTS:
            cameras = {name: getattr(results, f"{name}_cameras") for name in ("query", "gallery")}
            cameras[side] = np.roll(cameras[side], shift)
            shifted, _, usable = _share_nearer(groups, cameras["query"], cameras["gallery"])
            if usable >= _FEWEST and shifted > best[0]:
                best = (shifted, side, shift)
    measure = (
        f"for {number} queries, a tracklet of the person in the query's camera is nearer than one in another camera"
    )
    if best[0] > share + 5 * error:  # The best of twenty shifts.
        text = (
            f"{best[1]}_cameras fit better when shifted by {best[2]}: {measure} in {best[0]:.0%} of comparisons, and "
            f"in {share:.0%} as they are."
        )
        found.append(Finding("misaligned_cameras", True, text))
    elif share < 0.5 + 3 * error:
        text = (
            f"Cameras do not fit the distances: {measure} in {share:.0%} of comparisons, as by chance. They may be out "
            "of line with the embeddings, unless these do not show the camera at all."
        )
        found.append(Finding("misaligned_cameras", True, text))
    return found


def odd_distances(results: Results) -> list[Finding]:
    """Find similarities in place of distances, cosines of vectors that are not normalised, and unknown distances."""
    found = []
    queries, gallery, distances = results.query_embeddings, results.gallery_embeddings, results.distances
    norms = None
    if queries is not None and gallery is not None:
        norms = np.linalg.norm(np.concatenate([queries, gallery]).astype(np.float64), axis=1)
    if distances is None:
        if results.metric == "cosine" and norms is not None and norms.max() > 1.01 * norms.min():
            text = (
                f"The norms of the embeddings run from {norms.min():.4g} to {norms.max():.4g}: cosines are taken after "
                "normalising here, while an evaluator that takes inner products ranks by the norms too."
            )
            found.append(Finding("unnormalised_cosine", True, text))
        return found
    genuine = results.query_persons[:, None] == results.gallery_persons[None, :]
    if genuine.any() and not genuine.all() and distances[genuine].mean() > distances[~genuine].mean():
        text = "`distances` are larger within persons than across them: they may be similarities. Give 1 - similarity."
        found.append(Finding("similarities", True, text))
    least, most = float(distances.min()), float(distances.max())
    if results.metric == "cosine" and (least < -1e-3 or most > 2.001):
        text = f"Cosine distances are 0 to 2, and these run from {least:.4g} to {most:.4g}: of vectors not normalised."
        found.append(Finding("unnormalised_cosine", True, text))
    if queries is not None and gallery is not None and norms is not None:
        kind = _kind_of(queries, gallery, distances)
        if kind == "dot" and norms.max() > 1.01 * norms.min():
            text = "`distances` are 1 - the inner products of embeddings that are not normalised, no cosines."
            found.append(Finding("unnormalised_cosine", True, text))
        elif not kind:
            text = "`distances` are neither Euclidean nor cosine distances of the embeddings: re-ranked, or of others."
            found.append(Finding("unknown_distances", False, text))
    return found


def _kind_of(queries: np.ndarray, gallery: np.ndarray, distances: np.ndarray) -> str:
    """Return which distances of the embeddings these are, or nothing."""
    rows = distances[:64].astype(np.float64)
    _, plain = next(metric_blocks(queries[:64], gallery, "euclidean"))
    _, cosine = next(metric_blocks(queries[:64], gallery, "cosine"))
    _, dot = next(metric_blocks(queries[:64], gallery, "dot"))
    known = {"euclidean": plain, "squared": plain.astype(np.float64) ** 2, "cosine": cosine, "dot": dot}
    fits = [
        name for name, values in known.items() if np.allclose(rows, values, rtol=1e-3, atol=1e-3 * np.abs(rows).max())
    ]
    return fits[0] if fits else ""


def _groups(results: Results, copies: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Return each query, the gallery entries of its person without itself, and their distances."""
    order = np.argsort(results.gallery_persons, kind="stable")
    ranked = results.gallery_persons[order]
    groups = []
    for numbers, block in results.blocks():
        for query, row in zip(numbers.tolist(), block, strict=True):
            person = results.query_persons[query]
            entries = order[np.searchsorted(ranked, person, "left") : np.searchsorted(ranked, person, "right")]
            entries = entries[entries != copies[query]]
            if person > 0 and len(entries) > 1:
                groups.append((query, entries, row[entries]))
    return groups


def _share_nearer(groups, query_cameras, gallery_cameras):
    """Return the mean share of pairs of a same-camera and a cross-camera entry whose first is nearer.

    Also its standard error by chance, and the number of queries that have such pairs.
    """
    shares, variances = [], []
    for query, entries, distances in groups:
        same = gallery_cameras[entries] == query_cameras[query]
        near, far = distances[same], distances[~same]
        if len(near) and len(far):
            below = (near[:, None] < far[None, :]).mean() + (near[:, None] == far[None, :]).mean() / 2
            shares.append(below)
            variances.append((len(near) + len(far) + 1) / (12 * len(near) * len(far)))
    number = len(shares)
    return (float(np.mean(shares)), float(np.sqrt(np.sum(variances))) / number, number) if number else (0.5, 0.5, 0)
