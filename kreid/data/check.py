"""Look through a data set before hours are spent on it.

Every frame is decoded, by what training and embedding decode with, `kreid.data.read_frames`, so that the three cannot
disagree on which frames are unreadable. Pillow reads the headers, for sizes and for the reasons.

Example: kreid check data/mars --json check.json
"""

import argparse
import dataclasses
import functools
import json
import os
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from kreid._files import printable, write_atomically
from kreid._quiet import decoder_complaints_dropped, import_tensorflow, progress_bar
from kreid.data.readers import layout_of, read_dataset
from kreid.data.readers.listing import IMAGES, is_system_name
from kreid.data.tracklet import Tracklet

if TYPE_CHECKING:
    from tensorflow.types.experimental import GenericFunction

_BLOCK = 256  # frames that a thread takes at once
_LISTED = 20  # names of each kind in the text; the data has all
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_ORIENTATION = 0x0112
# Endings of images that kreid does not read: such a file among the frames is a frame lost.
_OTHER_IMAGES = {
    *(".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jfif", ".jpe", ".jp2", ".jxl"),
    *(".ppm", ".pgm", ".pnm", ".tga", ".dng", ".raw"),
}


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The result of `check_dataset`. Frames are named by their path below the root.

    Args:
        root: the folder.
        layout: as `kreid.data.readers.layout_of` names it.
        refusal: why the reader refused the data set, because of a damaged index for example, or the empty string. After
            a refusal nothing else is known.
        tracklets: int, of train and test.
        frames: int, distinct frames that the index names, missing ones included.
        unreadable: frame to reason, for those on the disk that cannot be decoded.
        empty_files: the unreadable ones without a byte.
        missing: frames that the index names and the disk lacks.
        lost_tracklets: ids of tracklets without a readable frame.
        sizes: `"WIDTHxHEIGHT"` to count of readable frames, the most frequent first.
        sizes_in_tracklet: frame to its size, where most of its tracklet has another.
        sizes_in_set: the same, where most of the set has another.
        other_formats: frame to format, where the file's ending says another.
        rotated: frames whose EXIF data asks for a rotation or reflection. kreid shows them as they are stored.
        unnamed: JPEG and PNG files below the root that the index does not name.
        skipped_files: files among the frames that are neither JPEG nor PNG by their ending.
        persons_in_both: persons who are in train and in test.
        remarks: what else the reader noticed, in words.
        one_camera: split to the persons that only one camera saw.
        one_tracklet: split to the persons of only one tracklet.
        cameras: a dict for each camera: `camera`, `persons`, `tracklets`, `frames`, `unreadable`.
    """

    root: str
    layout: str
    refusal: str = ""
    tracklets: int = 0
    frames: int = 0
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)
    empty_files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    lost_tracklets: tuple[str, ...] = ()
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    sizes_in_tracklet: dict[str, str] = dataclasses.field(default_factory=dict)
    sizes_in_set: dict[str, str] = dataclasses.field(default_factory=dict)
    other_formats: dict[str, str] = dataclasses.field(default_factory=dict)
    rotated: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    skipped_files: tuple[str, ...] = ()
    persons_in_both: tuple[str | int, ...] = ()
    remarks: tuple[str, ...] = ()
    one_camera: dict[str, tuple[str | int, ...]] = dataclasses.field(default_factory=dict)
    one_tracklet: dict[str, tuple[str | int, ...]] = dataclasses.field(default_factory=dict)
    cameras: tuple[dict[str, Any], ...] = ()

    @property
    def damaged(self) -> bool:
        """Whether a frame is unreadable, missing or in a format that is not read, or everything is refused.

        All else costs no frame and is a remark.
        """
        unread = any(_ending(file) in _OTHER_IMAGES for file in self.skipped_files)
        return bool(self.refusal or self.unreadable or self.missing or unread)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain data, for JSON."""
        return {**dataclasses.asdict(self), "damaged": self.damaged}

    def text(self) -> str:
        """Write everything as text; of long lists the first 20."""
        lines = [f"{self.root}: laid out as {self.layout}"]
        if self.refusal:
            return printable("\n".join([*lines, f"The data set cannot be read. {self.refusal}"]))
        lost = len(self.unreadable) + len(self.missing)
        lines.append(f"{self.tracklets} tracklets, {self.frames} frames, {lost} of them damaged ({_share(lost, self)})")
        lines += _listed("unreadable", self.unreadable)
        lines += _listed("empty files, among the unreadable", self.empty_files)
        lines += _listed("named by the index and not on the disk", self.missing)
        lines += _listed("tracklets without a readable frame", self.lost_tracklets)
        for ending, files in sorted(_by_ending(self.skipped_files).items()):
            lines += _listed(f"not read because they end in {ending}" if ending else "not read, without ending", files)
        lines += _listed("on the disk and not named by the index", self.unnamed)
        lines += _listed("format differs from the ending", self.other_formats)
        lines += _listed("size differs from most of the tracklet", self.sizes_in_tracklet)
        lines += _listed("size differs from most of the set", self.sizes_in_set)
        lines += _listed("EXIF asks for a rotation, which is not done", self.rotated)
        lines += _row(
            "persons both in train and in test, so that scores are no re-identification scores", self.persons_in_both
        )
        lines += self.remarks
        for split, persons in self.one_camera.items():
            lines += _row(f"persons of {split} in one camera only", persons)
        for split, persons in self.one_tracklet.items():
            lines += _row(f"persons of {split} with one tracklet only", persons)
        lines += _row("frame sizes", [f"{size} ({count})" for size, count in self.sizes.items()])
        lines.append(f"{'camera':<12}{'persons':>9}{'tracklets':>11}{'frames':>10}{'unreadable':>12}")
        for row in self.cameras:
            counts = f"{row['persons']:>9}{row['tracklets']:>11}{row['frames']:>10}{row['unreadable']:>12}"
            lines.append(f"{row['camera']!s:<12}{counts}")
        return printable("\n".join(lines))


