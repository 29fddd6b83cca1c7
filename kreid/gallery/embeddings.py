"""The record of embedded tracklets: plain NumPy arrays, in memory or in one file."""

import dataclasses
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kreid._files import check_unpacked_size, write_atomically
from kreid.data.damage import DamageLog
from kreid.passport import Passport

# Errors of reading a file that is incomplete or no `.npz` file.
BROKEN = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile)

# The fields with one value for each tracklet, other than tags.
_ROWS = ("embeddings", "ids", "persons", "cameras", "starts", "ends", "sources")


@dataclasses.dataclass(frozen=True, eq=False)
class TrackletEmbeddings:
    """Embeddings of tracklets, and the labels that scores need.

    `embed_tracklets` makes the record, and every score of `kreid.evaluation` accepts it.

    Args:
        embeddings: float32 `(tracklets, features)`.
        ids: str `(tracklets,)`, each once.
        persons: int64 `(tracklets,)`; 0 is a distractor, -1 junk.
        cameras: int64 `(tracklets,)`.
        query_rows: int64, the rows that are queries, each once.
        metric: `"euclidean"` or `"cosine"`, the distance that the embeddings are compared by.
        model: the model's fingerprint, see `kreid.models.fingerprint`; empty if unknown.
        data: digest of the list of embedded tracklets; empty if unknown.
        damaged_frames: str, paths of the frames that could not be read.
        unreadable: str, ids of the tracklets without a readable frame; they have no row.
        passport: of the model, see `kreid.models.Passport`; empty if unknown.
        starts: float64 `(tracklets,)`, seconds at which each begins, NaN where unknown; in any clock that all of a
            gallery share, such as seconds since 1970.
        ends: float64 `(tracklets,)`, seconds at which each ends, NaN where unknown.
        sources: str `(tracklets,)`, such as the name of the video; empty where unknown.
        tags: a mapping of str to str for each tracklet, such as `{"coat": "red"}`.

    Raises:
        ValueError: if sizes do not fit, an id or a query occurs twice, the metric is unknown, a tracklet ends before it
            begins, or a tag is not a str.

    Example:

    >>> walks = TrackletEmbeddings([[0.0], [0.1], [0.2]], ["a", "b", "c"], [7, 9, 7], [1, 2, 2], query_rows=[0])
    >>> len(walks), kreid.evaluation.evaluate_test(walks)["standard"].cmc[5]
    (3, 1.0)
    """

    embeddings: np.ndarray
    ids: np.ndarray
    persons: np.ndarray
    cameras: np.ndarray
    query_rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    metric: str = "euclidean"
    model: str = ""
    data: str = ""
    damaged_frames: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.str_))
    unreadable: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.str_))
    passport: Passport = dataclasses.field(default_factory=Passport)
    starts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    ends: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    sources: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.str_))
    tags: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self):
        kinds = {"embeddings": np.float32, "ids": np.str_, "damaged_frames": np.str_, "unreadable": np.str_}
        kinds |= dict.fromkeys(("persons", "cameras", "query_rows"), np.int64)
        kinds |= {"starts": np.float64, "ends": np.float64, "sources": np.str_}
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        count = len(self.embeddings)
        if self.embeddings.ndim != 2 or any(len(values) != count for values in (self.ids, self.persons, self.cameras)):
            raise ValueError(
                "Give one id, person and camera for each row of `embeddings`. Received: "
                f"embeddings.shape={self.embeddings.shape}, {len(self.ids)} ids, {len(self.persons)} persons, "
                f"{len(self.cameras)} cameras"
            )
        check_ids(self.ids)
        checked_query_rows(self.query_rows, count)
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"The metric is 'euclidean' or 'cosine'. Received: metric={self.metric!r}")
        self._complete_labels(count)

    def _complete_labels(self, count: int) -> None:
        """Fill in the labels that are not given, and check the others."""
        unknown = {"starts": np.full(count, np.nan), "ends": np.full(count, np.nan)}
        unknown["sources"] = np.full(count, "", np.str_)
        for name, values in unknown.items():
            given = getattr(self, name)
            if not len(given):
                object.__setattr__(self, name, values)
            elif given.shape != (count,):
                raise ValueError(f"Give one of `{name}` for each tracklet. Received: {name}.shape={given.shape}")
            elif name != "sources" and np.isinf(given).any():
                raise ValueError(f"A time is finite, or NaN where unknown. Received: {name}={given}")
        backwards = np.flatnonzero(self.ends < self.starts)
        if len(backwards):
            row = backwards[0]
            raise ValueError(
                f"A tracklet ends after it begins. Received: starts[{row}]={self.starts[row]}, ends[{row}]="
                f"{self.ends[row]}"
            )
        tags = tuple(dict(row) for row in self.tags) or tuple({} for _ in range(count))
        if len(tags) != count:
            raise ValueError(f"Give one mapping of `tags` for each tracklet. Received: {len(tags)} of {count} tags")
        for row, own in enumerate(tags):
            for name, value in own.items():
                if not (isinstance(name, str) and isinstance(value, str) and name and "=" not in name):
                    raise ValueError(
                        f"Names and values of tags are str, and names have no '='. Received: tags[{row}]={own!r}"
                    )
        object.__setattr__(self, "tags", tags)

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def query_ids(self) -> list[str]:
        """Ids of the queries, in the order of `query_rows` and of the results' arrays."""
        return self.ids[self.query_rows].tolist()

    def take(self, rows: ArrayLike) -> "TrackletEmbeddings":
        """Return the record of some tracklets. Queries among them stay queries.

        Args:
            rows: numbers of rows, each at most once, or a boolean mask of all rows.

        Returns:
            A `TrackletEmbeddings`, in the order of `rows`.
        """
        rows = np.asarray(rows)
        chosen = np.arange(len(self))[rows if rows.size else rows.astype(np.int64)]
        new_row = {row: number for number, row in enumerate(chosen.tolist())}
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[chosen] for name in _ROWS},
            tags=tuple(self.tags[row] for row in chosen.tolist()),
            query_rows=np.array([new_row[row] for row in self.query_rows.tolist() if row in new_row], np.int64),
        )

    def damage_report(self) -> str:
        """Return the report of the frames and tracklets that could not be read, see `DamageLog.report`."""
        damage = DamageLog()
        damage.add(self.damaged_frames.tolist(), self.unreadable.tolist())
        return damage.report()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.npz` file of plain arrays, whole or not at all.

        Args:
            path: of the file; its folder exists.
        """
        arrays = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        texts = {"passport": json.dumps(self.passport.to_dict()), "tags": json.dumps(self.tags)}
        write_arrays(path, {**arrays, **texts})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "TrackletEmbeddings":
        """Read a file that `save` wrote.

        Args:
            path: of the file.

        Returns:
            A `TrackletEmbeddings`.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if `save` did not write it.
        """
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"There is no file of embeddings. Received: path={str(path)!r}")
        try:
            arrays: dict[str, Any] = read_arrays(path)
            texts = {name: arrays.pop(name).item() for name in ("metric", "model", "data")}
            # Earlier files have no passport or no tags.
            passport = Passport.from_dict(json.loads(arrays.pop("passport", np.array("{}")).item()))
            tags = json.loads(arrays.pop("tags", np.array("[]")).item())
            return cls(**arrays, **texts, passport=passport, tags=tags)
        except BROKEN as error:
            raise ValueError(
                f"The file was not written by `TrackletEmbeddings.save`: {error}. Received: path={str(path)!r}"
            ) from error


class Labelled(NamedTuple):
    """Embeddings and their labels, from a `TrackletEmbeddings` or from arrays; see `labelled`."""

    embeddings: np.ndarray
    persons: np.ndarray
    cameras: np.ndarray
    query_rows: np.ndarray
    metric: str


def labelled(
    embeddings: "TrackletEmbeddings | ArrayLike",
    persons: ArrayLike | None = None,
    cameras: ArrayLike | None = None,
    query_rows: ArrayLike | None = None,
    metric: str | None = None,
    needed: tuple[str, ...] = (),
) -> Labelled:
    """Return the arrays of a `TrackletEmbeddings`, or the arrays that are given.

    Args:
        embeddings: a `TrackletEmbeddings`, which must be the only argument, or an array.
        persons: with an array.
        cameras: with an array.
        query_rows: with an array.
        metric: with an array; `"euclidean"` by default.
        needed: names of the labels that are required with an array.

    Returns:
        A `Labelled`; labels that are not needed may be empty.

    Raises:
        ValueError: if labels are given twice, or are missing.
    """
    given = {"persons": persons, "cameras": cameras, "query_rows": query_rows, "metric": metric}
    if isinstance(embeddings, TrackletEmbeddings):
        twice = [name for name, value in given.items() if value is not None]
        if twice:
            raise ValueError(
                f"`TrackletEmbeddings` have their own {twice[0]}; leave the argument out. "
                f"Received: {twice[0]}={given[twice[0]]!r}"
            )
        return Labelled(*(getattr(embeddings, name) for name in Labelled._fields))
    missing = [name for name in needed if given[name] is None]
    if missing:
        raise ValueError(
            f"Embeddings in an array need {' and '.join(f'`{name}`' for name in missing)}; give them, or a "
            f"`TrackletEmbeddings`. Received: {missing[0]}=None"
        )
    embeddings = np.asarray(embeddings)
    persons, cameras = (np.asarray(() if labels is None else labels) for labels in (persons, cameras))
    query_rows = checked_query_rows(
        () if query_rows is None else query_rows, embeddings.shape[0] if embeddings.ndim else 0
    )
    return Labelled(embeddings, persons, cameras, query_rows, "euclidean" if metric is None else metric)


def checked_query_rows(query_rows: ArrayLike, count: int) -> np.ndarray:
    """Check the rows of queries among `count` tracklets and return them as int64."""
    query_rows = np.asarray(query_rows)
    in_range = np.isin(query_rows, np.arange(count)).all()
    if query_rows.ndim != 1 or query_rows.dtype == bool or not in_range:
        raise ValueError(f"`query_rows` are row numbers from 0 to {count - 1}. Received: query_rows={query_rows}")
    query_rows = query_rows.astype(np.int64)
    rows, times = np.unique(query_rows, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"Name each query once. Received: query_rows with {rows[times > 1].tolist()[:5]} repeated")
    return query_rows


def check_ids(ids: ArrayLike) -> None:
    """Raise if an id occurs more than once."""
    unique, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise ValueError(
            f"Each tracklet needs its own id; rename one. Received: ids with {unique[times > 1].tolist()[:5]} repeated"
        )


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write a `.npz` file, whole or not at all."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomically(path, content.getbuffer())


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read all arrays of a `.npz` file."""
    check_unpacked_size(path)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def joined(records: Sequence[TrackletEmbeddings]) -> TrackletEmbeddings:
    """Return the rows of several records of one model in one.

    Args:
        records: at least one `TrackletEmbeddings`; model, metric and passport are those of the first.

    Returns:
        A `TrackletEmbeddings` without queries.
    """
    fields: dict[str, Any] = {name: np.concatenate([getattr(record, name) for record in records]) for name in _ROWS}
    fields["tags"] = tuple(own for record in records for own in record.tags)
    return dataclasses.replace(records[0], query_rows=np.zeros(0, np.int64), **fields)
