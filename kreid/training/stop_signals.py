"""Ctrl-C and SIGTERM during training: the step ends, a checkpoint is saved, and training stops."""

import os
import signal
import threading
import types
from typing import Any

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal.

    Args:
        message: one sentence.
        number: of the signal.

    Attributes:
        status: exit status of a program that the signal stops, 128 and the signal's number.
    """

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = 128 + number


class StopSignals:
    """Keep Ctrl-C or SIGTERM until training is at a point where it can stop.

    As a context manager it takes both signals over, and gives them back at the end. The first signal is kept, for
    `check`; a second one stops at once. A signal that the process ignores stays ignored, as Ctrl-C in a background job
    of a shell. Outside the main thread, where Python takes no signals, nothing happens.

    Example:

    >>> signals = kreid.training.StopSignals()
    >>> try:
    ...     with signals:
    ...         signal.raise_signal(signal.SIGTERM)
    ...         signals.check("step 120 of epoch 4")
    ... except KeyboardInterrupt as stopped:
    ...     print(stopped)
    stopped by SIGTERM; the same command continues after step 120 of epoch 4
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._earlier: dict[int, Any] = {}

    @property
    def came(self) -> bool:
        """Whether a signal came."""
        return self._number is not None

    def check(self, position: str) -> None:
        """Stop training if a signal came.

        Args:
            position: the point of training that the last checkpoint has behind it, see `kreid.runs.position_text`.

        Raises:
            Stopped: a `KeyboardInterrupt`.
        """
        if self._number is not None:
            name = NAMES[signal.Signals(self._number)]
            raise Stopped(f"stopped by {name}; the same command continues after {position}", self._number)

    def __enter__(self) -> "StopSignals":
        self._number = None
        if threading.current_thread() is threading.main_thread():
            for number in NAMES:
                earlier = signal.getsignal(number)
                # None: taken by other code than Python, which could not get it back.
                if earlier not in (None, signal.SIG_IGN):
                    self._earlier[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        while self._earlier:
            signal.signal(*self._earlier.popitem())
        if error[0] is None:
            self.check("the last checkpoint")

    def _take(self, number: int, frame: types.FrameType | None) -> None:
        name = NAMES[signal.Signals(number)]
        if self._number is not None:
            raise Stopped(f"stopped at once by {name}; the same command continues after the last checkpoint", number)
        self._number = number
        # Not by print: the signal may have come while another line is printed.
        os.write(
            2, f"\n{name}: training stops with a checkpoint after this step or evaluation; again: at once\n".encode()
        )
