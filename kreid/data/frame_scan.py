"""Decode every image file of a list, and find out why some cannot be decoded."""

import functools
import os
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from kreid._quiet import progress_bar

if TYPE_CHECKING:
    from tensorflow.types.experimental import GenericFunction

_BLOCK = 256  # frames that a thread decodes at a time
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
_ORIENTATION = 0x0112


class FrameScan(NamedTuple):
    """The result of `scan_frames`: paths in the order given.

    Args:
        unreadable: path to reason.
        empty: unreadable files without a byte.
        sizes: path of a readable frame to `(width, height)`.
        other_formats: path to format, if it differs from the extension.
        rotated: readable frames whose EXIF data specifies a rotation or reflection.
    """

    unreadable: dict[str, str]
    empty: list[str]
    sizes: dict[str, tuple[int, int]]
    other_formats: dict[str, str]
    rotated: list[str]


class _Header(NamedTuple):
    """Properties of a file before decoding: why it cannot be an image, or its format and size."""

    problem: str = ""
    kind: str = ""
    size: tuple[int, int] | None = None
    rotated: bool = False


def scan_frames(paths: Sequence[str], workers: int, progress: bool) -> FrameScan:
    """Decode image files in threads.

    Args:
        paths: of the files.
        workers: int, threads.
        progress: show a progress bar.

    Returns:
        A `FrameScan`.
    """
    scan = FrameScan({}, [], {}, {}, [])
    blocks = [paths[start : start + _BLOCK] for start in range(0, len(paths), _BLOCK)]
    pool = ThreadPoolExecutor(workers)
    # Images of too many pixels are reported by name, so Pillow need not warn.
    with (
        warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
        progress_bar(total=len(paths), desc="checking", unit=" frames", disable=not progress) as bar,
    ):
        try:
            for block, (headers, readable) in zip(blocks, pool.map(_decode_block, blocks), strict=True):
                for path, header, is_readable in zip(block, headers, readable, strict=True):
                    _add(scan, path, header, is_readable)
                bar.update(len(block))
        finally:
            pool.shutdown(cancel_futures=True)
    return scan


def _decode_block(paths: Sequence[str]) -> tuple[list[_Header], list[bool]]:
    readable = np.zeros(len(paths), bool)
    readable[_decoder()([os.fsencode(path) for path in paths]).numpy()] = True
    return [_header(path) for path in paths], readable.tolist()


@functools.cache
def _decoder() -> "GenericFunction":
    import tensorflow as tf

    from kreid.data.frames import read_frames

    # Of the smallest size, because the pixels are not used.
    return tf.function(lambda paths: read_frames(paths, (1, 1))[1], input_signature=[tf.TensorSpec([None], tf.string)])


def _add(scan: FrameScan, path: str, header: _Header, readable: bool) -> None:
    if not readable:
        scan.unreadable[path] = _reason(path, header)
        if header.problem == "empty file":
            scan.empty.append(path)
    elif header.size is not None:
        scan.sizes[path] = header.size
    if header.kind and header.kind != _FORMATS.get(os.path.splitext(path)[1].lower(), header.kind):
        scan.other_formats[path] = header.kind
    if readable and header.rotated:
        scan.rotated.append(path)


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
            # Without this test Pillow would decode a whole PNG in search of EXIF data.
            rotated = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) not in (0, 1)
            return _Header("", kind or image.format or "", image.size, rotated)
    except Image.DecompressionBombError:
        return _Header("too many pixels", kind)
    except Exception:  # Pillow raises errors of many types for other bytes and broken EXIF data.
        return _Header("" if kind else "not an image", kind)


def _reason(path: str, header: _Header) -> str:
    import tensorflow as tf

    from kreid.data.frames import MAX_PIXELS, decode_frame

    if header.problem:
        return header.problem
    if header.kind not in _MAGIC.values():
        return f"{header.kind}, and only JPEG and PNG are read"
    if header.size is not None and header.size[0] * header.size[1] > MAX_PIXELS:
        return "too many pixels"
    try:
        decode_frame(tf.io.read_file(os.fsencode(path)), (1, 1))
    except tf.errors.OpError as error:
        for limit, reason in (("MAX_SCAN_PIXELS", "too many scans"), ("MAX_BYTES", "too many bytes")):
            if limit in str(error):
                return reason
    return f"{header.kind} data cut or corrupt"
