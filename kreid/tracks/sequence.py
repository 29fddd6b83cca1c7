"""A folder of images instead of a video, such as `img1/` of a MOT Challenge sequence."""

import itertools
import os
import re
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import numpy as np
from PIL import Image

from kreid.data.readers import image_files
from kreid.data.readers.listing import contents_of, inside
from kreid.tracks.source import FrameSource

_IMAGES = "img1"
_LENGTH = re.compile(r"^\s*seqLength\s*=\s*(\d+)", re.MULTILINE | re.IGNORECASE)


class ImageSequence(FrameSource):
    """A folder of JPEG or PNG files, one per frame.

    The files are frames 1, 2, ... in natural order of their names. Numbers in the names may begin anywhere but must be
    consecutive, because otherwise the frame of a box is unknown.

    Damage: a file that cannot be decoded loses only its frame. If a `seqinfo.ini` next to the folder gives more frames
    than there are files, the sequence counts as truncated.

    Args:
        path: of the folder, or of a sequence's folder that contains `img1/`.

    Raises:
        ValueError: if the folder has no image, no image can be decoded, or the numbers in the names have a gap.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        folder = Path(path).absolute()
        if not image_files(folder):
            folder = inside(folder, _IMAGES) or folder
        self.name = folder.parent.name if folder.name.lower() == _IMAGES else folder.name
        self._files = image_files(folder)
        if not self._files:
            raise ValueError(
                "A folder instead of a video must have a JPEG or PNG file for each frame; "
                f"{contents_of(folder)}. Received: video={self.path!r}"
            )
        self._check_numbers()
        self.decoded, self.corrupt = 0, []
        size = next(filter(None, map(_size, self._files)), None)
        if size is None:
            raise ValueError(
                f"None of the {len(self._files)} images can be decoded: copy the folder again. "
                f"Received: video={self.path!r}"
            )
        self.size = size
        self._expected_frames = _expected_frames(folder)

    def pictures(self, wanted: Set[int], last: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Decode the wanted frames; see `FrameSource`."""
        for number, path in enumerate(self._files[:last], start=1):
            self.decoded = number
            picture = None
            if number in wanted:
                picture = _decoded(path)
                if picture is None:
                    self.corrupt.append(number)
                else:
                    self._refuse_size(number, picture.shape[:2])
            yield number, picture

    @property
    def missing(self) -> str:
        """Reason why frames are missing; see `FrameSource`."""
        return f"seqinfo.ini gives {self._expected_frames}" if self.decoded < self._expected_frames else ""

    def close(self) -> None:
        """Do nothing, because no file is open."""

    def stamp(self) -> list[list[str | int]]:
        """Return name, size and modification time of each file."""
        stats = [(os.path.basename(path), os.stat(path)) for path in self._files]
        return [[name, status.st_size, status.st_mtime_ns] for name, status in stats]

    def _check_numbers(self) -> None:
        numbers = _numbers(self._files)
        for place, (number, following) in enumerate(itertools.pairwise(numbers)):
            if following != number + 1:
                raise ValueError(
                    "The numbers in the images' names have a gap, so frames cannot be counted: copy the sequence "
                    "again, or rename the images to consecutive numbers. "
                    f"Received: {os.path.basename(self._files[place + 1])!r} after "
                    f"{os.path.basename(self._files[place])!r} in video={self.path!r}"
                )


def _numbers(paths: Sequence[str]) -> list[int]:
    """Return the last number in each name, or an empty list if a name has no number."""
    matches = [re.search(r"(\d+)\D*$", os.path.splitext(os.path.basename(path))[0]) for path in paths]
    numbers = [int(match[1]) for match in matches if match]
    return numbers if len(numbers) == len(paths) else []


def _size(path: str) -> tuple[int, int] | None:
    picture = _decoded(path)
    return None if picture is None else picture.shape[:2]


def _decoded(path: str) -> np.ndarray | None:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except Exception:  # Pillow raises errors of many types for other bytes.
        return None


def _expected_frames(folder: Path) -> int:
    for place in (folder.parent, folder):
        path = place / "seqinfo.ini"
        if path.is_file():
            match = _LENGTH.search(path.read_text(encoding="utf-8-sig", errors="replace"))
            if match:
                return int(match[1])
    return 0
