"""An approximate index of a gallery: a short code of each embedding, all of which a search scans."""

import copy
import functools
import itertools
import json
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from kreid.gallery.arrow import ArrowPart, JoinedRows
from kreid.gallery.embeddings import BROKEN, TrackletEmbeddings, read_arrays, write_arrays
from kreid.gallery.nearest import Match, NearestTracklets
from kreid.gallery.parts import squared_lengths

# Tracklets of which an index's recall is measured, and the nearest of each that are to be found.
SAMPLE, NEAREST = 256, 10
# With fewer, a search compares all of them in less time than the index needs.
MIN_TRACKLETS = 256
# A search that compares a larger share than 1 / this does better with all: they are read in one go.
MOST = 4
# Tracklets to compare for each that is asked for, at least.
PER_RESULT = 4
# Of the depth of a search that found too many deleted or old tracklets.
_GROWTH = 4
# Values of an embedding that share a number, and its bits: FAISS scans codes of 4 bits in the processor's registers.
_WIDTH, _BITS = 4, 4
# Tracklets that the codes are learnt from, at most.
_EXAMPLES = 1 << 14
# Share of the examples' values, at each end, that says nothing of where most values are.
_TAIL = 0.01
_FORMAT = 2


class IndexReport(NamedTuple):
    """What is known of a gallery's index.

    Args:
        recall: measured share of the 10 nearest tracklets of an exact search that a search by the index finds. The
            queries are up to 256 of the gallery's tracklets, which the codes were not learnt from.
        target: recall that was asked for.
        compared: tracklets that a search compares exactly, at least.
        tracklets: in the index; those that were added later are all compared.
    """

    recall: float
    target: float
    compared: int
    tracklets: int


class Source(Protocol):
    """Tracklets of a gallery, some of which a search asks for.

    Attributes:
        digests: uint64 `(tracklets,)`, known to the index.
    """

    @property
    def digests(self) -> np.ndarray:
        """Uint64 `(tracklets,)`."""

    def chosen(self, rows: np.ndarray, added_after: float | None) -> tuple[ArrowPart, np.ndarray]:
        """Return a part with those of some rows of this one that were added later, and their rows in it."""


