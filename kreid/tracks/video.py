"""A video's frames, decoded once and in order."""

from pathlib import Path

import numpy as np

# A container counts its time in these.
_MICROSECONDS = 1_000_000


class Video:
    """An open video file; a context manager.

    Frames come one by one from the first on, upright as players show them, whatever way the camera was held. Only the
    decoder's own few frames are kept in memory.

    Damage: frames end where the decoder first fails, as frames could no longer be counted behind it; `failure` says
    why. A frame that the decoder calls corrupt costs itself alone.

    Args:
        path: of the file.

    Attributes:
        path: str.
        size: `(height, width)` of the upright frames in pixels.
        decoded: frames decoded so far.
        corrupt: list of the numbers of frames so far that the decoder called corrupt.
        failure: what the decoder said when it failed, `None` if it did not.

    Raises:
        FileNotFoundError: if there is no file.
        ImportError: if PyAV is not installed.
        ValueError: if it is no video, or not a frame of it can be decoded.
    """

    def __init__(self, path):
        try:
            import av
        except ImportError as error:
            raise ImportError(f'Videos are decoded by PyAV: pip install "kreid[video]" ({error})') from error
        self.path = str(path)
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no video file. Received: video={self.path!r}")
        self._error = av.FFmpegError
        try:
            # A playlist must not lead to other files or hosts.
            self._container = av.open(self.path, options={"protocol_whitelist": "file"})
        except self._error as error:
            raise ValueError(
                "The file is no video that FFmpeg can open; an MP4 file that was cut short has lost its index, copy it "
                f"again ({error.strerror}). Received: video={self.path!r}"
            ) from error
        self.decoded, self.corrupt, self.failure = 0, [], None
        streams = self._container.streams.video
        # FFmpeg draws text files as terminal screens: here they are the tracks in the video's place.
        self._stream = streams[0] if streams and self._container.format.name != "tty" else None
        self._frames = self._decoded()
        self._first = next(self._frames, None)
        if self._first is None:
            self.close()
            raise ValueError(
                "The file holds no video of which a frame can be decoded: give a video, or copy or convert this one "
                f"again ({self.failure or 'no frames'}). Received: video={self.path!r}"
            )
        sides = self._first.height, self._first.width
        self.size = sides[::-1] if _quarter_turns(self._first) % 2 else sides

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes the file."""
        self._container.close()

    def pictures(self, wanted, last):
        """Decodes up to a frame, and yields those wanted. A video is gone through once.

        Args:
            wanted: set of frame numbers, counted from 1.
            last: number of the frame to decode to.

        Yields:
            A tuple `(number, picture)` for each frame: `picture` is uint8 RGB `(height, width, 3)`, or `None` for a
            frame that is not wanted or is corrupt.

        Raises:
            ValueError: if the frame size changes.
        """
        frame, self._first = self._first, None
        while frame is not None:
            self.decoded += 1
            self._time = frame.time
            picture = None
            if frame.is_corrupt:
                self.corrupt.append(self.decoded)
            elif self.decoded in wanted:
                picture = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                if picture.shape[:2] != self.size:
                    raise ValueError(
                        f"All frames must have the size of the first, {self.size} (height, width): convert the video. "
                        f"Received: video={self.path!r}, frame {self.decoded} of size {picture.shape[:2]}"
                    )
            yield self.decoded, picture
            frame = next(self._frames, None) if self.decoded < last else None

    @property
    def missing(self):
        """Why there is less than a whole video, once the frames have ended: a few words, empty for a whole one."""
        if self.failure is not None:
            return self.failure
        if self._stream.frames:
            return f"its header announces {self._stream.frames}" if self.decoded < self._stream.frames else ""
        if self._container.duration is None or self._time is None:
            return ""
        start, rate = self._container.start_time or 0, self._stream.average_rate
        lacking = (start + self._container.duration) / _MICROSECONDS - self._time - (1 / rate if rate else 0)
        # Sound may end later than the picture.
        return f"its header announces {lacking:.0f} seconds more" if lacking > 1 else ""

    def _decoded(self):
        if self._stream is None:
            return
        self._stream.thread_type = "AUTO"
        try:
            yield from self._container.decode(self._stream)
        except self._error as error:
            self.failure = error.strerror


def _quarter_turns(frame):
    """Quarter turns, anticlockwise, that put a frame upright."""
    return round(frame.rotation / 90) % 4
