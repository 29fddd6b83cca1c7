"""Decoded frames in memory or on disk, for data sets that are read many times."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kreid._files import replacing
from kreid._quiet import progress_bar
from kreid.data.frames import read_frames

_PART = 64  # frames decoded and written at a time


class FrameCache:
    """Decoded frames of image files, in memory or in one file on disk, read by number inside a graph.

    The frames equal those of `kreid.data.read_frames` bit for bit and take `height x width x 3` bytes each: 24 KiB at
    128x64, 96 KiB at 256x128, so 10,000 frames take 0.23 or 0.92 GiB.

    On disk the file's name is a digest of all paths, their sizes and modification times, the image size and
    TensorFlow's version. So other data never reads an old file, and the same data reuses its file, in this process or
    another. The file is written under a temporary name first. Old files are not deleted. The file is mapped into
    memory, so it may be larger than the memory.

    Args:
        paths: sequence of image files.
        image_size: `(height, width)` of the frames.
        where: `"memory"`, or a folder, which is created if it is missing.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "white.jpg"
    >>> tf.io.write_file(str(path), tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8))))
    >>> cache = kreid.data.FrameCache([str(path)], (128, 64), "memory")
    >>> cache.fill(progress=False)
    >>> frames, positions = cache.read(tf.constant([0, 0]))
    >>> tuple(frames.shape), positions.numpy().tolist()
    ((2, 128, 64, 3), [0, 1])
    """

    def __init__(self, paths: Sequence[str], image_size: tuple[int, int], where: str | os.PathLike[str]) -> None:
        self.image_size = image_size[0], image_size[1]
        self.where = where
        self._paths = list(paths)
        self._shape = (len(self._paths), *self.image_size, 3)
        self._frames: Callable[[], tf.Tensor] | None = None
        self._readable: tf.Tensor | None = None

    @property
    def num_bytes(self) -> int:
        """Size of all frames in bytes."""
        return int(np.prod(self._shape, dtype=np.int64))

    def fill(self, progress: bool = True) -> None:
        """Decode all frames, or open the file on disk that has them. A second call does nothing.

        Args:
            progress: show a progress bar.

        Raises:
            ValueError: if the frames exceed the machine's memory or the free space of the folder's disk, or the folder
                cannot be created or written to.
        """
        if self._readable is not None:
            return
        if self.where == "memory":
            self._fill_memory(progress)
        else:
            self._fill_disk(Path(self.where).absolute(), progress)

    def read(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Read frames by number and leave out the unreadable ones.

        Args:
            numbers: `int32` tensor `(images,)`, positions in `paths`.

        Returns:
            A tuple `(frames, positions)`: `uint8` `(readable, height, width, 3)` and the `int32` positions
            `(readable,)` of those frames in `numbers`, in order.

        Raises:
            RuntimeError: if the cache was not filled.
        """
        if self._readable is None or self._frames is None:
            raise RuntimeError("The cache is empty; call `fill()` first.")
        positions = tf.cast(tf.where(tf.gather(self._readable, numbers))[:, 0], tf.int32)
        return tf.gather(self._frames(), tf.gather(numbers, positions)), positions

    def _fill_memory(self, progress: bool) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if self.num_bytes > memory:
            raise ValueError(
                f"The decoded frames take {self.num_bytes / 2**30:.1f} GiB and this machine has {memory / 2**30:.1f} "
                f"GiB of memory: cache them in a folder, or decode them each time. Received: where={self.where!r}"
            )
        # Slices of a variable can be written and gathered without copying the whole.
        frames = tf.Variable(lambda: tf.zeros(self._shape, tf.uint8), trainable=False)
        readable = np.zeros(len(self._paths), bool)
        for numbers, part in self._decoded(progress):
            frames.scatter_nd_update(numbers[:, None], part)
            readable[numbers] = True
        self._frames, self._readable = (lambda: frames), tf.constant(readable)

    def _fill_disk(self, folder: Path, progress: bool) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"The folder for decoded frames cannot be created ({error.strerror}): choose another, or 'memory'. "
                f"Received: where={self.where!r}"
            ) from error
        path = folder / f"frames_{self._digest()}.uint8"
        # A file of another size was truncated by another program.
        if not path.exists() or path.stat().st_size != self.num_bytes + len(self._paths):
            self._write(path, progress)
        readable = np.fromfile(path, np.uint8, offset=self.num_bytes).astype(bool)
        # The operation maps the file into memory in the process that runs it.
        self._frames = lambda: tf.raw_ops.ImmutableConst(
            dtype=tf.uint8, shape=self._shape, memory_region_name=str(path)
        )
        self._readable = tf.constant(readable)

    def _write(self, path: Path, progress: bool) -> None:
        free = shutil.disk_usage(path.parent).free
        if self.num_bytes > free:
            raise ValueError(
                f"The decoded frames take {self.num_bytes / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free in this "
                f"folder: free some, or choose another folder. Received: where={self.where!r}"
            )
        readable = np.zeros(len(self._paths), np.uint8)
        with replacing(path) as temporary:
            try:
                opened = temporary.open("wb")
            except OSError as error:
                raise ValueError(
                    f"The folder for decoded frames cannot be written to ({error.strerror}): choose another, or "
                    f"'memory'. Received: where={self.where!r}"
                ) from error
            with opened as file:
                frame_bytes = self.num_bytes // len(self._paths)
                for numbers, part in self._decoded(progress):
                    readable[numbers] = 1
                    for number, frame in zip(numbers, part.numpy(), strict=True):
                        file.seek(int(number) * frame_bytes)
                        file.write(frame.tobytes())
                # After the frames, one byte for each: whether it could be decoded.
                file.seek(self.num_bytes)
                file.write(readable.tobytes())

    def _decoded(self, progress: bool) -> Iterator[tuple[NDArray[np.int32], tf.Tensor]]:
        """Yield the numbers and pixels of the readable frames, in order, part by part."""
        parts = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in self._paths]).batch(_PART)
        parts = parts.map(
            lambda paths: (tf.size(paths), *read_frames(paths, self.image_size)), num_parallel_calls=tf.data.AUTOTUNE
        )
        start = 0
        with progress_bar(total=len(self._paths), desc="decoding", unit=" frames", disable=not progress) as bar:
            for count, frames, positions in parts.prefetch(2):
                yield start + positions.numpy(), frames
                start += int(count)
                bar.update(int(count))

    def _digest(self) -> str:
        digest = hashlib.sha256(json.dumps([self.image_size, tf.__version__]).encode())
        for path in self._paths:
            try:
                status = os.stat(path)
                line: tuple[str | int, ...] = (path, status.st_size, status.st_mtime_ns)
            except OSError:
                line = (path,)
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()[:24]