class CompressedIndex:
    """Codes of tracklets: for each four values of an embedding the nearest of 16 learnt ones, in 4 bits.

    A search scans all codes, a 32nd of the embeddings' bytes, and compares the tracklets of the nearest ones exactly. A
    tracklet is known by the digest of its content, so that the codes hold whatever files the tracklets are in. One that
    has no code, because it was added later, is compared in each search.

    Args:
        codebooks: float32 `(blocks, 16, 4)`, the learnt values; the last block of an embedding is filled up with zeros.
        codes: uint8 `(tracklets, bytes)`, two blocks a byte.
        digests: uint64 `(tracklets,)`.
        report: an `IndexReport`.

    Reference: Jégou et al., Product Quantization for Nearest Neighbor Search, 2011; André et al., Cache Locality is not
    Enough: High-Performance Nearest Neighbor Search with Product Quantization Fast Scan, 2015. FAISS has both.
    """

    def __init__(self, codebooks: np.ndarray, codes: np.ndarray, digests: np.ndarray, report: IndexReport) -> None:
        order = np.argsort(digests)
        self.codebooks, self.codes, self.digests, self.report = codebooks, codes[order], digests[order], report
        # Neither keeps alive the tracklets that a gallery drops from memory.
        self._rows: weakref.WeakKeyDictionary[Source, _Rows] = weakref.WeakKeyDictionary()
        self._places: tuple[list[weakref.ref[Source]], _Places] | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all."""
        about = json.dumps({"format": _FORMAT, **self.report._asdict()})
        arrays = {"codebooks": self.codebooks, "codes": self.codes, "digests": self.digests}
        write_arrays(path, {**arrays, "about": np.array(about)})

    @classmethod
    def load(cls, path: str | os.PathLike[str], dimension: int) -> "CompressedIndex":
        """Read a file.

        Args:
            path: of the file.
            dimension: of the gallery's embeddings.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is damaged, or another version of kreid wrote it.
        """
        try:
            arrays = read_arrays(path)
            about = json.loads(arrays["about"].item())
            if (found := about.pop("format")) != _FORMAT:
                raise ValueError(f"another version of kreid wrote it, in format {found}")
            codebooks, codes, digests = (arrays[name] for name in ("codebooks", "codes", "digests"))
            report = IndexReport(**about)
            blocks = -(-dimension // _WIDTH)
            shapes = (blocks, 1 << _BITS, _WIDTH), (report.tracklets, -(-blocks * _BITS // 8)), (report.tracklets,)
            if (codebooks.shape, codes.shape, digests.shape) != shapes:
                raise ValueError("its arrays do not fit together")
        except FileNotFoundError:
            raise
        except BROKEN as error:
            raise ValueError(f"The gallery's index cannot be read: {error}. Received: path={str(path)!r}") from error
        return cls(codebooks, codes, digests, report)

    def with_compared(self, compared: int, recall: float) -> "CompressedIndex":
        """Return the same codes, searched in another depth."""
        other = copy.copy(self)
        other.report = self.report._replace(compared=compared, recall=recall)
        return other

    def nearest(self, vectors: np.ndarray, count: int) -> np.ndarray:
        """Return the tracklets whose codes are nearest, int64 `(queries, count)`, -1 where there is none.

        Args:
            vectors: float32 `(queries, features)`.
            count: of tracklets for each.

        Raises:
            ImportError: without the package FAISS.
        """
        _, rows = self._scanner.search(_in_blocks(vectors), count)
        return rows

    @functools.cached_property
    def _scanner(self) -> Any:
        faiss = import_faiss()
        plain = faiss.IndexPQ(_WIDTH * len(self.codebooks), len(self.codebooks), _BITS)
        faiss.copy_array_to_vector(self.codebooks.ravel(), plain.pq.centroids)
        faiss.copy_array_to_vector(self.codes.ravel(), plain.codes)
        plain.ntotal, plain.is_trained = len(self.codes), True
        return faiss.IndexPQFastScan(plain)

    def places(self, sources: Sequence[Source]) -> "_Places":
        """Return where the tracklets of the codes are."""
        last = self._places
        if last is not None and [id(reference()) for reference in last[0]] == [id(source) for source in sources]:
            return last[1]
        numbers, rows = (np.full(len(self.digests), -1, np.int32) for _ in range(2))
        for number, source in enumerate(sources):
            own = self._rows_of(source)
            numbers[own.coded], rows[own.coded] = number, own.rows
        places = _Places(numbers, rows, [self._rows_of(source).others for source in sources])
        self._places = [weakref.ref(source) for source in sources], places
        return places

    def _rows_of(self, source: Source) -> "_Rows":
        if source not in self._rows:
            digests = source.digests
            coded = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
            known = self.digests[coded] == digests
            self._rows[source] = _Rows(coded[known], np.flatnonzero(known).astype(np.int32), np.flatnonzero(~known))
        return self._rows[source]


class _Rows(NamedTuple):
    """The rows of a source that have codes, and those that have none.

    Args:
        coded: numbers of codes.
        rows: of their tracklets.
        others: rows without a code.
    """

    coded: np.ndarray
    rows: np.ndarray
    others: np.ndarray


class _Places(NamedTuple):
    """Where the tracklets of codes are.

    Args:
        numbers: of their sources, -1 for deleted tracklets.
        rows: of the tracklets in their sources.
        others: the rows of each source that have no code.
    """

    numbers: np.ndarray
    rows: np.ndarray
    others: list[np.ndarray]

    def of(self, codes: np.ndarray) -> list[np.ndarray]:
        """Return the rows of each source that codes stand for, and those without a code, rising."""
        numbers, rows = self.numbers[codes], self.rows[codes]
        order = np.lexsort((rows, numbers))
        ends = np.searchsorted(numbers[order], np.arange(len(self.others) + 1))
        own = [rows[order[start:end]] for start, end in itertools.pairwise(ends)]
        return [
            np.sort(np.concatenate([some, others])) if len(others) else some
            for some, others in zip(own, self.others, strict=True)
        ]


def find_by_index(
    index: CompressedIndex,
    sources: Sequence[Source],
    queries: TrackletEmbeddings,
    count: int,
    threshold: float | None,
    added_after: float | None,
) -> list[list[Match] | None]:
    """Find the nearest tracklets of each query, among those whose codes are nearest.

    As many are compared as the index's recall was measured with, and four times as many as are asked for. Distances are
    exact.

    Args:
        index: a `CompressedIndex`.
        sources: all tracklets.
        queries: a `TrackletEmbeddings`.
        count: tracklets to find.
        threshold: only distances below it count; `None` for all.
        added_after: seconds since 1970; tracklets that were added earlier do not count.

    Returns:
        A list of `Match` for each query; `None` where so large a share is needed that all are better compared.

    Raises:
        ImportError: without the package FAISS.
    """
    places = index.places(sources)
    wanted = max(index.report.compared, PER_RESULT * count)
    total = sum(len(source.digests) for source in sources)
    vectors = directions(queries.embeddings, queries.metric)

    def compared(query: TrackletEmbeddings, codes: np.ndarray) -> tuple[list[Match], int]:
        rows = places.of(codes[codes >= 0])
        pairs = [source.chosen(own, added_after) for source, own in zip(sources, rows, strict=True) if len(own)]
        pairs = [(part, own) for part, own in pairs if len(own)]
        nearest = NearestTracklets(query, count, threshold)
        if pairs:
            nearest.add(JoinedRows(pairs))
        return nearest.results()[0], sum(len(own) for _, own in pairs)

    found: list[list[Match] | None] = []
    shallow = index.nearest(vectors, wanted) if MOST * wanted <= total else np.zeros((len(queries), 0), np.int64)
    for row, codes in enumerate(shallow):
        depth, matches = wanted, None
        while MOST * depth <= total:
            matches, seen = compared(queries.take([row]), codes)
            if seen >= wanted:
                break
            # Many of them are deleted or too old.
            depth, matches = _GROWTH * depth, None
            codes = index.nearest(vectors[row : row + 1], min(depth, len(index.digests)))[0]
        found.append(matches)
    return found


def directions(embeddings: np.ndarray, metric: str) -> np.ndarray:
    """Return vectors whose Euclidean distances are in the order of the metric's."""
    if metric == "euclidean":
        return embeddings
    with np.errstate(invalid="ignore", divide="ignore"):
        return (embeddings / np.sqrt(squared_lengths(embeddings))[:, None]).astype(np.float32)


