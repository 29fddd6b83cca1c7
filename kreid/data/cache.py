"""Frames kept decoded, for data sets that are read many times."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from kreid._files import replacing
from kreid._quiet import progress_bar
from kreid.data.frames import read_frames

_PART = 64  # frames decoded and written at once


class FrameCache:
    """Decoded frames of image files, in memory or in one file on disk, read by number inside a graph.

    Frames hold what `kreid.data.read_frames` gives, bit for bit, at `height x width x 3` bytes each: 24 KiB at 128x64,
    96 KiB at 256x128, so that 10,000 frames take 0.24 or 0.94 GiB.

    On disk the file's name is a digest of all paths, their sizes and times of change, the image size and TensorFlow's
    version: other data never gets an old file, and the same data gets its file again, in this process or another. The
    file is written under a temporary name first. Old files are not deleted. The file is mapped into memory, so frames
    that do not fit are read when they are needed.

    Args:
        paths: sequence of image files.
        image_size: `(height, width)` of the frames.
        where: `"memory"`, or a folder, which is made if it is missing.

    Example:

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "white.jpg"
    >>> tf.io.write_file(str(path), tf.io.encode_jpeg(tf.fill((32, 16, 3), tf.constant(255, tf.uint8))))
    >>> cache = kreid.data.FrameCache([str(path)], (128, 64), "memory")
    >>> cache.fill(progress=False)
    >>> frames, kept = cache.read(tf.constant([0, 0]))
    >>> tuple(frames.shape), kept.numpy().tolist()
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
        """Bytes of all frames."""
        return int(np.prod(self._shape, dtype=np.int64))

    def fill(self, progress: bool = True) -> None:
        """Decode all frames, or find them decoded on disk. A second call does nothing.

        Args:
            progress: show a bar.

        Raises:
            ValueError: if the frames cannot fit into the machine's memory or on the folder's disk, or the folder
                cannot be made or written into.
        """
        if self._readable is not None:
            return
        if self.where == "memory":
            self._fill_memory(progress)
        else:
            self._fill_disk(Path(self.where).absolute(), progress)

    def read(self, numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Read frames by number, without those that could not be decoded.

        Args:
            numbers: int32 tensor `(images,)`, places in `paths`.

        Returns:
            A tuple `(frames, kept)` as `kreid.data.read_frames` gives it.

        Raises:
            RuntimeError: if the cache was not filled.
        """
        if self._readable is None or self._frames is None:
            raise RuntimeError("The cache is empty; call `fill()` first.")
        kept = tf.cast(tf.where(tf.gather(self._readable, numbers))[:, 0], tf.int32)
        return tf.gather(self._frames(), tf.gather(numbers, kept)), kept

    def _fill_memory(self, progress: bool) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if self.num_bytes > memory:
            raise ValueError(
                f"The decoded frames take {self.num_bytes / 2**30:.1f} GiB and this machine has {memory / 2**30:.1f} "
                f"GiB of memory: keep them in a folder, or decode them each time. Received: where={self.where!r}"
            )
        # A variable, because slices of it are written and gathered without copying the whole.
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
                f"Decoded frames need a folder, and none can be made here ({error.strerror}): choose another, or "
                f"'memory'. Received: where={self.where!r}"
            ) from error
        path = folder / f"frames_{self._digest()}.uint8"
        # A file of another size was cut by another program.
        if not path.exists() or path.stat().st_size != self.num_bytes + len(self._paths):
            self._write(path, progress)
        readable = np.fromfile(path, np.uint8, offset=self.num_bytes).astype(bool)
        # The file is mapped into memory by the operation, wherever it runs.
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
                    f"The folder of decoded frames cannot be written into ({error.strerror}): choose another, or "
                    f"'memory'. Received: where={self.where!r}"
                ) from error
            with opened as file:
                frame_bytes = self.num_bytes // len(self._paths)
                for numbers, part in self._decoded(progress):
                    readable[numbers] = 1
                    for number, frame in zip(numbers, part.numpy(), strict=True):
                        file.seek(int(number) * frame_bytes)
                        file.write(frame.tobytes())
                # After the frames: which of them could be decoded.
                file.seek(self.num_bytes)
                file.write(readable.tobytes())

    def _decoded(self, progress: bool) -> Iterator[tuple[np.ndarray, tf.Tensor]]:
        """Yield the numbers and pixels of the frames that can be decoded, in order, part by part."""
        parts = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in self._paths]).batch(_PART)
        parts = parts.map(
            lambda paths: (tf.size(paths), *read_frames(paths, self.image_size)), num_parallel_calls=tf.data.AUTOTUNE
        )
        start = 0
        with progress_bar(total=len(self._paths), desc="decoding", unit=" frames", disable=not progress) as bar:
            for count, frames, kept in parts.prefetch(2):
                yield start + kept.numpy(), frames
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
