"""A record of unreadable frames, by name."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from kreid._files import printable
from kreid._quiet import decoder_complaints_dropped


class DamageLog:
    """Counts unreadable frames and stops a run that meets too many.

    Args:
        max_damaged: float in `[0, 1]`. `check` raises when a larger share of
            the distinct frames tried is damaged.

    Raises:
        ValueError: if `max_damaged` is outside its range.

    Example:

    >>> log = DamageLog(max_damaged=0.5)
    >>> log.add(["a.jpg", "a.jpg"])
    >>> log.counts
    {'a.jpg': 2}
    """

    def __init__(self, max_damaged: float = 0.05) -> None:
        if not 0 <= max_damaged <= 1:
            raise ValueError(f"`max_damaged` is a share, from 0 to 1. Received: max_damaged={max_damaged}")
        self.max_damaged = max_damaged
        self._counts: Counter[str] = Counter()
        self._tracklets: dict[str, None] = {}
        self._refusal: str | None = None
        self._tried = 0
        self._lock = threading.Lock()

    @property
    def counts(self) -> dict[str, int]:
        """Dict of frame name to the number of times that it could not be read."""
        with self._lock:
            return dict(self._counts)

    @property
    def tracklets(self) -> tuple[str, ...]:
        """Ids of tracklets without a readable frame, in the order of their discovery."""
        with self._lock:
            return tuple(self._tracklets)

    @property
    def tried(self) -> int:
        """Number of distinct frames tried up to the last `add`; 0 before it."""
        with self._lock:
            return self._tried

    def add(self, frames: Iterable[str], tracklets: Iterable[str] = (), tried: int = 0) -> None:
        """Add unreadable frames, and tracklets without a readable frame.

        Args:
            frames: names of frames; each occurrence counts once.
            tracklets: ids of tracklets.
            tried: int, distinct frames tried so far. Batches are loaded in
                parallel and may report out of order; the largest value counts.
        """
        with self._lock:
            self._counts.update(frames)
            self._tracklets.update(dict.fromkeys(tracklets))
            self._tried = max(self._tried, tried)

    def check(self) -> None:
        """Raise when too many frames are damaged.

        Raises:
            ValueError: if the share of damaged frames is above `max_damaged`. The message lists the first 20.
        """
        with self._lock:
            counts, tried = dict(self._counts), self._tried
        if len(counts) > self.max_damaged * tried:
            self._refusal = (
                f"{len(counts)} of {tried} frames cannot be read, more than the {self.max_damaged:.1%} allowed. "
                "Replace or remove these files, or raise `max_damaged`.\n"
                f"{_listed(counts, 20)}\nReceived: max_damaged={self.max_damaged}"
            )
            raise ValueError(self._refusal)

    @contextlib.contextmanager
    def plainly(self) -> Iterator[None]:
        """Raise the plain error of `check`, and drop the native decoders' lines about damaged files.

        Put it around the loop that iterates a pipeline's dataset: tf.data wraps the error in another one, and decoders
        write lines without the file's name to standard error.

        Raises:
            ValueError: as `check` does.
        """
        try:
            with decoder_complaints_dropped():
                yield
        except Exception:
            if self._refusal is None:
                raise
            raise ValueError(self._refusal) from None

    def report(self) -> str:
        """Describe the damage as text of several lines.

        Returns:
            A str; `"no damaged frames"` when there is none.
        """
        counts = self.counts
        if not counts:
            return "no damaged frames"
        lines = [f"{len(counts)} damaged frames:", _listed(counts, 20)]
        if self.tracklets:
            lines.append(f"tracklets without a readable frame: {', '.join(self.tracklets)}")
        return printable("\n".join(lines))


def _listed(counts: Mapping[str, int], limit: int) -> str:
    lines = [f"  {printable(name)} ({count} times)" for name, count in sorted(counts.items())[:limit]]
    if len(counts) > limit:
        lines.append(f"  and {len(counts) - limit} more")
    return "\n".join(lines)
