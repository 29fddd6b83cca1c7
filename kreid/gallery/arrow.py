"""Tracklets of a gallery as Arrow tables, in Lance and Parquet files."""

import functools
import hashlib
import json
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import numpy as np

from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.parts import Part, squared_lengths
from kreid.gallery.where import Where

if typing.TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("id", "person", "camera", "start", "end", "source", "tags", "added")
_DIGEST_BYTES = 8


def import_arrow() -> None:
    """Check that PyArrow is installed.

    Raises:
        ImportError: if it is not, with the command that installs it.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError("Files of galleries need PyArrow: pip install 'kreid[gallery]'") from error


def schema(dimension: int) -> "pa.Schema":
    """Return the columns of tracklets."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("person", pa.int64(), nullable=False),
            pa.field("camera", pa.int64(), nullable=False),
            pa.field("start", pa.float64()),
            pa.field("end", pa.float64()),
            pa.field("source", pa.string(), nullable=False),
            # As NAME=VALUE; names have no "=".
            pa.field("tags", pa.list_(pa.string())),
            pa.field("added", pa.float64(), nullable=False),
            pa.field("digest", pa.binary(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def to_table(record: TrackletEmbeddings, added: np.ndarray) -> "pa.Table":
    """Return tracklets as a table.

    Args:
        record: a `TrackletEmbeddings`.
        added: seconds since 1970, of each tracklet.

    Returns:
        A `pyarrow.Table` with the columns of `schema`.
    """
    import pyarrow as pa

    dimension = record.embeddings.shape[1]
    tags = [[f"{name}={value}" for name, value in sorted(own.items())] for own in record.tags]
    vectors = pa.array(np.ascontiguousarray(record.embeddings).reshape(-1))
    columns = {
        "id": pa.array(record.ids.tolist(), pa.string()),
        "person": pa.array(record.persons),
        "camera": pa.array(record.cameras),
        "start": pa.array(record.starts, from_pandas=True),
        "end": pa.array(record.ends, from_pandas=True),
        "source": pa.array(record.sources.tolist(), pa.string()),
        "tags": pa.array(tags, pa.list_(pa.string())),
        "added": pa.array(added, pa.float64()),
        "embedding": pa.FixedSizeListArray.from_arrays(vectors, dimension),
    }
    made = digests(pa.RecordBatch.from_pydict(columns))
    columns["digest"] = pa.array(made, pa.binary())
    names = schema(dimension).names
    return pa.Table.from_arrays([columns[name] for name in names], schema=schema(dimension))


def digests(batch: "pa.RecordBatch") -> list[bytes]:
    """Return a digest of all values of each tracklet, which shows damage to a file.

    Args:
        batch: with the columns of `schema`.
    """
    labels = zip(*(batch.column(name).to_pylist() for name in LABELS), strict=True)
    return [
        hashlib.blake2b(json.dumps(own).encode() + vector.tobytes(), digest_size=_DIGEST_BYTES).digest()
        for own, vector in zip(labels, _vectors(batch), strict=True)
    ]


def intact(batch: "pa.RecordBatch") -> np.ndarray:
    """Return which tracklets are as they were added, bool `(tracklets,)`.

    Args:
        batch: with the columns of `schema`.
    """
    return np.array(
        [one == other for one, other in zip(digests(batch), batch.column("digest").to_pylist(), strict=True)], bool
    )


def digest_numbers(column: "pa.Array | pa.ChunkedArray") -> np.ndarray:
    """Return digests as uint64 `(tracklets,)`, 0 where they are damaged."""
    empty = bytes(_DIGEST_BYTES)
    values = [value if value and len(value) == _DIGEST_BYTES else empty for value in column.to_pylist()]
    return np.frombuffer(b"".join(values), np.uint64)


class ArrowPart(Part):
    """Tracklets in an Arrow record batch; labels are converted where they are asked for.

    Args:
        batch: with the columns of `schema`; tracklets can be taken only with all of them.
        model: a `GalleryModel`.
        on_damage: called if tracklets are taken that are not as they were added; raises an error.
        in_memory: the gallery keeps the batch.
    """

    def __init__(
        self,
        batch: "pa.RecordBatch",
        model: GalleryModel,
        on_damage: Callable[[], NoReturn],
        in_memory: bool = False,
    ) -> None:
        self.batch, self.model, self._on_damage = batch, model, on_damage
        self.in_memory = in_memory

    @functools.cached_property
    def squares(self) -> np.ndarray:
        return squared_lengths(self._embeddings)

    @functools.cached_property
    def persons(self) -> np.ndarray:
        return self._numbers("person")

    @functools.cached_property
    def cameras(self) -> np.ndarray:
        return self._numbers("camera")

    @functools.cached_property
    def added(self) -> np.ndarray:
        return self._numbers("added")

    @functools.cached_property
    def digests(self) -> np.ndarray:
        """Uint64 `(tracklets,)`."""
        return digest_numbers(self.batch.column("digest"))

    def chosen(self, rows: np.ndarray, added_after: float | None) -> tuple["ArrowPart", np.ndarray]:
        """Return this part and those of some rows that were added later.

        Args:
            rows: rising.
            added_after: seconds since 1970; `None` for all rows.
        """
        return self, rows if added_after is None else rows[self.added[rows] > added_after]

    def mask(self, where: Where, added_after: float | None) -> np.ndarray:
        """Return which tracklets conditions choose, bool `(tracklets,)`.

        Args:
            where: a `Where`.
            added_after: seconds since 1970; added later.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        chosen = np.ones(len(self.batch), bool)
        for name, texts in (("id", where.ids), ("source", where.sources)):
            if texts is not None:
                chosen &= np.asarray(pc.is_in(self.batch.column(name), value_set=pa.array(texts, pa.string())))
        for numbers, column in ((where.persons, self.persons), (where.cameras, self.cameras)):
            if numbers is not None:
                chosen &= np.isin(column, numbers)
        if where.not_cameras is not None:
            chosen &= ~np.isin(self.cameras, where.not_cameras)
        if where.since is not None:
            chosen &= self._ends >= where.since
        if where.until is not None:
            chosen &= self._starts < where.until
        for name, value in (where.tags or {}).items():
            tags = self.batch.column("tags")
            has = np.asarray(pc.equal(pc.list_flatten(tags), f"{name}={value}"))
            tagged = np.zeros(len(chosen), bool)
            tagged[np.asarray(pc.list_parent_indices(tags))[has]] = True
            chosen &= tagged & ("=" not in name)
        if added_after is not None:
            chosen &= self.added > added_after
        return chosen

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._embeddings[rows]

    def positions(self, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self.batch.column("id").take(pa.array(rows, pa.int64()))
        return np.asarray(pc.fill_null(pc.index_in(names, value_set=pa.array(ids, pa.string())), -1))

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        import pyarrow as pa

        chosen = self.batch.take(pa.array(rows, pa.int64()))
        if not intact(chosen).all():
            self._on_damage()
        columns = {name: chosen.column(name) for name in LABELS}
        return TrackletEmbeddings(
            _vectors(chosen),
            np.array(columns["id"].to_pylist(), np.str_),
            columns["person"].to_numpy(),
            columns["camera"].to_numpy(),
            metric=self.model.metric,
            model=self.model.fingerprint,
            starts=columns["start"].to_numpy(zero_copy_only=False),
            ends=columns["end"].to_numpy(zero_copy_only=False),
            sources=np.array(columns["source"].to_pylist(), np.str_),
            tags=tuple(dict(tag.split("=", 1) for tag in own or ()) for own in columns["tags"].to_pylist()),
        )

    @functools.cached_property
    def _embeddings(self) -> np.ndarray:
        return _vectors(self.batch)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return self._numbers("start")

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        return self._numbers("end")

    def _numbers(self, name: str) -> np.ndarray:
        return self.batch.column(name).to_numpy(zero_copy_only=False)


class JoinedRows(Part):
    """Some rows of several parts as one, which is faster to search than many with few rows each.

    Args:
        parts: an `ArrowPart` and numbers of its rows, rising; at least one.
    """

    in_memory = True

    def __init__(self, parts: Sequence[tuple[ArrowPart, np.ndarray]]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(rows) for _, rows in parts)])

    @functools.cached_property
    def squares(self) -> np.ndarray:
        return np.concatenate([part.squares[rows] for part, rows in self._parts])

    @functools.cached_property
    def persons(self) -> np.ndarray:
        return np.concatenate([part.persons[rows] for part, rows in self._parts])

    @functools.cached_property
    def cameras(self) -> np.ndarray:
        return np.concatenate([part.cameras[rows] for part, rows in self._parts])

    @functools.cached_property
    def added(self) -> np.ndarray:
        return np.concatenate([part.added[rows] for part, rows in self._parts])

    @functools.cached_property
    def _embeddings(self) -> np.ndarray:
        joined = np.empty((self._starts[-1], self._parts[0][0].model.dimension), np.float32)
        for (part, rows), start, end in zip(self._parts, self._starts[:-1], self._starts[1:], strict=True):
            np.take(part.vectors(slice(None)), rows, axis=0, out=joined[start:end], mode="clip")
        return joined

    def vectors(self, rows: np.ndarray | slice) -> np.ndarray:
        return self._embeddings[rows]

    def positions(self, ids: Sequence[str], rows: np.ndarray) -> np.ndarray:
        positions = np.full(len(rows), -1)
        for place, part, own in self._owners(rows):
            positions[place] = part.positions(ids, own)
        return positions

    def take(self, rows: np.ndarray) -> TrackletEmbeddings:
        """Return some rows, rising, with all labels."""
        import pyarrow as pa

        owners = [(part, own) for _, part, own in self._owners(rows)] or [(self._parts[0][0], rows)]

        def name_damage() -> NoReturn:
            for part, own in owners:
                part.take(own)
            raise AssertionError("a part that has a damaged tracklet says so")

        batch = pa.concat_batches([part.batch.take(pa.array(own, pa.int64())) for part, own in owners])
        return ArrowPart(batch, owners[0][0].model, name_damage).take(np.arange(len(batch)))

    def _owners(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, ArrowPart, np.ndarray]]:
        """Yield the places of rows, the part that has them, and their numbers in it."""
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            place = np.flatnonzero(numbers == number)
            part, own = self._parts[number]
            yield place, part, own[rows[place] - self._starts[number]]


def _vectors(batch: "pa.RecordBatch") -> np.ndarray:
    column = batch.column("embedding")
    # `flatten` respects the slice that a batch may be.
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)
