"""Show progress, and suppress the notices of native libraries."""

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
    """Import TensorFlow without its notices.

    TensorFlow writes notices before its log level applies, so standard error is discarded during the import. A failing
    import still raises. On a machine without a GPU no device is made visible, because otherwise TensorFlow reports the
    missing CUDA driver. With `KERAS_BACKEND=jax`, too, TensorFlow gets no GPU: it would reserve the memory that JAX
    needs. Programs call this first; libraries do not call it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    without_gpu = not any(map(os.path.exists, _GPU_DEVICES))
    if without_gpu:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with stderr_discarded():
        import tensorflow

        if without_gpu:
            # The first search for devices reports the missing driver; later ones do not.
            tensorflow.config.list_physical_devices()
        if os.environ.get("KERAS_BACKEND") == "jax":
            tensorflow.config.set_visible_devices([], "GPU")


# Beginnings of the messages of libjpeg (its jerror.h) and libpng, and the source files of TensorFlow that call them.
_COMPLAINTS = (
    r"^(Corrupt JPEG data|Premature end of|Improper call to JPEG|Invalid JPEG|Not a JPEG file|Unsupported JPEG|"
    r"JPEG datastream|JPEG parameter struct|Empty input file|Empty JPEG image|Bogus |Inconsistent progression|"
    r"Invalid SOS|Invalid progressive|Invalid component ID|Invalid scan script|Invalid crop|Unsupported marker|"
    r"Unsupported color conversion|Unknown Adobe|Application transferred too|Huffman code size|Huffman table 0x|"
    r"Arithmetic table 0x|Quantization table 0x|Missing Huffman code|Maximum supported image dimension|"
    r"Image too wide for this|Input file read error|Output file write error|Insufficient memory \(case|"
    r"Sampling factors too large|Fractional sampling not|CCIR601 sampling|Too many color components|"
    r"Suspension not allowed|DCT coefficient|DCT scaled|IDCT output|Component index|Cannot quantize|"
    r"Didn't expect more than one scan|Scan script does not|Warning: unknown JFIF|Virtual array controller|"
    r"Requested feature was omitted|Not implemented yet|Wrong JPEG library|Buffer passed to JPEG|"
    r"Unexpected end of JPEG|libpng (error|warning))|tensorflow/core/lib/(jpeg|png|gif)/"
)
# A separate process, so that the last lines before a crash are still shown. Text without a line end passes at once.
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
    """Drop the warnings of image decoders about damaged files; other output on standard error is unchanged.

    Decoders write a warning for each damaged file, without its name, directly to the process's standard error.
    `kreid.data.DamageLog` names the files instead. Can be nested, and used by several threads at once.
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
    """Filter descriptor 2, but not Python's stream, so that it still is a terminal if it was one."""
    stream = sys.stderr
    if stream is not None:
        stream.flush()
    original = os.dup(2)
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _FILTER, _COMPLAINTS], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stdin is not None
        os.dup2(process.stdin.fileno(), 2)
        process.stdin.close()
        if stream is sys.__stderr__ and stream is not None:
            sys.stderr = _stream_to(original, stream)
        try:
            yield
        finally:
            if sys.stderr is not None and sys.stderr is not stream:
                sys.stderr.flush()
                sys.stderr = stream
            os.dup2(original, 2)
            # A program started in the block may have the filter's input open; then the filter ends with that program.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1)
    finally:
        os.close(original)


def _stream_to(descriptor: int, like: TextIO) -> TextIO:
    """Return a text stream to a descriptor's file. It stays open, because a log handler may still use it."""
    status = os.fstat(descriptor)
    file = status.st_dev, status.st_ino
    if file not in _open_streams:
        _open_streams[file] = os.fdopen(
            os.dup(descriptor), "w", buffering=1, encoding=like.encoding, errors=like.errors
        )
    return _open_streams[file]


def on_a_terminal(stream: TextIO | None) -> bool:
    """Return whether a stream is an open terminal, where a progress bar can redraw its line."""
    return stream is not None and not stream.closed and stream.isatty()


def progress_bar(
    iterable: Iterable[Item] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    disable: bool = False,
) -> Any:
    """Show the progress of a long task on standard error.

    On a terminal it is tqdm's bar. Elsewhere, as in a log file, it is one line every half minute and one at the end.

    Args:
        iterable: to iterate over, or `None` if the caller calls `update`.
        total: number of items, if it is known.
        desc: description of the task.
        unit: name of the items.
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
    """The part of tqdm's interface that kreid uses, with lines instead of a bar."""

    def __init__(self, iterable: Iterable[Item] | None, total: int | None, desc: str, unit: str) -> None:
        self._iterable = iterable
        self._total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self._desc = desc
        self._unit = unit if unit.endswith("s") else f"{unit}s"
        self._count = self._written = 0
        self._started = self._last = time.monotonic()

    def update(self, count: int = 1) -> None:
        """Count finished items."""
        self._count += count
        if time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._write()

    def close(self) -> None:
        """Write the last line, unless it is already written."""
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
def stderr_discarded() -> Iterator[None]:
    """Discard the process's standard error."""
    sys.stderr.flush()
    original, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
        os.close(null)
