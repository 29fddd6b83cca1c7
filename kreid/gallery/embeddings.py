"""Embeddings of a data set in one file, made once, part by part, and read by whatever scores, searches or reports."""

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import shutil
import zipfile

import numpy as np
from tqdm import tqdm

from kreid._files import write_atomically
from kreid.data.damage import DamageLog

# Frames of a part: what an interruption costs at most.
_PART_FRAMES = 4096

_BROKEN = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, eq=False)
class TrackletEmbeddings:
    """Embeddings of tracklets with what is needed to search among them. Plain arrays, in a `.npz` file.

    Args:
        embeddings: float32 `(tracklets, features)`.
        ids: str `(tracklets,)`, no two the same.
        persons: int64 `(tracklets,)`; 0 is a distractor, -1 junk.
        cameras: int64 `(tracklets,)`.
        query_rows: int64, the rows that are queries, each once.
        metric: `"euclidean"` or `"cosine"`.
        model: digest of the model, see `model_digest`; the empty string if it is not known.
        data: digest of the list of tracklets that was embedded.
        damaged_frames: str, frames that could not be read.
        unreadable: str, ids of the tracklets left out, of which no frame could be read.

    Raises:
        ValueError: if sizes do not fit, an id or a query occurs twice, or the metric is unknown.

    Example:

    >>> found = TrackletEmbeddings([[0.0], [0.1], [0.2]], ["a", "b", "c"], [7, 9, 7], [1, 2, 2], query_rows=[0])
    >>> len(found), kreid.evaluation.evaluate_test(*found.test)["standard"].cmc[5]
    (3, 1.0)
    """

    embeddings: np.ndarray
    ids: np.ndarray
    persons: np.ndarray
    cameras: np.ndarray
    query_rows: np.ndarray = ()
    metric: str = "euclidean"
    model: str = ""
    data: str = ""
    damaged_frames: np.ndarray = ()
    unreadable: np.ndarray = ()

    def __post_init__(self):
        kinds = {"embeddings": np.float32, "ids": np.str_, "damaged_frames": np.str_, "unreadable": np.str_}
        kinds |= dict.fromkeys(("persons", "cameras", "query_rows"), np.int64)
        for name, kind in kinds.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), kind))
        count = len(self.embeddings)
        if self.embeddings.ndim != 2 or any(len(values) != count for values in (self.ids, self.persons, self.cameras)):
            raise ValueError(
                "Give one id, person and camera for each row of `embeddings`. Received: "
                f"embeddings.shape={self.embeddings.shape}, {len(self.ids)} ids, {len(self.persons)} persons, "
                f"{len(self.cameras)} cameras"
            )
        _check_ids(self.ids)
        checked_query_rows(self.query_rows, count)
        if self.metric not in ("euclidean", "cosine"):
            raise ValueError(f"The metric is 'euclidean' or 'cosine'. Received: metric={self.metric!r}")

    def __len__(self):
        return len(self.embeddings)

    @property
    def test(self):
        """The arguments of `evaluate_test` and `evaluate_reranked`, in their order."""
        return self.embeddings, self.persons, self.cameras, self.query_rows, self.metric

    def save(self, path):
        """Writes the file, whole or not at all.

        Args:
            path: of the `.npz` file; its folder exists.
        """
        _write(path, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    def damage_report(self):
        """What could not be read, as `DamageLog.report` says it."""
        damage = DamageLog()
        damage.add(self.damaged_frames.tolist(), self.unreadable.tolist())
        return damage.report()

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Args:
            path: of the file.

        Returns:
            A `TrackletEmbeddings`.

        Raises:
            FileNotFoundError: if there is no file.
            ValueError: if it is no such file.
        """
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"There is no file of embeddings. Received: path={str(path)!r}")
        try:
            arrays = _read(path)
            texts = {name: arrays.pop(name).item() for name in ("metric", "model", "data")}
            return cls(**arrays, **texts)
        except _BROKEN as error:
            raise ValueError(
                f"The file holds no embeddings that `TrackletEmbeddings.save` wrote: {error}. "
                f"Received: path={str(path)!r}"
            ) from error


def embed_to_file(model, tracklets, path, *, query_rows=(), batch_frames=256, max_damaged=0.05, progress=True):
    """Embeds tracklets into a file. One that is there already, by the same model of the same tracklets, is read.

    The work is done in parts, which are kept beside the file, in `PATH.partial`, until all are there: the same call
    continues after an interruption, and gives what an uninterrupted one would have. The same tracklets are those of
    the same ids, persons, cameras and frame files; of each one's first file, size and date must be the same too.

    Args:
        model: a model of `kreid.models`.
        tracklets: sequence of `Tracklet`.
        path: of the `.npz` file; its folder exists.
        query_rows: the tracklets that are queries, by number.
        batch_frames: see `embed_tracklets`.
        max_damaged: see `embed_tracklets`.
        progress: show a progress bar.

    Returns:
        A `TrackletEmbeddings`. A tracklet without a readable frame is left out.

    Raises:
        ValueError: if there is nothing to embed, two tracklets have one id, too much is damaged, or the file is
            something else.
    """
    from kreid.gallery.embed import embed_tracklets

    tracklets, path = tuple(tracklets), pathlib.Path(path)
    if not tracklets:
        raise ValueError("There is nothing to embed. Received: tracklets=()")
    _check_ids([tracklet.id for tracklet in tracklets])
    made_by, made_of = model_digest(model), _data_digest(tracklets, query_rows)
    if path.exists():
        found = TrackletEmbeddings.load(path)
        if (found.model, found.data) == (made_by, made_of):
            return found

    partial = path.with_name(f"{path.name}.partial")
    partial.mkdir(exist_ok=True)
    mark = hashlib.sha256(f"{made_by} {made_of} {batch_frames}".encode()).hexdigest()[:16]
    for file in partial.iterdir():
        if not file.name.startswith(mark):
            file.unlink()  # Of another model, or other data.

    lengths = [len(model.selection.positions(len(tracklet))) for tracklet in tracklets]
    embeddings = np.zeros((len(tracklets), model.embedding_dim), np.float32)
    done = np.zeros(len(tracklets), bool)
    damage, tried = DamageLog(max_damaged), sum(lengths)
    with tqdm(total=len(tracklets), desc="embedding", unit=" tracklets", disable=not progress) as bar:
        for number, rows in enumerate(_parts(lengths)):
            file = partial / f"{mark}_{number:05}.npz"
            part = _kept_part(file)
            if part is None:
                chosen = [tracklets[row] for row in rows]
                # The share that may be damaged is one of the whole.
                embedded = embed_tracklets(model, chosen, batch_frames=batch_frames, max_damaged=1.0, progress=False)
                part = {
                    "rows": rows[embedded.rows],
                    "embeddings": embedded.embeddings,
                    "damaged_frames": np.array(list(embedded.damage.counts), np.str_),
                    "unreadable": np.array(embedded.damage.tracklets, np.str_),
                    # A tracklet with damage is read whole, beyond what was selected.
                    "beyond": np.int64(max(0, embedded.damage.tried - sum(lengths[row] for row in rows))),
                }
                _write(file, part)
            embeddings[part["rows"]] = part["embeddings"]
            done[part["rows"]] = True
            tried += int(part["beyond"])
            damage.add(part["damaged_frames"].tolist(), part["unreadable"].tolist(), tried)
            damage.check()
            bar.update(len(rows))

    kept = np.flatnonzero(done)
    place = {int(row): number for number, row in enumerate(kept)}
    found = TrackletEmbeddings(
        embeddings[kept],
        [tracklets[row].id for row in kept],
        [tracklets[row].person for row in kept],
        [tracklets[row].camera for row in kept],
        [place[row] for row in query_rows if row in place],
        model.metric,
        made_by,
        made_of,
        sorted(damage.counts),
        damage.tracklets,
    )
    found.save(path)
    shutil.rmtree(partial)
    return found


def checked_query_rows(query_rows, count):
    """Returns int64 numbers of queries among `count` tracklets, once they are found in order."""
    query_rows = np.asarray(query_rows)
    in_range = np.isin(query_rows, np.arange(count)).all()
    if query_rows.ndim != 1 or query_rows.dtype == bool or not in_range:
        raise ValueError(f"`query_rows` are row numbers from 0 to {count - 1}. Received: query_rows={query_rows}")
    query_rows = query_rows.astype(np.int64)
    rows, times = np.unique(query_rows, return_counts=True)
    if (times > 1).any():
        raise ValueError(f"A query counts once. Received: query_rows with {rows[times > 1].tolist()[:5]} repeated")
    return query_rows


def _check_ids(ids):
    ids, times = np.unique(ids, return_counts=True)
    if (times > 1).any():
        raise ValueError(
            f"Each tracklet needs an id of its own. Received: {ids[times > 1].tolist()[:5]} more than once"
        )


def model_digest(model):
    """What tells a model from every other: a digest of its class, settings and weights.

    Args:
        model: a model of `kreid.models`.

    Returns:
        A str of 64 hexadecimal digits.
    """
    settings = json.dumps([type(model).__name__, model.get_config()], sort_keys=True, default=str)
    digest = hashlib.sha256(settings.encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _data_digest(tracklets, query_rows):
    digest = hashlib.sha256(json.dumps([int(row) for row in query_rows]).encode())
    for tracklet in tracklets:
        seen = [tracklet.id, tracklet.person, tracklet.camera, *tracklet.frames]
        try:
            found = os.stat(tracklet.frames[0])
            seen += [found.st_size, found.st_mtime_ns]
        except OSError:
            seen.append("unreadable")
        digest.update(json.dumps(seen).encode())
    return digest.hexdigest()


def _parts(lengths):
    """Yields the rows of each part; tracklets of similar length together, the longest first, as batches are."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    parts = np.cumsum(np.asarray(lengths)[order]) // _PART_FRAMES
    yield from np.split(order, np.flatnonzero(np.diff(parts)) + 1)


def _kept_part(file):
    if not file.exists():
        return None
    try:
        return _read(file)
    except _BROKEN:  # Cut short with the machine.
        return None


def _write(path, arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_atomically(path, content.getbuffer())


def _read(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
