"""What programs write besides their results: progress, and the notices of native libraries."""

import contextlib
import os
import sys
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
    import that fails still raises. On a machine without a GPU, TensorFlow is told so: else it reports the missing CUDA
    driver. Programs call this before anything else; libraries do not.
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


@contextlib.contextmanager
def native_errors_held_back() -> Iterator[None]:
    """Suppress what native libraries write to the standard error stream; Python's own writing passes.

    For work in which native libraries complain of every bad file on the way to a report that names them all. Not for
    imports: a log that is set up meanwhile would keep the stream, which is closed in the end.
    """
    stream = sys.stderr
    with _stream_held_back() as kept, contextlib.ExitStack() as stack:
        if stream is sys.__stderr__ and stream is not None:
            own = stack.enter_context(
                os.fdopen(os.dup(kept), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            )
            stack.enter_context(contextlib.redirect_stderr(own))
        yield


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
def _stream_held_back() -> Iterator[int]:
    """Yield the descriptor of the stream that is held back."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield kept
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