def rows_to_draw(tracklets: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of a gallery to measure with, and others to learn codes from, both rising."""
    sample = min(SAMPLE, tracklets // 4)
    rows = random.permutation(tracklets)[: sample + _EXAMPLES]
    return np.sort(rows[:sample]), np.sort(rows[sample:])


def learn_codebooks(vectors: np.ndarray) -> np.ndarray:
    """Learn the values that codes stand for, by k-means in each block.

    Far outliers are moved closer: FAISS scans with distances in 8 bits, whose range the learnt values span.

    Args:
        vectors: float32 `(tracklets, features)`.

    Returns:
        Float32 `(blocks, 16, 4)`.
    """
    faiss = import_faiss()
    low, high = np.quantile(vectors, [_TAIL, 1 - _TAIL], axis=0)
    blocks = _in_blocks(np.clip(vectors, 2 * low - high, 2 * high - low))
    quantizer = faiss.ProductQuantizer(blocks.shape[1], blocks.shape[1] // _WIDTH, _BITS)
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(blocks)
    return faiss.vector_to_array(quantizer.centroids).reshape(-1, 1 << _BITS, _WIDTH)


def codes_of(codebooks: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the codes of vectors, uint8 `(tracklets, bytes)`."""
    faiss = import_faiss()
    quantizer = faiss.ProductQuantizer(_WIDTH * len(codebooks), len(codebooks), _BITS)
    faiss.copy_array_to_vector(codebooks.ravel(), quantizer.centroids)
    return quantizer.compute_codes(_in_blocks(vectors))


def recall_of(found: Sequence[Sequence[Match]], exact: Sequence[Sequence[Match]]) -> float:
    """Return the share of the exact results that were found; one as near as the last counts as well."""
    hits, total = 0, 0
    for own, all_own in zip(found, exact, strict=True):
        if all_own:
            hits += sum(match.distance <= all_own[-1].distance for match in own[: len(all_own)])
            total += len(all_own)
    return hits / max(1, total)


def import_faiss() -> Any:
    """Return the package FAISS.

    Raises:
        ImportError: if it is not installed, with the command that installs it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("The index of a gallery needs FAISS: pip install 'kreid[index]'") from error
    return faiss


def _in_blocks(vectors: np.ndarray) -> np.ndarray:
    """Return vectors filled up with zeros to whole blocks."""
    padding = -vectors.shape[1] % _WIDTH
    return np.ascontiguousarray(np.pad(vectors, ((0, 0), (0, padding))) if padding else vectors, np.float32)
