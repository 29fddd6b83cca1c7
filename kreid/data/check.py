"""Check a data set before training on it for hours.

`kreid.data.read_frames` decodes every frame, as in training and embedding, so that the three cannot disagree on which
frames are unreadable. Pillow reads the headers, for the sizes and the reasons.

Example: kreid check data/mars --json check.json
"""

import argparse
import functools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kreid._files import write_atomically
from kreid._quiet import decoder_complaints_dropped, import_tensorflow
from kreid.data.data_report import DataReport
from kreid.data.frame_scan import scan_frames
from kreid.data.readers import layout_of, read_dataset
from kreid.data.readers.listing import IMAGES, is_system_name
from kreid.data.tracklet import Tracklet


def check_dataset(
    root: str | os.PathLike[str], *, persons: int | None = None, workers: int | None = None, progress: bool = True
) -> DataReport:
    """Decode every frame of a data set, and compare the files with the index.

    Nothing is changed. A frame counts as unreadable exactly when training and embedding leave it out.

    Args:
        root: folder of a data set in any layout that `kreid.data.read_dataset` knows.
        persons: as in `read_dataset`.
        workers: int, threads; by default one per processor.
        progress: show a progress bar.

    Returns:
        A `DataReport`.

    Raises:
        FileNotFoundError: if the folder is missing, or has no known layout.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "train/anna/hall"
    >>> folder.mkdir(parents=True)
    >>> (folder / "1.jpg").touch()
    >>> check_dataset(folder.parents[2], progress=False).unreadable
    {'train/anna/hall/1.jpg': 'empty file'}
    """
    root = Path(root).absolute()
    layout = layout_of(root)
    try:
        dataset = read_dataset(root, persons=persons)
    except (OSError, ValueError) as error:
        return DataReport(str(root), layout, refusal=str(error))
    parts = {"train": (dataset.train, dataset.person_names), "test": (dataset.test, dataset.person_names)}
    if dataset.validation is not None:
        parts["validation"] = (dataset.validation.test, dataset.validation.person_names)
    tracklets = tuple(tracklet for own, _ in parts.values() for tracklet in own)
    paths = list(dict.fromkeys(path for tracklet in tracklets for path in tracklet.frames))
    scan = scan_frames(paths, workers or os.cpu_count() or 1, progress)
    name = functools.partial(_below, f"{root}/")
    named = set(paths)
    unnamed = tuple(name(path) for path in _images_on_disk(str(root), named) if path not in named)
    left_out = set(unnamed)
    return DataReport(
        root=str(root),
        layout=layout,
        tracklets=len(tracklets),
        frames=len(paths) + len(dataset.missing),
        unreadable={name(path): reason for path, reason in scan.unreadable.items()},
        empty_files=tuple(map(name, scan.empty)),
        missing=dataset.missing,
        lost_tracklets=dataset.empty
        + tuple(track.id for track in tracklets if all(path in scan.unreadable for path in track.frames)),
        sizes={_size_text(size): count for size, count in Counter(scan.sizes.values()).most_common()},
        sizes_in_tracklet=_unlike_most((track.frames for track in tracklets), scan.sizes, name),
        sizes_in_set=_unlike_most([paths], scan.sizes, name),
        other_formats={name(path): kind for path, kind in scan.other_formats.items()},
        rotated=tuple(map(name, scan.rotated)),
        unnamed=unnamed,
        skipped_files=tuple(file for file in dataset.skipped_files if file not in left_out),
        persons_in_both=tuple(dataset.person_names.get(person, person) for person in dataset.persons_in_both),
        remarks=dataset.remarks,
        one_camera=_with_single(parts, lambda tracklet: tracklet.camera),
        one_tracklet=_with_single(parts, lambda tracklet: tracklet.id),
        cameras=_by_camera(parts, scan.unreadable, dataset.camera_names),
    )


def _unlike_most(
    groups: Iterable[Sequence[str]], sizes: Mapping[str, tuple[int, int]], name: Callable[[str], str]
) -> dict[str, str]:
    """Return the frames whose size differs from that of more than half of their group."""
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
        # A linked folder is followed only if the index names it; others may lead anywhere, or to themselves.
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not is_system_name(name) and (f"{folder}/{name}" in folders or not os.path.islink(f"{folder}/{name}"))
        ]
        images += [
            f"{folder}/{name}" for name in sorted(files) if name.lower().endswith(IMAGES) and not is_system_name(name)
        ]
    return images


def _with_single(
    parts: Mapping[str, tuple[Sequence[Tracklet], Mapping[int, str]]], kind: Callable[[Tracklet], object]
) -> dict[str, tuple[str | int, ...]]:
    """Return the persons of each split whose tracklets have a single kind: one camera, or one tracklet."""
    single: dict[str, tuple[str | int, ...]] = {}
    for split, (tracklets, names) in parts.items():
        kinds: dict[int, set[object]] = {}
        for tracklet in tracklets:
            if tracklet.person > 0:
                kinds.setdefault(tracklet.person, set()).add(kind(tracklet))
        single[split] = tuple(names.get(person, person) for person in sorted(kinds) if len(kinds[person]) == 1)
    return single


def _by_camera(
    parts: Mapping[str, tuple[Sequence[Tracklet], Mapping[int, str]]],
    unreadable: Mapping[str, str],
    names: Mapping[int, str],
) -> tuple[dict[str, Any], ...]:
    # A validation set numbers its persons anew.
    named = [
        (tracklet, (split == "validation", tracklet.person)) for split, (own, _) in parts.items() for tracklet in own
    ]
    rows = []
    for camera in sorted({tracklet.camera for tracklet, _ in named}):
        persons = {person for tracklet, person in named if tracklet.camera == camera and tracklet.person > 0}
        own = [tracklet for tracklet, _ in named if tracklet.camera == camera]
        rows.append(
            {
                "camera": names.get(camera, camera),
                "persons": len(persons),
                "tracklets": len(own),
                "frames": sum(len(tracklet) for tracklet in own),
                "unreadable": sum(path in unreadable for tracklet in own for path in tracklet.frames),
            }
        )
    return tuple(rows)


def _below(root: str, path: str) -> str:
    return path.removeprefix(root)


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("root", metavar="DIR", help="folder of a data set in any layout that kreid reads")
    parser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--persons", type=int, choices=(178, 200), help="persons of PRID2011 (default: 178)")
    parser.add_argument("--workers", type=int, help="threads (default: one per processor)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> int:
    """Check and print; return the exit status: 0 without damage, 1 with damage, 2 for wrong usage."""
    try:
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"`workers` must be at least 1. Received: workers={options.workers}")
        if options.json and os.path.isdir(options.json):
            raise ValueError(f"Give a file to write to; this is a folder. Received: json={options.json!r}")
        if options.json and not Path(options.json).absolute().parent.is_dir():
            raise ValueError(f"The folder to write to is missing. Received: json={options.json!r}")
        import_tensorflow()
        # The decoders write a line about every damaged frame, without its name.
        with decoder_complaints_dropped():
            report = check_dataset(
                options.root, persons=options.persons, workers=options.workers, progress=not options.quiet
            )
        print(report.text())
        if options.json:
            write_atomically(options.json, json.dumps(report.to_dict(), indent=2) + "\n")
    except (OSError, ValueError) as error:
        print(f"kreid check: {error}", file=sys.stderr)
        return 2
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