def check_dataset(
    root: str | os.PathLike[str], *, persons: int | None = None, workers: int | None = None, progress: bool = True
) -> DataReport:
    """Look at every frame of a data set, and at how files and index agree.

    Nothing is changed. A frame counts as unreadable exactly where training and embedding leave it out.

    Args:
        root: folder of a data set in any layout that `kreid.data.readers.read_dataset` knows.
        persons: as `read_dataset` takes it.
        workers: int, threads; by default one for each processor.
        progress: show a progress bar.

    Returns:
        A `DataReport`.

    Raises:
        FileNotFoundError: if there is no such folder, or no layout fits.
    """
    root = Path(root).absolute()
    layout = layout_of(root)
    try:
        dataset = read_dataset(root, persons=persons)
    except (OSError, ValueError) as error:
        return DataReport(str(root), layout, refusal=str(error))
    tracklets = dataset.train + dataset.test
    paths = list(dict.fromkeys(path for tracklet in tracklets for path in tracklet.frames))
    seen = _look_through(paths, workers or os.cpu_count() or 1, progress)
    name = functools.partial(_below, f"{root}/")
    named = set(paths)
    unnamed = tuple(name(path) for path in _images_on_disk(str(root), named) if path not in named)
    by_split = {"train": dataset.train, "test": dataset.test}
    return DataReport(
        root=str(root),
        layout=layout,
        tracklets=len(tracklets),
        frames=len(paths) + len(dataset.missing),
        unreadable={name(path): reason for path, reason in seen.unreadable.items()},
        empty_files=tuple(map(name, seen.empty)),
        missing=dataset.missing,
        lost_tracklets=dataset.empty
        + tuple(track.id for track in tracklets if all(path in seen.unreadable for path in track.frames)),
        sizes={_size_text(size): count for size, count in Counter(seen.sizes.values()).most_common()},
        sizes_in_tracklet=_unlike_most((track.frames for track in tracklets), seen.sizes, name),
        sizes_in_set=_unlike_most([paths], seen.sizes, name),
        other_formats={name(path): kind for path, kind in seen.other_formats.items()},
        rotated=tuple(map(name, seen.rotated)),
        unnamed=unnamed,
        skipped_files=tuple(file for file in dataset.skipped_files if file not in set(unnamed)),
        persons_in_both=tuple(dataset.person_names.get(person, person) for person in dataset.persons_in_both),
        remarks=dataset.remarks,
        one_camera=_alone(by_split, lambda tracklet: tracklet.camera, dataset.person_names),
        one_tracklet=_alone(by_split, lambda tracklet: tracklet.id, dataset.person_names),
        cameras=_by_camera(tracklets, seen.unreadable, dataset.camera_names),
    )


