"""A gallery in a folder on the disk: durable, for several processes."""

import contextlib
import datetime
import errno
import fcntl
import functools
import json
import os
import pathlib
import threading
import time
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

import kreid
from kreid._files import replacing, sync, write_atomically
from kreid.gallery import arrow
from kreid.gallery.audit import AuditLog
from kreid.gallery.compressed_index import (
    MIN_TRACKLETS,
    MOST,
    NEAREST,
    PER_RESULT,
    CompressedIndex,
    IndexReport,
    codes_of,
    directions,
    find_by_index,
    import_faiss,
    learn_codebooks,
    recall_of,
    rows_to_draw,
)
from kreid.gallery.embeddings import TrackletEmbeddings
from kreid.gallery.gallery import (
    Gallery,
    GalleryBusyError,
    GalleryDamagedError,
    Result,
    Verification,
    checked_keep_days,
)
from kreid.gallery.gallery_model import GalleryModel
from kreid.gallery.nearest import Match
from kreid.gallery.parts import Part, SomeRows
from kreid.gallery.where import Where

if typing.TYPE_CHECKING:
    import lance
    import pyarrow as pa

# The newest format of the folder that this version reads, and the one that it writes.
_FORMAT = 1
_ABOUT, _TABLE, _LOG, _LOCK = "gallery.json", "tracklets.lance", "audit.jsonl", "lock"
_INDEX = "index.npz"
# Tracklets of a file: a damaged one costs no more, and merging small files writes no more anew.
_FILE_ROWS = 1 << 16
# Files of less than half of that are merged when they fill a file, or are so many: each costs a search some time.
_SMALL_FILES = 64
# Values of a batch of embeddings that is read: of a whole file, for embeddings of 512.
_BATCH = 1 << 25
# Of embeddings in memory.
CACHE_BYTES = 1 << 30
_READ_ATTEMPTS = 20
# The least depth of a search by an index is a share of 1 / this, which costs little and finds more.
_SHARE = 1 << 14
# Of an index, whose tracklets may be deleted meanwhile, and its recall by default.
_BUILDS, _RECALL = 3, 0.98
_SECONDS_BETWEEN_TRIES = 0.02
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


