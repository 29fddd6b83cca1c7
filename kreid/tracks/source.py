"""The common interface of videos and folders of images."""

import abc
from collections.abc import Iterator, Set

import numpy as np


class FrameSource(abc.ABC):
    """Frames that can be decoded once, in order; a context manager.

    Attributes:
        path: str, the argument.
        name: str, for names of persons and cameras.
        size: `(height, width)` of the frames in pixels.
        decoded: int, number of frames so far.
        corrupt: list of the numbers of frames so far that cannot be decoded.
    """

    path: str
    name: str
    size: tuple[int, int]
    decoded: int
    corrupt: list[int]

    @abc.abstractmethod
    def pictures(self, wanted: Set[int], last: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Decode the frames up to one; callable once.

        Args:
            wanted: set of frame numbers, counted from 1.
            last: int, number of the last frame.

        Yields:
            A tuple `(number, picture)` for each frame: `picture` is uint8 RGB `(height, width, 3)`, or `None` for a
            frame that is not wanted or is corrupt.

        Raises:
            ValueError: if the frame size changes.
        """

    @property
    @abc.abstractmethod
    def missing(self) -> str:
        """Reason why frames are missing after the last one, in a few words; empty if none is missing."""

    @abc.abstractmethod
    def stamp(self) -> list[int] | list[list[str | int]]:
        """Return sizes and modification times of the files, which change with the frames, for JSON."""

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Close the open files."""

    def _refuse_size(self, number: int, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise ValueError(
                f"All frames must have the size of the first, {self.size} (height, width): convert the video. "
                f"Received: video={self.path!r}, frame {number} of size {size}"
            )