class _Seen(NamedTuple):
    """What the frames themselves show, by path, in the order of the index."""

    unreadable: dict[str, str]
    empty: list[str]
    sizes: dict[str, tuple[int, int]]
    other_formats: dict[str, str]
    rotated: list[str]


class _Header(NamedTuple):
    """What a file shows before it is decoded: why it cannot be an image, or its format and size."""

    problem: str = ""
    kind: str = ""
    size: tuple[int, int] | None = None
    rotated: bool = False


def _look_through(paths: Sequence[str], workers: int, progress: bool) -> _Seen:
    seen = _Seen({}, [], {}, {}, [])
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    pool = ThreadPoolExecutor(workers)
    # An image of too many pixels is reported, by name; Pillow need not warn.
    with (
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        progress_bar(total=len(paths), desc="checking", unit=" frames", disable=not progress) as bar,
    ):
        try:
            for block, (headers, readable) in zip(blocks, pool.map(_look_at, blocks), strict=True):
                for path, header, good in zip(block, headers, readable, strict=True):
                    _note(seen, path, header, good)
                bar.update(len(block))
        finally:
            pool.shutdown(cancel_futures=True)
    return seen


def _look_at(paths: Sequence[str]) -> tuple[list[_Header], list[bool]]:
    readable = np.zeros(len(paths), bool)
    readable[_decoder()([os.fsencode(path) for path in paths]).numpy()] = True
    return [_header(path) for path in paths], readable.tolist()


@functools.cache
def _decoder() -> "GenericFunction":
    import tensorflow as tf

    from kreid.data.frames import read_frames

    # Of the smallest size: only whether it can be decoded matters.
    return tf.function(lambda paths: read_frames(paths, (1, 1))[1], input_signature=[tf.TensorSpec([None], tf.string)])


def _note(seen: _Seen, path: str, header: _Header, readable: bool) -> None:
    if not readable:
        seen.unreadable[path] = _reason(header)
        if header.problem == "empty file":
            seen.empty.append(path)
    elif header.size is not None:
        seen.sizes[path] = header.size
    if header.kind and header.kind != _FORMATS.get(_ending(path), header.kind):
        seen.other_formats[path] = header.kind
    if readable and header.rotated:
        seen.rotated.append(path)


def _header(path: str) -> _Header:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return _Header("not a file")
        if not status.st_size:
            return _Header("empty file")
        with open(path, "rb") as file:
            first = file.read(8)
    except OSError as error:
        return _Header((error.strerror or str(error)).lower())
    kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), "")
    try:
        with Image.open(path) as image:
            # Asked for only where it is there: Pillow would decode a whole PNG to look for it.
            rotated = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            return _Header("", kind or image.format or "", image.size, rotated)
    except Image.DecompressionBombError:
        return _Header("too many pixels", kind)
    except Exception:  # Whatever Pillow meets in bytes that are no image, or in broken EXIF data.
        return _Header("" if kind else "not an image", kind)


def _reason(header: _Header) -> str:
    from kreid.data.frames import MAX_PIXELS

    if header.problem:
        return header.problem
    if header.kind not in _MAGIC.values():
        return f"{header.kind}, and only JPEG and PNG are read"
    if header.size is not None and header.size[0] * header.size[1] > MAX_PIXELS:
        return "too many pixels"
    return f"{header.kind} data cut or corrupt"


def _unlike_most(
    groups: Iterable[Sequence[str]], sizes: Mapping[str, tuple[int, int]], name: Callable[[str], str]
) -> dict[str, str]:
    """Frames of another size than more than half of their group has."""
    unlike: dict[str, str] = {}
    for paths in groups:
        own = {path: sizes[path] for path in paths if path in sizes}
        if len(set(own.values())) > 1:
            usual, count = Counter(own.values()).most_common(1)[0]
            if 2 * count > len(own):
                unlike |= {name(path): _size_text(size) for path, size in own.items() if size != usual}
    return unlike


