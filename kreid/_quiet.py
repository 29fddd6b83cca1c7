"""What programs write besides their results: progress, and the notices of native libraries."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Generic, TextIO, TypeVar

Item = TypeVar("Item")

# NVIDIA's kernel driver, and the GPU of a Windows host under WSL.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia")
_SECONDS_BETWEEN_LINES = 30.0


def import_tensorflow() -> None:
    """Import TensorFlow without its notices to developers.

    TensorFlow writes notices before its own log level counts, so the standard error stream is held back meanwhile. An
    import that fails still raises. On a machine without a GPU no device is made visible: else TensorFlow reports the
    missing CUDA driver. Programs call this before anything else; libraries do not.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    without_gpu = not any(map(os.path.exists, _GPU_DEVICES))
    if without_gpu:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with _stream_held_back():
        import tensorflow

        if without_gpu:
            # The first look for devices reports the missing driver; later ones do not.
            tensorflow.config.list_physical_devices()


# How lines begin in which libjpeg and libpng complain, and the source files of TensorFlow that call them.
_COMPLAINTS = (
    r"^(Corrupt JPEG data|Premature end of JPEG|Improper call to JPEG|Invalid JPEG|Not a JPEG file|Unsupported JPEG|"
    r"JPEG datastream|Empty input file|Bogus |Inconsistent progression|Invalid SOS|Invalid progressive|"
    r"Unsupported marker|Unknown Adobe|Application transferred too|Huffman code size|"
    r"Unexpected end of JPEG|libpng (error|warning))|tensorflow/core/lib/(jpeg|png|gif)/"
)
# A process of its own, so that the last words of a crash still come out. What has no line end yet passes at once.
_FILTER = """
import os, re, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
complaint, pending = re.compile(sys.argv[1].encode()), b""
while chunk := os.read(0, 65536):
    *lines, pending = (pending + chunk).split(b"\\n")
    text = b"".join(line + b"\\n" for line in lines if not complaint.search(line))
    if not complaint.search(pending):
        text, pending = text + pending, b""
    if text:
        os.write(2, text)
"""
_filter_lock = threading.Lock()
_filter_users = 0
_filter_stack = contextlib.ExitStack()
_open_streams: dict[tuple[int, int], TextIO] = {}


@contextlib.contextmanager
def decoder_complaints_dropped() -> Iterator[None]:
    """Drop the lines in which image decoders complain of damaged files; everything else still comes out.

    Decoders write such lines for each bad file, without its name, straight to the process's standard error stream.
    `kreid.data.DamageLog` names the files instead. May be nested, and used by several threads at once.
    """
    global _filter_users, _filter_stack
    with _filter_lock:
        _filter_users += 1
        if _filter_users == 1:
            _filter_stack = contextlib.ExitStack()
            with contextlib.suppress(OSError, ValueError):
                _filter_stack.enter_context(_stream_filtered())
    try:
        yield
    finally:
        with _filter_lock:
            _filter_users -= 1
            if not _filter_users:
                _filter_stack.close()


@contextlib.contextmanager
def _stream_filtered() -> Iterator[None]:
    """Send descriptor 2 through the filter; Python's stream goes around it, so that a terminal stays one."""
    stream = sys.stderr
    if stream is not None:
        stream.flush()
    kept = os.dup(2)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, _COMPLAINTS], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin is not None
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        if stream is not None and sys.__stderr__ is stream:
            sys.stderr = _stream_to(kept, stream)
        try:
            yield
        finally:
            if sys.stderr is not None and sys.stderr is not stream:
                sys.stderr.flush()
                sys.stderr = stream
            os.dup2(kept, 2)
            # A program started meanwhile may hold the filter's input open: then it ends with that program.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
    finally:
        os.close(kept)


def _stream_to(descriptor: int, like: Any) -> TextIO:
    """Open a text stream to where a descriptor leads; it stays open, as a log set up meanwhile may keep it."""
    status = os.fstat(descriptor)
    place = status.st_dev, status.st_ino
    if place not in _open_streams:
        _open_streams[place] = os.fdopen(
            os.dup(descriptor), "w", buffering=1, encoding=like.encoding, errors=like.errors
        )
    return _open_streams[place]


def on_a_terminal(stream: TextIO | None) -> bool:
    """Return whether a person watches a stream, so that a progress bar may redraw its line."""
    return stream is not None and not stream.closed and stream.isatty()


def progress_bar(
    iterable: Iterable[Item] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    disable: bool = False,
) -> Any:
    """Show the progress of something long on the standard error stream.

    On a terminal it is tqdm's bar. Elsewhere, as in a log file, it is one plain line every half minute and one at the
    end.

    Args:
        iterable: to iterate over, or `None` where `update` is called.
        total: number of items, where it is known.
        desc: what is done.
        unit: what is counted.
        disable: show nothing.

    Returns:
        A context manager that iterates and has `update(count)`.

    Example:

    >>> from kreid._quiet import progress_bar
    >>> sum(progress_bar([1, 2], desc="adding", disable=True))
    3
    """
    if on_a_terminal(sys.stderr) or disable:
        from tqdm import tqdm

        return tqdm(iterable, total=total, desc=desc, unit=unit, disable=disable)
    return _ProgressLines(iterable, total, desc, unit.strip())


class _ProgressLines(Generic[Item]):
    """What kreid uses of tqdm, in plain lines."""

    def __init__(self, iterable: Iterable[Item] | None, total: int | None, desc: str, unit: str) -> None:
        self._iterable = iterable
        self._total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self._desc = desc
        self._unit = unit if unit.endswith("s") else f"{unit}s"
        self._count = self._written = 0
        self._started = self._last = time.monotonic()

    def update(self, count: int = 1) -> None:
        """Count items that are done."""
        self._count += count
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._write()

    def close(self) -> None:
        """Write the last line, unless it is written."""
        if self._count > self._written:
            self._write()

    def _write(self) -> None:
        self._last, self._written = time.monotonic(), self._count
        of = f" of {self._total}" if self._total else ""
        sys.stderr.write(f"{self._desc}: {self._count}{of} {self._unit}, {self._last - self._started:.0f} s\n")
        sys.stderr.flush()

    def __iter__(self) -> Iterator[Item]:
        for item in self._iterable or ():
            yield item
            self.update()
        self.close()

    def __enter__(self) -> "_ProgressLines[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextlib.contextmanager
def _stream_held_back() -> Iterator[None]:
    """Send the standard error stream nowhere."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
