"""The frames of a video, decoded once and in order."""

import os
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from kreid.tracks.sequence import ImageSequence
from kreid.tracks.source import FrameSource

# FFmpeg's unit of a container's times.
_MICROSECONDS = 1_000_000


def open_video(path: str | os.PathLike[str]) -> FrameSource:
    """Open a video file, or a folder of images instead of a video.

    Args:
        path: of the file or folder.

    Returns:
        A `Video` or an `ImageSequence`.

    Raises:
        FileNotFoundError: if there is neither.
        ImportError: if it is a file and PyAV is not installed.
        ValueError: if no frame can be decoded.
    """
    return ImageSequence(path) if Path(path).is_dir() else Video(path)


class Video(FrameSource):
    """An open video file; a context manager.

    Frames are rotated as the file's metadata specifies, as in video players. Only the decoder's own few frames are in
    memory.

    Damage: frames end where the decoder first fails, because later frames cannot be counted; `failure` is the reason. A
    frame that the decoder marks as corrupt loses only that frame.

    Args:
        path: of the file.

    Attributes:
        failure: the decoder's error message, or `None`. For the others see `FrameSource`.

    Raises:
        FileNotFoundError: if the file is missing.
        ImportError: if PyAV is not installed.
        ValueError: if the file is not a video, or no frame can be decoded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import av
        except ImportError as error:
            raise ImportError(f'Videos need PyAV: pip install "kreid[video]" ({error})') from error
        self.path, self.name = str(path), Path(path).stem
        if not Path(path).is_file():
            raise FileNotFoundError(f"The video file is missing. Received: video={self.path!r}")
        self._error = av.FFmpegError
        try:
            # A playlist must not open other hosts.
            self._container = av.open(self.path, options={"protocol_whitelist": "file"})
        except self._error as error:
            raise ValueError(
                "FFmpeg cannot open the file as a video; a truncated MP4 file lacks its index, so copy it again "
                f"({error.strerror}). Received: video={self.path!r}"
            ) from error
        self.decoded, self.corrupt = 0, []
        self.failure: str | None = None
        self._time: float | None = None
        streams = self._container.streams.video
        # FFmpeg renders text files as terminal screens; such a file is probably the tracks.
        self._stream = streams[0] if streams and self._container.format.name != "tty" else None
        self._frames = self._decoded()
        self._first = next(self._frames, None)
        if self._first is None:
            self.close()
            raise ValueError(
                "No frame of the file can be decoded: give a video, or copy or convert this one again "
                f"({self.failure or 'no frames'}). Received: video={self.path!r}"
            )
        sides = self._first.height, self._first.width
        self.size = sides[::-1] if _quarter_turns(self._first) % 2 else sides

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def stamp(self) -> list[int]:
        """Return size and modification time of the file."""
        status = os.stat(self.path)
        return [status.st_size, status.st_mtime_ns]

    def pictures(self, wanted: Set[int], last: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Decode the frames up to one; see `FrameSource`."""
        frame, self._first = self._first, None
        while frame is not None:
            self.decoded += 1
            self._time = frame.time
            picture = None
            if frame.is_corrupt:
                self.corrupt.append(self.decoded)
            elif self.decoded in wanted:
                picture = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                self._refuse_size(self.decoded, picture.shape[:2])
            yield self.decoded, picture
            frame = next(self._frames, None) if self.decoded < last else None

    @property
    def missing(self) -> str:
        """Reason why frames are missing; see `FrameSource`."""
        if self.failure is not None:
            return self.failure
        if self._stream is None:
            return ""
        if self._stream.frames:
            return f"its header gives {self._stream.frames}" if self.decoded < self._stream.frames else ""
        if self._container.duration is None or self._time is None:
            return ""
        start, rate = self._container.start_time or 0, self._stream.average_rate
        lacking = (start + self._container.duration) / _MICROSECONDS - self._time - (1 / rate if rate else 0)
        # Sound may end later than the images.
        return f"its header gives {lacking:.0f} more seconds" if lacking > 1 else ""

    def _decoded(self) -> Iterator[Any]:
        if self._stream is None:
            return
        self._stream.thread_type = "AUTO"
        try:
            yield from self._container.decode(self._stream)
        except self._error as error:
            self.failure = error.strerror


def _quarter_turns(frame: Any) -> int:
    """Return the number of anticlockwise quarter turns that make a frame upright."""
    return round(frame.rotation / 90) % 4
