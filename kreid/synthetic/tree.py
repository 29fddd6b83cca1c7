"""Write rendered walkers in the layout of MARS: frames, lists of names, tables of tracklets, and queries."""

import contextlib
import json
import os
import struct
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from kreid._files import replacing, write_atomically
from kreid.synthetic import people, scene
from kreid.synthetic.cameras import CAMERAS

_STAMP = Path("info", "synthetic.json")
# Increased whenever the same settings give other pixels, so that an older rendering is not used as a new one.
_VERSION = 1
_QUALITY = 90
_FEWEST_CAMERAS = 2
_WITHOUT_IDENTITY = {"distractor": 0, "junk": -1}


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of a rendering; see `render_mars` for the meaning of each field."""

    train_persons: int = 200
    test_persons: int = 100
    distractors: int = 60
    junk: int = 30
    tracklets_per_camera: tuple[int, int] = (1, 3)
    frames_per_tracklet: tuple[int, int] = (8, 16)
    image_size: tuple[int, int] = (128, 64)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tracklets_per_camera", "frames_per_tracklet", "image_size"):
            pair = getattr(self, name)
            if not hasattr(pair, "__len__") or len(pair) != 2:
                raise ValueError(f"`{name}` must be two numbers. Received: {name}={pair!r}")
            object.__setattr__(self, name, tuple(int(v) for v in pair))
        for name in ("tracklets_per_camera", "frames_per_tracklet"):
            least, most = getattr(self, name)
            if not 1 <= least <= most <= 999:
                raise ValueError(f"`{name}` must be (least, most) from 1 to 999. Received: {name}={(least, most)}")
        if min(self.image_size) < 16:
            raise ValueError(
                f"`image_size` must be (height, width), both at least 16. Received: image_size={self.image_size}"
            )
        for name, least in (("train_persons", 1), ("test_persons", 1), ("distractors", 0), ("junk", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={getattr(self, name)}")
        if self.train_persons + self.test_persons > 9999 or max(self.distractors, self.junk) > 9999:
            raise ValueError(
                "MARS names have four digits: give at most 9999 persons in all, 9999 distractors and 9999 junk "
                f"tracklets. Received: train_persons={self.train_persons}, test_persons={self.test_persons}, "
                f"distractors={self.distractors}, junk={self.junk}"
            )


@dataclass(frozen=True)
class _Plan:
    """One tracklet to render, with the seeds of the person and of the passage."""

    split: str
    person: int
    camera: int
    number: int
    frames: int
    kind: str
    person_seed: tuple[int, ...]
    seed: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        person = "00-1" if self.person == -1 else f"{self.person:04d}"
        return [f"{person}C{self.camera}T{self.number:04d}F{f:03d}.jpg" for f in range(1, self.frames + 1)]


def render_mars(
    root: str | os.PathLike[str],
    *,
    train_persons: int = 200,
    test_persons: int = 100,
    distractors: int = 60,
    junk: int = 30,
    tracklets_per_camera: tuple[int, int] = (1, 3),
    frames_per_tracklet: tuple[int, int] = (8, 16),
    image_size: tuple[int, int] = (128, 64),
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> Path:
    """Render walkers in six cameras into a folder in the layout of MARS.

    Train and test persons differ. Every person appears in two to six cameras. The same settings give the same files,
    byte for byte, whatever `workers` is. The folder is written under a temporary name and renamed when complete.

    Args:
        root: missing or empty folder. A complete rendering of the same settings is used unchanged.
        train_persons: int, persons numbered from 1.
        test_persons: int, persons numbered after the train persons.
        distractors: int, test tracklets of person 0; half show a person without a query, half no person.
        junk: int, test tracklets of person -1: badly cut boxes around test persons.
        tracklets_per_camera: `(least, most)` tracklets of a person in each of its cameras.
        frames_per_tracklet: `(least, most)` frames of a tracklet.
        image_size: `(height, width)` of the frames.
        seed: int, 0 or more.
        workers: int, number of processes.
        progress: show a progress bar.

    Returns:
        `root` as a `pathlib.Path`.

    Raises:
        ValueError: if a setting is out of range.
        FileExistsError: if `root` has other content than a complete rendering of these settings.

    Example:

    >>> import tempfile
    >>> counts = {"train_persons": 1, "test_persons": 1, "distractors": 1, "junk": 1, "frames_per_tracklet": (2, 2)}
    >>> root = render_mars(f"{tempfile.mkdtemp()}/mars", **counts, image_size=(32, 16), progress=False)
    >>> sorted(path.name for path in root.iterdir())
    ['bbox_test', 'bbox_train', 'info']
    """
    config = SyntheticConfig(
        train_persons, test_persons, distractors, junk, tracklets_per_camera, frames_per_tracklet, image_size, seed
    )
    if workers < 1:
        raise ValueError(f"`workers` must be at least 1. Received: workers={workers}")
    root = Path(root)
    stamp = {"version": _VERSION, **asdict(config)}
    if _already_there(root, stamp):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with replacing(root) as work:
        work.mkdir()
        _write(work, config, stamp, workers, progress)
    return root


def visible_shares(root: str | os.PathLike[str], split: str = "test") -> dict[str, float]:
    """Return which share of the person in each frame's box is not behind other people or an obstacle.

    It is found by drawing the outlines of the frames again. How much of the person the box itself cuts off does not
    count, nor does blur.

    Args:
        root: folder that `render_mars` wrote.
        split: `"test"` or `"train"`.

    Returns:
        A dict of the frames' file names and floats from 0 to 1, 0 for boxes without a person.

    Raises:
        ValueError: for another split, or if the folder is not a rendering of this version of kreid.

    Example:

    >>> import tempfile
    >>> counts = {"train_persons": 1, "test_persons": 1, "distractors": 1, "junk": 1, "frames_per_tracklet": (2, 2)}
    >>> root = render_mars(f"{tempfile.mkdtemp()}/mars", **counts, image_size=(32, 16), progress=False)
    >>> shares = visible_shares(root, "train")
    >>> len(shares), max(shares.values()) <= 1
    (22, True)
    """
    if split not in ("test", "train"):
        raise ValueError(f"The split is 'test' or 'train'. Received: split={split!r}")
    stamp = _read_stamp(Path(root)) or {}
    if stamp.pop("version", None) != _VERSION:
        raise ValueError(
            f"Name a folder that `kreid synthetic` of this version has written. Received: root={os.fspath(root)!r}"
        )
    config = SyntheticConfig(**stamp)
    stage = scene.Stage(config.image_size, config.seed)
    shares: dict[str, float] = {}
    for plan in _plan(config)[0]:
        if plan.split == split:
            rng = np.random.default_rng(plan.seed)
            found = stage.visible_shares(_person(plan.person_seed), plan.camera, plan.frames, rng, plan.kind)
            shares.update(zip(plan.names, found, strict=True))
    return shares


def _read_stamp(root: Path) -> dict[str, Any] | None:
    """Return the settings of a rendering and its version, or `None`."""
    with contextlib.suppress(OSError, ValueError):
        stamp = json.loads((root / _STAMP).read_text(encoding="utf-8"))
        return stamp if isinstance(stamp, dict) else None
    return None


def _already_there(root: Path, stamp: Mapping[str, Any]) -> bool:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    existing = _read_stamp(root)
    if existing == json.loads(json.dumps(stamp)):
        return True
    content = "other content" if existing is None else f"a rendering of other settings: {existing}"
    raise FileExistsError(f"Give a new folder or remove this one; it has {content}. Received: root={root}")


def _write(work: Path, config: SyntheticConfig, stamp: Mapping[str, Any], workers: int, progress: bool) -> None:
    plans, queries = _plan(config)
    info = work / "info"
    info.mkdir()
    for split in ("train", "test"):
        for person in sorted({p.names[0][:4] for p in plans if p.split == split}):
            (work / f"bbox_{split}" / person).mkdir(parents=True)
        rows: list[tuple[int, ...]] = []
        names: list[str] = []
        for plan in plans:
            if plan.split == split:
                rows.append((len(names) + 1, len(names) + plan.frames, plan.person, plan.camera))
                names += plan.names
        write_atomically(info / f"{split}_name.txt", "".join(f"{name}\n" for name in names))
        _save_matrix(info / f"tracks_{split}_info.mat", f"track_{split}_info", np.array(rows, dtype=np.int32))
    _save_matrix(info / "query_IDX.mat", "query_IDX", np.array([queries], dtype=np.int32))
    _render_all(work, config, plans, workers, progress)
    write_atomically(work / _STAMP, json.dumps(stamp, indent=1) + "\n")


def _plan(config: SyntheticConfig) -> tuple[list[_Plan], list[int]]:
    """Return all tracklets in MARS's order (train persons, junk, distractors, test persons), and the query rows."""
    train = [p for person in range(config.train_persons) for p in _plan_person(config, "train", 1 + person, 0)]
    persons: list[_Plan] = []
    for person in range(config.test_persons):
        persons += _plan_person(config, "test", 1 + config.train_persons + person, 0)
    without_identity: list[_Plan] = []
    for kind, stream, count in (("junk", 2, config.junk), ("distractor", 3, config.distractors)):
        tracklets = []
        for i in range(count):
            rng = np.random.default_rng([config.seed, stream, i])
            camera, frames = int(rng.integers(1, 7)), _between(rng, config.frames_per_tracklet)
            person_seed: tuple[int, ...] = (config.seed, stream, i, 1)
            if kind == "junk":
                person_seed = (config.seed, 0, 1 + config.train_persons + int(rng.integers(config.test_persons)))
            seed = (config.seed, stream, i, 2)
            tracklets.append(_Plan("test", _WITHOUT_IDENTITY[kind], camera, i + 1, frames, kind, person_seed, seed))
        without_identity += sorted(tracklets, key=lambda p: (p.camera, p.number))
    test = without_identity + persons
    rng = np.random.default_rng([config.seed, 4])
    places: dict[tuple[int, int], list[int]] = {}
    for row, plan in enumerate(test, start=1):
        if plan.person > 0:
            places.setdefault((plan.person, plan.camera), []).append(row)
    queries = [int(rng.choice(rows)) for rows in places.values()]
    return train + test, queries