class LanceGallery(Gallery):
    """A gallery in a folder, in Lance's columnar format, which LanceDB reads too.

    The folder holds `gallery.json` (format, model and `keep_days`), `tracklets.lance` (the embeddings and labels) and
    `audit.jsonl` (each request: who, what and when, without embeddings). A search is exact, unless there is an index.
    It keeps embeddings in memory, up to `cache_bytes`, and reads others in parts, so that a gallery may be larger than
    the memory. Deleted embeddings leave the memory of this object with the deletion, and that of other processes with
    their next request.

    What `add` and `delete` return is on the disk: a process that is killed leaves all or nothing of a call. Any number
    of processes and threads may read, also while one writes; a second writer waits.

    A damaged file costs its tracklets: a search warns and answers from the others, and no damaged tracklet is found;
    `verify` names them.

    `make_index` makes an approximate index, for galleries in which a search of all tracklets is too slow. It is a
    request of the gallery's owner and not of each search: from then on, searches without conditions use it in all
    processes, but for `search(..., exact=True)`. `index` has its measured recall.

    Use `LanceGallery.create` and `LanceGallery.open`.

    Raises:
        ImportError: without the package `pylance`.

    Example:

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "hall")
    >>> walks = kreid.gallery.TrackletEmbeddings([[0.0], [0.1], [5.0]], ["a", "b", "c"], [7, 7, 9], [1, 2, 2])
    >>> gallery = kreid.gallery.LanceGallery.create(path, kreid.gallery.GalleryModel.of(walks))
    >>> gallery.add(walks)
    Added(added=3, unchanged=0, junk=0)
    >>> gallery = kreid.gallery.LanceGallery.open(path)
    >>> [match.person for match in gallery.search(walks.take([0]), by_person=True)]
    [7, 9]
    >>> gallery.delete({"persons": [7]})
    2
    >>> gallery.compact()
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        who: str | None = None,
        wait: float = 60.0,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._path = pathlib.Path(path)
        about = _read_about(self._path)
        import_lance()
        super().__init__(GalleryModel(**about["model"]), about["keep_days"])
        self._about, self._wait = about, wait
        self.log = AuditLog(self._path / _LOG, who)
        self._uri = str((self._path / _TABLE).absolute())
        self._columns = arrow.schema(self.model.dimension)
        self._thread_lock, self._depth = threading.RLock(), 0
        self._cache_bytes, self._memory_lock = cache_bytes, threading.Lock()
        self._memory: dict[tuple[str, str], list[arrow.ArrowPart]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._warned: set[str] = set()
        self._warned_of_faiss = False
        self._suspects: set[str] = set()
        # For a file that is damaged, and for none, the index is `None`.
        self._index: tuple[tuple[int, ...] | None, CompressedIndex | None] = (None, None)
        self._stored: dict[tuple[str, str], _StoredRows] = {}
        # For reading alone: a change moves its dataset to the new version.
        self._opened = self._dataset()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: GalleryModel,
        keep_days: float | None = None,
        who: str | None = None,
        wait: float = 60.0,
        cache_bytes: int = CACHE_BYTES,
    ) -> "LanceGallery":
        """Make an empty gallery.

        Args:
            path: of the new folder, in an existing one.
            model: a `GalleryModel`.
            keep_days: see `Gallery`.
            who: see `open`.
            wait: see `open`.
            cache_bytes: see `open`.

        Returns:
            A `LanceGallery`.

        Raises:
            FileExistsError: if there is a file, or a folder with content.
            FileNotFoundError: if the folder that it would be in does not exist.
            ValueError: if `keep_days` is not a positive number.
        """
        path = pathlib.Path(path)
        import_lance()
        import lance

        if not path.absolute().parent.is_dir():
            raise FileNotFoundError(f"Make the folder of the gallery's folder first. Received: path={str(path)!r}")
        exists = FileExistsError(f"A new gallery is a new folder. Received: path={str(path)!r}, which exists")
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise exists
        about = {
            "format": _FORMAT,
            "model": model.to_dict(),
            "keep_days": checked_keep_days(keep_days),
            "kreid": kreid.__version__,
        }
        try:
            with replacing(path) as temporary:
                # Embeddings are as private as photographs.
                temporary.mkdir(mode=0o700)
                empty = arrow.schema(model.dimension).empty_table()
                lance.write_dataset(empty, str(temporary / _TABLE), mode="create")
                write_atomically(temporary / _ABOUT, json.dumps(about, indent=2))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise exists from error  # Another process made one in the meantime.
        return cls(path, who, wait, cache_bytes)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        who: str | None = None,
        wait: float = 60.0,
        cache_bytes: int = CACHE_BYTES,
    ) -> "LanceGallery":
        """Open a gallery.

        Args:
            path: of its folder.
            who: who asks, for the log; by default the user and the machine.
            wait: seconds to wait for another writer.
            cache_bytes: of embeddings to keep in memory once they were read; the others are read at each search.

        Returns:
            A `LanceGallery`.

        Raises:
            FileNotFoundError: if there is no folder.
            ValueError: if the folder is no gallery, a newer kreid made it, or its description or list of files is
                damaged.
        """
        return cls(path, who, wait, cache_bytes)

    def set_keep_days(self, keep_days: float | None) -> None:
        """Change how long tracklets are kept. Processes that have the gallery open see it when they open it again.

        Args:
            keep_days: see `Gallery`.

        Raises:
            ValueError: if it is not a positive number.
        """
        checked = checked_keep_days(keep_days)
        with self._writing():
            self._log("set_keep_days", keep_days=checked)
            self._about = {**_read_about(self._path), "keep_days": checked}
            write_atomically(self._path / _ABOUT, json.dumps(self._about, indent=2))
            self._keep_days = checked

    @property
    def damaged_files(self) -> tuple[str, ...]:
        # Without those that `verify --drop` or a compaction has removed.
        current = {_file_name(fragment) for fragment in self._dataset().get_fragments()} if self._warned else set()
        index = {_INDEX} if self._index_stamp() and not self._current_index() else set()
        return tuple(sorted(self._warned & current | index))

    @property
    def index(self) -> IndexReport | None:
        index = self._current_index()
        return None if index is None else index.report

    def make_index(self, recall: float = _RECALL) -> IndexReport:
        """Make an approximate index, or make it anew, for searches that compare the likely tracklets alone.

        The file `index.npz` gets a short code of each embedding, of 4 bits for each four values (product quantisation).
        A search scans the codes, by FAISS, and compares the tracklets of the nearest ones exactly: so many that the 10
        nearest tracklets of an exact search are found as often as `recall` says; this is measured, with tracklets of
        the gallery as queries. Tracklets that are added later are compared in each search, until the index is made
        anew. A search with conditions (`where`, `other_cameras`, `by_person`) leaves the index aside: nothing is
        measured for these. So does one in a process without FAISS, with a warning.

        Others may search, add and delete meanwhile. A process that is killed leaves the gallery as it was.

        Args:
            recall: share of the nearest tracklets to find, above 0 and up to 1.

        Returns:
            An `IndexReport` with the recall that was measured.

        Raises:
            ImportError: without the package `faiss-cpu`.
            ValueError: if the gallery has fewer than 256 tracklets, or the recall is not reached by comparing a quarter
                of them: then all are better compared. An older index stays.

        Example:

        >>> import tempfile
        >>> random = np.random.default_rng(0)
        >>> vectors = random.normal(size=(50, 8)).repeat(20, axis=0) + 0.1 * random.normal(size=(1000, 8))
        >>> walks = kreid.gallery.TrackletEmbeddings(
        ...     vectors, [f"t{row}" for row in range(1000)], [1 + row // 20 for row in range(1000)], [1] * 1000
        ... )
        >>> path = os.path.join(tempfile.mkdtemp(), "hall")
        >>> gallery = kreid.gallery.LanceGallery.create(path, kreid.gallery.GalleryModel.of(walks))
        >>> gallery.add(walks)
        Added(added=1000, unchanged=0, junk=0)
        >>> gallery.make_index(recall=0.95).recall >= 0.95
        True
        >>> [gallery.search(walks.take([0]), 1, exact=exact)[0].person for exact in (False, True)]
        [1, 1]
        """
        if isinstance(recall, bool) or not isinstance(recall, (int, float)) or not 0 < recall <= 1:
            raise ValueError(f"A recall is a number above 0 and up to 1. Received: recall={recall!r}")
        import_faiss()
        self._log("make_index", recall=recall)
        for _ in range(_BUILDS):
            index, learnt = self._read(lambda: self._built_index(float(recall)))
            with self._writing():
                # Codes are learnt from embeddings: not from a deleted one, or from one that has no code.
                if np.isin(learnt, index.digests).all() and np.isin(index.digests, self._live_digests()).all():
                    index.save(self._path / _INDEX)
                    return index.report
        raise GalleryBusyError(
            f"Others delete tracklets all the time, which the index may not be made from; try again. Received: "
            f"path={str(self._path)!r}"
        )

    def remove_index(self) -> None:
        """Remove the index: searches compare all tracklets again."""
        with self._writing():
            self._log("remove_index")
            self._unlink_index()

    def asked_by(self, who: str) -> contextlib.AbstractContextManager[None]:
        return self.log.asked_by(who)

    def verify(self, drop: bool = False) -> Verification:
        if not drop:
            return self._read(lambda: self._verified()[0])
        import lance

        with self._writing():
            result, lost = self._verified()
            self._log("drop_damaged", damaged=list(result.damaged), lost=result.lost, lost_ids=list(result.lost_ids))
            if lost:
                operation = lance.LanceOperation.Delete([], lost, "damaged")
                self._change(
                    lambda dataset: lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)
                )
            if result.damaged:
                self._delete(Where(ids=result.damaged), None)
            if not result.is_whole:
                self._compact()
            if _INDEX in result.files:
                self._unlink_index()
        return result

    def compact(self) -> None:
        """Delete tracklets past `keep_days`, and leave no byte of a deleted embedding.

        A damaged file that has a deleted tracklet stays as it is, with a warning, until `verify` drops it.

        An index that has a deleted tracklet's code, or is damaged, is removed, as all its codes are learnt from
        embeddings; then it is made anew from the tracklets that are left. If that fails, a warning says so.
        """
        with self._writing():
            self._log("compact")
            self._delete_expired()
            index, had_index = self._current_index(), self._index_stamp() is not None
            outdated = had_index and (index is None or not np.isin(index.digests, self._live_digests()).all())
            try:
                self._compact()
            except GalleryDamagedError:
                self._change(self._rewrite_readable)
                self._clean_up()
            if outdated:
                self._unlink_index()
            for left in self._path.glob(".writing-*"):  # By a killed process: nobody else writes.
                left.unlink()
        if not outdated:
            return
        try:
            self.make_index(index.report.target if index else _RECALL)
        except (ImportError, OSError, ValueError) as error:
            warnings.warn(
                f"The gallery is compacted, and has no index any more: searches compare all tracklets. {error}",
                stacklevel=2,
            )

    def _compact(self) -> None:
        def rewrite(dataset: "lance.LanceDataset") -> None:
            # The smallest share of deleted rows, too: by default Lance keeps the bytes of up to a tenth.
            dataset.optimize.compact_files(target_rows_per_fragment=_FILE_ROWS, materialize_deletions_threshold=0.0)

        self._change(rewrite)
        self._clean_up()

    def _clean_up(self) -> None:
        # Nobody else writes, so that files of no version are what a killed process left.
        self._dataset().cleanup_old_versions(datetime.timedelta(0), delete_unverified=True)

    def _verified(self) -> tuple[Verification, list[int]]:
        """Return the result, and the numbers of the fragments that cannot be read."""
        import pyarrow as pa

        dataset = self._dataset()
        intact, lost = 0, 0
        damaged: list[str] = []
        lost_ids: list[str] = []
        files: list[str] = []
        fragments: list[int] = []
        for fragment in dataset.get_fragments():
            own: list[str] = []
            rows = 0
            try:
                for batch in self._batches(fragment, self._columns.names, None):
                    own += batch.filter(pa.array(~arrow.intact(batch))).column("id").to_pylist()
                    rows += len(batch)
            except BaseException as error:
                if not _is_damage(error):
                    raise
                self._raise_if_moved(dataset)
                lost += _rows(fragment)
                lost_ids += _readable_ids(fragment)
                fragments.append(fragment.fragment_id)
                files.append(_file_name(fragment))
                continue
            intact += rows - len(own)
            damaged += own
            files += [_file_name(fragment)] if own else []
        files += [_INDEX] if self._index_stamp() and not self._current_index() else []
        return Verification(intact, tuple(damaged), lost, tuple(lost_ids), tuple(files)), fragments

    def _parts(self, where: Where, added_after: float | None, labels_only: bool = False) -> Iterator[Part]:
        columns = list(arrow.LABELS) if labels_only else self._columns.names
        for fragment in self._fragments():
            with self._leaving_out_damage(fragment):
                kept = self._kept_in_memory(fragment, may_read=not labels_only)
                if kept is None:
                    for batch in self._batches(fragment, columns, sql(where, added_after=added_after)):
                        yield self._part(fragment, batch)
                    continue
                for part in kept:
                    if where or added_after is not None:
                        yield SomeRows(part, np.flatnonzero(part.mask(where, added_after)))
                    else:
                        yield part

    def _fragments(self) -> "list[lance.LanceFragment]":
        """Return the files of the newest version."""
        dataset = self._opened
        if dataset.latest_version != dataset.version:
            self._opened = dataset = self._dataset()
        fragments = dataset.get_fragments()
        self._forget_others(fragments)
        return fragments

    @contextlib.contextmanager
    def _leaving_out_damage(self, fragment: "lance.LanceFragment") -> Iterator[None]:
        """Warn of a file that cannot be read, or read again if it is of an older version."""
        dataset = self._opened
        try:
            yield
        except BaseException as error:
            if not _is_damage(error):
                raise
            self._raise_if_moved(dataset)
            self._warn(fragment, _rows(fragment))

    def _find_near(
        self,
        queries: TrackletEmbeddings,
        count: int,
        limit: float | None,
        other_cameras: bool,
        by_person: bool,
        where: Where,
    ) -> list[list[Match]]:
        index = self._current_index()
        find_all = functools.partial(
            self._find, count=count, limit=limit, other_cameras=other_cameras, by_person=by_person, where=where
        )
        if index is None or other_cameras or by_person or where:
            return find_all(queries)
        try:
            found = self._find_by_index(index, queries, count, limit)
        except ImportError as error:
            if not self._warned_of_faiss:
                self._warned_of_faiss = True
                warnings.warn(f"Searches compare all tracklets. {error}", stacklevel=2)
            return find_all(queries)
        except BaseException as error:
            if not _is_damage(error):
                raise
            # A file cannot be read, or is of an older version: a search of all tells these apart.
            return find_all(queries)
        left = [row for row, matches in enumerate(found) if matches is None]
        exact = iter(find_all(queries.take(left)) if left else [])
        return [next(exact) if matches is None else matches for matches in found]

    def _find_by_index(
        self, index: CompressedIndex, queries: TrackletEmbeddings, count: int, limit: float | None
    ) -> list[list[Match] | None]:
        """Return the matches of each query by an index, `None` where an exact search is better."""
        if not len(queries):
            return []
        return find_by_index(index, list(self._sources()), queries, count, limit, self._expiry())

    def _sources(self) -> Iterator["arrow.ArrowPart | _StoredRows"]:
        """Yield all tracklets, those that are not in memory as rows to be read."""
        for fragment in self._fragments():
            with self._leaving_out_damage(fragment):
                kept = self._kept_in_memory(fragment, may_read=True)
                yield from kept if kept is not None else [self._stored_rows(fragment)]

    def _stored_rows(self, fragment: "lance.LanceFragment") -> "_StoredRows":
        key = _memory_key(fragment)
        stored = self._stored.get(key)
        if stored is None:
            batches = self._batches(fragment, ["digest"], None)
            digests = [arrow.digest_numbers(batch.column("digest")) for batch in batches]
            stored = _StoredRows(self, fragment, np.concatenate(digests) if digests else np.zeros(0, np.uint64))
            with self._memory_lock:
                self._stored[key] = stored
        return stored

    def _built_index(self, target: float) -> tuple[CompressedIndex, np.ndarray]:
        """Return an index as deep as the recall asks for, and the digests of those that its codes are learnt from."""
        total = sum(len(part.persons) for part in self._parts(Where(), None, labels_only=True))
        if total < MIN_TRACKLETS:
            raise ValueError(
                f"A gallery with an index has at least {MIN_TRACKLETS} tracklets: a search compares all of so few at "
                f"once. Received: {total} tracklets in path={str(self._path)!r}"
            )
        measured, learnt = rows_to_draw(total, np.random.default_rng(0))
        queries, _ = self._drawn(measured)
        examples, known = self._drawn(learnt)
        metric = self.model.metric
        codebooks = learn_codebooks(directions(examples.embeddings, metric))
        del examples
        digests, codes = [], []
        for part in self._parts(Where(), None):
            assert isinstance(part, arrow.ArrowPart)
            vectors = directions(part.vectors(slice(None)), metric)
            finite = np.isfinite(part.squares)
            digests.append(part.digests[finite])
            codes.append(codes_of(codebooks, vectors[finite]))
        own = np.concatenate(digests)
        exact = self._find(queries, NEAREST, None, False, False, Where())
        index = CompressedIndex(codebooks, np.concatenate(codes), own, IndexReport(0.0, target, 1, len(own)))
        compared, recall = max(PER_RESULT * NEAREST, total // _SHARE), 0.0
        while MOST * compared <= total:
            index = index.with_compared(compared, recall)
            found = self._find_by_index(index, queries, NEAREST, None)
            recall = recall_of([matches or [] for matches in found], exact)
            if recall >= target:
                return index.with_compared(compared, recall), known
            compared += compared // 2
        raise ValueError(
            f"An index would not make searches faster: when it compares a quarter of the tracklets, it finds "
            f"{recall:.3f} of the {NEAREST} nearest. Leave it out, or ask for a lower recall. Received: recall={target}"
        )

    def _drawn(self, rows: np.ndarray) -> tuple[TrackletEmbeddings, np.ndarray]:
        """Return tracklets by their number, rising, and their digests."""
        first, records, digests = 0, [], []
        for part in self._parts(Where(), None):
            assert isinstance(part, arrow.ArrowPart)
            last = first + len(part.persons)
            own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)] - first
            records.append(part.take(own))
            digests.append(part.digests[own])
            first = last
        return self._joined(iter(records)), np.concatenate(digests)

    def _live_digests(self) -> np.ndarray:
        """Return the digests of all tracklets that can be read."""
        digests = [np.zeros(0, np.uint64)]
        for fragment in self._fragments():
            with self._leaving_out_damage(fragment):
                batches = self._batches(fragment, ["digest"], None)
                digests += [arrow.digest_numbers(batch.column("digest")) for batch in batches]
        return np.concatenate(digests)

    def _index_stamp(self) -> tuple[int, ...] | None:
        """Return what changes with the index's file, `None` if there is none."""
        try:
            state = os.stat(self._path / _INDEX)
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns

    def _current_index(self) -> CompressedIndex | None:
        """Return the index; `None` if there is none, or, with a warning, if it is damaged."""
        stamp = self._index_stamp()
        if stamp != self._index[0]:
            index = None
            try:
                index = stamp and CompressedIndex.load(self._path / _INDEX, self.model.dimension)
            except FileNotFoundError:
                stamp = None
            except ValueError as error:
                warnings.warn(
                    f"Searches compare all tracklets: `kreid gallery index` makes the index anew. {error}", stacklevel=2
                )
            self._index = stamp, index or None
        return self._index[1]

    def _unlink_index(self) -> None:
        (self._path / _INDEX).unlink(missing_ok=True)
        sync(self._path)
        self._index = None, None

    def _kept_in_memory(self, fragment: "lance.LanceFragment", may_read: bool) -> list[arrow.ArrowPart] | None:
        """Return the tracklets of a file from memory, read into it if there is room."""
        key = _memory_key(fragment)
        with self._memory_lock:
            if key in self._memory:
                return self._memory[key]
            size = 4 * self.model.dimension * _rows(fragment)
            if not may_read or size + sum(self._sizes.values()) > self._cache_bytes:
                return None
        batches = self._batches(fragment, self._columns.names, None)
        parts = [self._part(fragment, batch, in_memory=True) for batch in batches]
        with self._memory_lock:
            self._memory[key], self._sizes[key] = parts, size
        return parts

    def _forget_others(self, fragments: "list[lance.LanceFragment]") -> None:
        """Drop from memory what is no longer in the gallery."""
        keys = {_memory_key(fragment) for fragment in fragments}
        with self._memory_lock:
            for key in self._memory.keys() - keys:
                del self._memory[key], self._sizes[key]
            for key in self._stored.keys() - keys:
                del self._stored[key]
        if self._index_stamp() != self._index[0]:
            self._index = None, None

    def _part(
        self, fragment: "lance.LanceFragment", batch: "pa.RecordBatch", in_memory: bool = False
    ) -> arrow.ArrowPart:
        import pyarrow as pa

        name = _file_name(fragment)

        def read_again() -> NoReturn:
            # A search checks only the tracklets that it finds. Once one is damaged, it checks all of the file.
            self._suspects.add(name)
            with self._memory_lock:
                for key in [key for key in self._memory if key[0] == name]:
                    del self._memory[key], self._sizes[key]
            raise _AgainError

        if name in self._suspects and "digest" in batch.schema.names:
            good = arrow.intact(batch)
            if not good.all():
                self._warn(fragment, int((~good).sum()))
                batch = batch.filter(pa.array(good))
        return arrow.ArrowPart(batch, self.model, read_again, in_memory)

    def _batches(
        self, fragment: "lance.LanceFragment", columns: list[str], condition: str | None
    ) -> Iterator["pa.RecordBatch"]:
        batch_rows = max(1024, _BATCH // self.model.dimension)
        for batch in fragment.to_batches(columns=columns, filter=condition, batch_size=batch_rows):
            if len(batch):
                batch.validate(full=True)
                yield batch

    def _insert(self, embeddings: TrackletEmbeddings, added: np.ndarray) -> None:
        import lance

        table = arrow.to_table(embeddings, added)
        self._change(lambda dataset: lance.write_dataset(table, dataset, mode="append", max_rows_per_file=_FILE_ROWS))
        rows = [fragment.physical_rows for fragment in self._dataset().get_fragments()]
        small = [number for number in rows if 2 * number < _FILE_ROWS]
        if sum(small) >= _FILE_ROWS or len(small) > _SMALL_FILES:
            # The tracklets are added, whatever a damaged file or a full disk has against merging.
            with contextlib.suppress(OSError):
                self._compact()

    def _delete(self, where: Where, added_until: float | None) -> int:
        condition = sql(where, added_until=added_until) or "true"
        try:
            count = self._change(lambda dataset: dataset.delete(condition))["num_deleted_rows"]
        except GalleryDamagedError:
            count = self._change(lambda dataset: self._delete_from_readable(dataset, condition))
        self._forget_others(self._dataset().get_fragments())
        return count

    def _delete_from_readable(self, dataset: "lance.LanceDataset", condition: str) -> int:
        """Delete from the files that can be read, in one step, and return how many."""
        import lance

        changed, emptied, unreadable, count = [], [], [], 0
        for fragment in dataset.get_fragments():
            try:
                left = fragment.delete(condition)
            except BaseException as error:
                if not _is_damage(error) or _is_full(error):
                    raise
                unreadable.append(_file_name(fragment))
                continue
            if left is None:
                emptied.append(fragment.fragment_id)
                count += fragment.count_rows()
            elif left.num_deletions > fragment.num_deletions:
                changed.append(left)
                count += left.num_deletions - fragment.num_deletions
        if changed or emptied:
            operation = lance.LanceOperation.Delete(changed, emptied, condition)
            lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)
        self._warn_of_left(unreadable, "what was to be deleted")
        return count

    def _rewrite_readable(self, dataset: "lance.LanceDataset") -> None:
        """Write the files anew that have deleted rows and can be read."""
        import lance
        import pyarrow as pa

        emptied, written, unreadable = [], [], []
        for fragment in dataset.get_fragments():
            if not fragment.num_deletions:
                continue
            try:
                left = pa.Table.from_batches(self._batches(fragment, self._columns.names, None), self._columns)
            except BaseException as error:
                if not _is_damage(error) or _is_full(error):
                    raise
                unreadable.append(_file_name(fragment))
                continue
            emptied.append(fragment.fragment_id)
            written += lance.fragment.write_fragments(left, dataset, max_rows_per_file=_FILE_ROWS)
        if emptied:
            operation = lance.LanceOperation.Update(emptied, [], written)
            lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)
        self._warn_of_left(unreadable, "bytes of deleted embeddings")

    def _warn_of_left(self, names: list[str], content: str) -> None:
        """Log and warn of damaged files that may still have something."""
        self._warned.update(names)
        if names:
            self._log("left_in_damaged", files=names)
            warnings.warn(
                f"Damaged files cannot be changed and may still have {content}, which no search finds: `kreid gallery "
                f"verify --drop` removes these files. Received: path={str(self._path)!r}, files={names}",
                stacklevel=2,
            )

    def _log(self, action: str, **details: Any) -> None:
        self.log.append(action, **details)

    def _read(self, read: Callable[[], Result]) -> Result:
        for _ in range(_READ_ATTEMPTS):
            with contextlib.suppress(_AgainError):
                return read()
        raise GalleryBusyError(
            f"Others compact the gallery all the time; try again. Received: path={str(self._path)!r}"
        )

    def _dataset(self) -> "lance.LanceDataset":
        """Open the newest version of the table."""
        import lance

        try:
            return lance.dataset(self._uri)
        except BaseException as error:
            if not _is_damage(error):
                raise
            raise GalleryDamagedError(
                f"The gallery's list of files is damaged; make a new gallery, and import an export into it. Received: "
                f"path={str(self._path)!r}: {_short(error)}"
            ) from error

    def _raise_if_moved(self, dataset: "lance.LanceDataset") -> None:
        if self._dataset().version != dataset.version:
            raise _AgainError

    def _warn(self, fragment: "lance.LanceFragment", tracklets: int) -> None:
        """Warn of a damaged file, once."""
        name = _file_name(fragment)
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(
                f"{tracklets} tracklets of the gallery are damaged and left out; `kreid gallery verify` names them. "
                f"Received: path={str(self._path)!r}, file={name!r}",
                stacklevel=2,
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._thread_lock:
            if self._depth:
                yield
                return
            with self._lock_file():
                self._depth += 1
                try:
                    yield
                finally:
                    self._depth -= 1

    @contextlib.contextmanager
    def _lock_file(self) -> Iterator[None]:
        """Hold the lock of writers, which ends with the process."""
        file = os.open(self._path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            give_up = time.monotonic() + self._wait
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        raise GalleryBusyError(
                            f"Another process has been writing to this gallery for {self._wait} seconds; wait for it, "
                            f"and try again. Received: path={str(self._path)!r}"
                        ) from None
                    time.sleep(_SECONDS_BETWEEN_TRIES)
            yield
        finally:
            os.close(file)

    def _change(self, change: Callable[["lance.LanceDataset"], Result]) -> Result:
        """Run a function that changes the table, bring the change to the disk, or remove what it left."""
        dataset = self._dataset()
        before = set(self._files())
        try:
            result = change(dataset)
        except BaseException as error:
            if self._dataset().version == dataset.version:
                for path in set(self._files()) - before:
                    with contextlib.suppress(OSError):
                        path.unlink()
            if not _is_damage(error):
                raise
            if _is_full(error):
                raise OSError(
                    errno.ENOSPC,
                    f"The disk is full, so the gallery is unchanged; free some space and repeat the command. "
                    f"Received: path={str(self._path)!r}",
                ) from error
            raise GalleryDamagedError(
                f"A file of the gallery is damaged, so nothing was changed: `kreid gallery verify` names its "
                f"tracklets, and `kreid gallery verify --drop` removes them. Received: path={str(self._path)!r}: "
                f"{_short(error)}"
            ) from error
        _sync(set(self._files()) - before)
        return result

    def _files(self) -> Iterator[pathlib.Path]:
        for folder, _, names in os.walk(self._uri):
            yield from (pathlib.Path(folder, name) for name in names)


def import_lance() -> None:
    """Check that the package of the Lance format is installed.

    Raises:
        ImportError: if it is not, with the command that installs it.
    """
    arrow.import_arrow()
    try:
        import lance  # noqa: F401
    except ImportError as error:
        raise ImportError("Galleries on the disk need pylance: pip install 'kreid[gallery]'") from error


def sql(where: Where, added_after: float | None = None, added_until: float | None = None) -> str | None:
    """Return conditions in SQL, `None` if there are none.

    Args:
        where: conditions.
        added_after: seconds since 1970; added later.
        added_until: seconds since 1970; added then or earlier.

    Example:

    >>> print(sql(Where(cameras=[1, 2], tags={"coat": "Ann's"})))
    camera IN (1, 2) AND array_has(tags, 'coat=Ann''s')
    """
    parts = []
    lists = {"id": where.ids, "person": where.persons, "camera": where.cameras, "source": where.sources}
    for column, values in lists.items():
        if values is not None:
            parts.append(f"{column} IN ({', '.join(map(_literal, values))})" if values else "false")
    if where.not_cameras:
        parts.append(f"camera NOT IN ({', '.join(map(_literal, where.not_cameras))})")
    if where.since is not None:
        parts.append(f"`end` >= {where.since!r}")
    if where.until is not None:
        parts.append(f"start < {where.until!r}")
    for name, value in (where.tags or {}).items():
        # A name with "=" is none of a tag, and would look like another one's value.
        parts.append("false" if "=" in name else f"array_has(tags, {_literal(f'{name}={value}')})")
    if added_after is not None:
        parts.append(f"added > {added_after!r}")
    if added_until is not None:
        parts.append(f"added <= {added_until!r}")
    return " AND ".join(parts) or None


class _StoredRows:
    """Tracklets of a file that are read when a search by an index asks for them.

    Args:
        gallery: a `LanceGallery`.
        fragment: of the file.
        digests: uint64 `(tracklets,)`.
    """

    def __init__(self, gallery: LanceGallery, fragment: "lance.LanceFragment", digests: np.ndarray) -> None:
        self._gallery, self._fragment, self.digests = gallery, fragment, digests

    def chosen(self, rows: np.ndarray, added_after: float | None) -> tuple[arrow.ArrowPart, np.ndarray]:
        """Return those of some rows that were added later, read, and their numbers."""
        if added_after is not None:
            rows = rows[self._read(rows, list(arrow.LABELS)).added > added_after]
        part = self._read(rows, self._gallery._columns.names)
        return part, np.arange(len(part.persons))

    def _read(self, rows: np.ndarray, columns: list[str]) -> arrow.ArrowPart:
        table = self._fragment.take(rows.tolist(), columns=columns).combine_chunks()
        empty = table.schema.empty_table().to_batches()
        (batch,) = table.to_batches() or empty
        batch.validate(full=True)
        return self._gallery._part(self._fragment, batch)


class _AgainError(Exception):
    """What is read is to be read again: files of an older version are gone, or a damaged tracklet was found."""


def _literal(value: int | str) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    # The parser negates a number after reading it, and the smallest has no positive one.
    return str(value) if value > -(2**63) else f"({value + 1} - 1)"


def _read_about(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_dir():
        raise FileNotFoundError(f"There is no gallery in this place. Received: path={str(path)!r}")
    if not (path / _ABOUT).is_file():
        raise ValueError(f"This folder is no gallery: it has no {_ABOUT}. Received: path={str(path)!r}")
    try:
        about = json.loads((path / _ABOUT).read_text(encoding="utf-8"))
        if about["format"] <= _FORMAT:
            GalleryModel(**about["model"])
            checked_keep_days(about["keep_days"])
            return about
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"The gallery's {_ABOUT} is damaged: {error}. Received: path={str(path)!r}") from error
    raise ValueError(
        f"A newer kreid made this gallery: upgrade kreid. Received: path={str(path)!r} of format={about['format']}"
    )


def _is_damage(error: BaseException) -> bool:
    """Whether Lance or Arrow raised an error about a file; a file that breaks their promises may also panic."""
    if isinstance(error, (_AgainError, UnicodeEncodeError)):
        return False
    return isinstance(error, (OSError, ValueError, RuntimeError)) or type(error).__name__ == "PanicException"


def _is_full(error: BaseException) -> bool:
    return any(text in str(error) for text in _FULL)


def _short(error: BaseException) -> str:
    return str(error).partition(", /")[0][:200]


def _rows(fragment: "lance.LanceFragment") -> int:
    try:
        return fragment.count_rows()
    except BaseException as error:
        if not _is_damage(error):
            raise
        return fragment.physical_rows  # The list of deleted rows is damaged.


def _readable_ids(fragment: "lance.LanceFragment") -> list[str]:
    ids: list[str] = []
    try:
        for batch in fragment.to_batches(columns=["id"]):
            batch.validate(full=True)
            ids += batch.column("id").to_pylist()
    except BaseException as error:
        if not _is_damage(error):
            raise
    return ids


def _file_name(fragment: "lance.LanceFragment") -> str:
    """Return the file of a fragment; no column is added later, so that each has one."""
    return f"{_TABLE}/data/{fragment.data_files()[0].path}"


def _memory_key(fragment: "lance.LanceFragment") -> tuple[str, str]:
    """Return what stands for the content of a fragment: its file, and the list of its deleted rows."""
    return _file_name(fragment), str(fragment.deletion_file())


def _sync(paths: set[pathlib.Path]) -> None:
    """Bring files and the names of them to the disk, so that they outlast a loss of power."""
    for path in sorted(paths | {path.parent for path in paths}):
        with contextlib.suppress(FileNotFoundError):
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
