"""The result of checking a data set, as data and as text."""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kreid._files import printable

_LISTED = 20  # names of each kind in the text
# Extensions of images that kreid does not read, so that such a file among the frames is a lost frame.
_OTHER_IMAGES = {
    *(".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jfif", ".jpe", ".jp2", ".jxl"),
    *(".ppm", ".pgm", ".pnm", ".tga", ".dng", ".raw"),
}


@dataclasses.dataclass(frozen=True)
class DataReport:
    """The result of `check_dataset`. Frames are given by their path below the root.

    Args:
        root: the folder.
        layout: as in `kreid.data.layout_of`.
        refusal: why the reader refused the data set, for example because of a damaged index, or the empty string.
            After a refusal the other fields are empty.
        tracklets: int, tracklets of train, test and validation.
        frames: int, distinct frames that the index names, missing ones included.
        unreadable: frame to reason, for frames on the disk that cannot be decoded.
        empty_files: unreadable frames without a byte.
        missing: frames that the index names but the disk lacks.
        lost_tracklets: ids of tracklets without a readable frame.
        sizes: `"WIDTHxHEIGHT"` to number of readable frames, the most frequent first.
        sizes_in_tracklet: frame to its size, if most of its tracklet has another size.
        sizes_in_set: frame to its size, if most of the set has another size.
        other_formats: frame to format, if it differs from the file's extension.
        rotated: frames whose EXIF data specifies a rotation or reflection, which kreid ignores.
        unnamed: JPEG and PNG files below the root that the index does not name.
        skipped_files: files among the frames that are neither JPEG nor PNG by their extension.
        persons_in_both: persons who are in train and in test.
        remarks: other observations of the reader.
        one_camera: split to the persons in only one camera.
        one_tracklet: split to the persons with only one tracklet.
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
        """Whether a frame is unreadable, missing or in a format that kreid does not read, or the set was refused.

        Everything else loses no frame and is a remark.
        """
        has_other_images = any(_extension(file) in _OTHER_IMAGES for file in self.skipped_files)
        return bool(self.refusal or self.unreadable or self.missing or has_other_images)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, for JSON."""
        return {**dataclasses.asdict(self), "damaged": self.damaged}

    def text(self) -> str:
        """Return the report as text, with at most 20 names of each kind."""
        lines = [f"{self.root}: layout {self.layout}"]
        if self.refusal:
            return printable("\n".join([*lines, f"The data set cannot be read. {self.refusal}"]))
        lost = len(self.unreadable) + len(self.missing)
        lines.append(f"{self.tracklets} tracklets, {self.frames} frames, {lost} of them damaged ({_share(lost, self)})")
        lines += _listed("unreadable", self.unreadable)
        lines += _listed("empty files, among the unreadable", self.empty_files)
        lines += _listed("named by the index but not on the disk", self.missing)
        lines += _listed("tracklets without a readable frame", self.lost_tracklets)
        for extension, files in sorted(_by_extension(self.skipped_files).items()):
            lines += _listed(f"not read, with extension {extension}" if extension else "not read, no extension", files)
        lines += _listed("on the disk but not named by the index", self.unnamed)
        lines += _listed("format differs from the extension", self.other_formats)
        lines += _listed("size differs from most of the tracklet", self.sizes_in_tracklet)
        lines += _listed("size differs from most of the set", self.sizes_in_set)
        lines += _listed("EXIF specifies a rotation, which kreid ignores", self.rotated)
        lines += _row(
            "persons both in train and in test, so that scores are not re-identification scores", self.persons_in_both
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


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _by_extension(files: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in files:
        groups.setdefault(_extension(file), []).append(file)
    return groups


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