def _plan_person(config: SyntheticConfig, split: str, person: int, stream: int) -> list[_Plan]:
    rng = np.random.default_rng([config.seed, stream, person, 1])
    cameras = sorted(rng.choice(sorted(CAMERAS), size=rng.integers(_FEWEST_CAMERAS, 7), replace=False).tolist())
    plans = []
    for camera in cameras:
        for number in range(1, _between(rng, config.tracklets_per_camera) + 1):
            frames = _between(rng, config.frames_per_tracklet)
            seed = (config.seed, stream, person, 2, camera, number)
            plans.append(_Plan(split, person, camera, number, frames, "person", (config.seed, stream, person), seed))
    return plans


def _between(rng: np.random.Generator, pair: tuple[int, int]) -> int:
    return int(rng.integers(pair[0], pair[1] + 1))


def _render_all(work: Path, config: SyntheticConfig, plans: list[_Plan], workers: int, progress: bool) -> None:
    from kreid._quiet import progress_bar

    total = sum(plan.frames for plan in plans)
    with progress_bar(total=total, unit="frame", desc="rendering", disable=not progress) as bar:
        if workers == 1:
            stage = scene.Stage(config.image_size, config.seed)
            for plan in plans:
                bar.update(_render(stage, work, plan))
            return
        # Spawned, not forked, because the caller may have started TensorFlow's threads.
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (config.image_size, config.seed, work))
        with pool:
            for frames in pool.map(_render_in_worker, plans, chunksize=16):
                bar.update(frames)


