"""The interface of what has frames to cut from: a video, or a folder of pictures."""

import abc
from collections.abc import Iterator, Set
from typing import Any

import numpy as np


class FrameSource(abc.ABC):
    """Frames that come one by one, in order, once; a context manager.

    Attributes:
        path: str, as given.
        name: str, which names of persons and cameras are made of.
        size: `(height, width)` of the frames in pixels.
        decoded: frames passed so far.
        corrupt: list of the numbers of frames so far that could not be decoded.
    """

    path: str
    name: str
    size: tuple[int, int]
    decoded: int
    corrupt: list[int]

    @abc.abstractmethod
    def pictures(self, wanted: Set[int], last: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Go through the frames to one of them. A source is gone through once.

        Args:
            wanted: set of frame numbers, counted from 1.
            last: number of the frame to go to.

        Yields:
            A tuple `(number, picture)` for each frame: `picture` is uint8 RGB `(height, width, 3)`, or `None` for a
            frame that is not wanted or is corrupt.

        Raises:
            ValueError: if the frame size changes.
        """

    @property
    @abc.abstractmethod
    def missing(self) -> str:
        """Why there are fewer frames than there should be, once they have ended: a few words, empty for all of them."""

    @abc.abstractmethod
    def stamp(self) -> list[Any]:
        """Give sizes and times of the files, which change when the frames do."""

    def __enter__(self) -> "FrameSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abc.abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def _refuse_size(self, number: int, size: tuple[int, ...]) -> None:
        if size != self.size:
            raise ValueError(
                f"All frames must have the size of the first, {self.size} (height, width): convert the video. "
                f"Received: video={self.path!r}, frame {number} of size {size}"
            )