def _images_on_disk(root: str, named: set[str]) -> list[str]:
    folders = {os.path.dirname(path) for path in named}
    folders |= {str(parent) for folder in folders for parent in Path(folder).parents}
    images: list[str] = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        # A linked folder is gone into where the index does so too; others may lead anywhere, or in a circle.
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not is_system_name(name) and (f"{folder}/{name}" in folders or not os.path.islink(f"{folder}/{name}"))
        ]
        images += [
            f"{folder}/{name}" for name in sorted(files) if name.lower().endswith(IMAGES) and not is_system_name(name)
        ]
    return images


def _alone(
    by_split: Mapping[str, Sequence[Tracklet]], kind: Callable[[Tracklet], object], names: Mapping[int, str]
) -> dict[str, tuple[str | int, ...]]:
    """The persons of each split with only one of a kind: one camera, one tracklet."""
    alone: dict[str, tuple[str | int, ...]] = {}
    for split, tracklets in by_split.items():
        kinds: dict[int, set[object]] = {}
        for tracklet in tracklets:
            if tracklet.person > 0:
                kinds.setdefault(tracklet.person, set()).add(kind(tracklet))
        alone[split] = tuple(names.get(person, person) for person in sorted(kinds) if len(kinds[person]) == 1)
    return alone


def _by_camera(
    tracklets: Sequence[Tracklet], unreadable: Mapping[str, str], names: Mapping[int, str]
) -> tuple[dict[str, Any], ...]:
    rows = []
    for camera in sorted({tracklet.camera for tracklet in tracklets}):
        own = [tracklet for tracklet in tracklets if tracklet.camera == camera]
        rows.append(
            {
                "camera": names.get(camera, camera),
                "persons": len({tracklet.person for tracklet in own if tracklet.person > 0}),
                "tracklets": len(own),
                "frames": sum(len(tracklet) for tracklet in own),
                "unreadable": sum(path in unreadable for tracklet in own for path in tracklet.frames),
            }
        )
    return tuple(rows)


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _by_ending(files: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(_ending(file), []).append(file)
    return groups


def _below(root: str, path: str) -> str:
    return path.removeprefix(root)


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _share(count: int, report: DataReport) -> str:
    return f"{count / max(report.frames, 1):.1%}"


def _listed(title: str, names: Mapping[str, str] | Sequence[str]) -> list[str]:
    if not names:
        return []
    reasons = names if isinstance(names, Mapping) else dict.fromkeys(names, "")
    lines = [f"  {name}{f': {reason}' if reason else ''}" for name, reason in list(reasons.items())[:_LISTED]]
    more = [f"  and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return [f"{title}: {len(names)}", *lines, *more]


def _row(title: str, values: Sequence[object]) -> list[str]:
    if not values:
        return []
    more = f" and {len(values) - _LISTED} more" if len(values) > _LISTED else ""
    return [f"{title}: {len(values)}: {', '.join(map(str, values[:_LISTED]))}{more}"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("root", metavar="DIR", help="folder of a data set, of any layout that kreid reads")
    parser.add_argument("--json", metavar="FILE", help="also write everything as data")
    parser.add_argument("--persons", type=int, choices=(178, 200), help="of PRID2011 (default: 178)")
    parser.add_argument("--workers", type=int, help="threads (default: one for each processor)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Check and print; return the exit status: 0 nothing is damaged, 1 something is, 2 wrong usage."""
    try:
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"Give at least one worker. Received: workers={options.workers}")
        if options.json and not Path(options.json).absolute().parent.is_dir():
            raise ValueError(f"The folder to write into is not there. Received: json={options.json!r}")
        import_tensorflow()
        # The decoders complain of every damaged frame, without its name.
        with decoder_complaints_dropped():
            report = check_dataset(
                options.root, persons=options.persons, workers=options.workers, progress=not options.quiet
            )
        if options.json:
            write_atomically(options.json, json.dumps(report.to_dict(), indent=2) + "\n")
    except (OSError, ValueError) as error:
        print(f"kreid check: {error}", file=sys.stderr)
        return 2
    print(report.text())
    return int(report.damaged)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid.data.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