_worker: dict[str, Any] = {}


def _start_worker(image_size: tuple[int, int], seed: int, work: Path) -> None:
    _worker.update(stage=scene.Stage(image_size, seed), work=work)


def _render_in_worker(plan: _Plan) -> int:
    return _render(_worker["stage"], _worker["work"], plan)


def _render(stage: scene.Stage, work: Path, plan: _Plan) -> int:
    person = _person(plan.person_seed)
    images = stage.tracklet(person, plan.camera, plan.frames, np.random.default_rng(plan.seed), plan.kind)
    names = plan.names
    folder = os.path.join(work, f"bbox_{plan.split}", names[0][:4])
    for name, image in zip(names, images, strict=True):
        with open(os.path.join(folder, name), "wb") as file:
            image.save(file, "JPEG", quality=_QUALITY)
    return plan.frames


@lru_cache(maxsize=16)
def _person(seed: tuple[int, ...]) -> people.Person:
    return people.draw_person(np.random.default_rng(seed))


def _save_matrix(path: Path, name: str, values: np.ndarray) -> None:
    """Write one int32 matrix as a MATLAB 5 file, little-endian, uncompressed."""
    header = b"MATLAB 5.0 MAT-file, written by kreid".ljust(116) + bytes(8) + struct.pack("<H2s", 0x0100, b"IM")
    body = (
        struct.pack("<IIII", 6, 8, 12, 0)  # array flags: class 12 is int32
        + _element(5, np.array(values.shape, dtype="<i4").tobytes())
        + _element(1, name.encode("ascii"))
        + _element(5, values.astype("<i4").tobytes(order="F"))
    )
    path.write_bytes(header + struct.pack("<II", 14, len(body)) + body)


def _element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)
