"""The log of a gallery: who asked for what and when, without embeddings."""

import contextlib
import datetime
import getpass
import json
import os
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any


class AuditLog:
    """A file of one JSON object per line, to which lines are appended.

    Each has `time` (UTC), `who`, `action` and what belongs to it. Several processes may write.

    Args:
        path: of the file.
        who: who asks; by default the user and the machine.

    Example:

    >>> import tempfile
    >>> log = AuditLog(pathlib.Path(tempfile.mkdtemp()) / "audit.jsonl", who="ann")
    >>> log.append("delete", tracklets=2)
    >>> [(line["who"], line["action"], line["tracklets"]) for line in log]
    [('ann', 'delete', 2)]
    """

    def __init__(self, path: pathlib.Path, who: str | None = None) -> None:
        self._path, self._who = path, _user() if who is None else who
        self._asking = threading.local()

    @contextlib.contextmanager
    def asked_by(self, who: str) -> Iterator[None]:
        """Name somebody else in the lines of this thread, inside the block.

        Args:
            who: asks.
        """
        before = getattr(self._asking, "who", self._who)
        self._asking.who = who
        try:
            yield
        finally:
            self._asking.who = before

    def append(self, action: str, **details: Any) -> None:
        """Append a line.

        Args:
            action: that was asked for.
            **details: data that `json` can write.

        Raises:
            OSError: if the file cannot be written.
        """
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        who = getattr(self._asking, "who", self._who)
        line = json.dumps({"time": now, "who": who, "action": action, **details}) + "\n"
        try:
            # One write to the end of the file, so that lines of several processes do not mix.
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":  # A full disk cut the last line off.
                    line = f"\n{line}"
                if os.write(file, line.encode()) < len(line):
                    raise OSError("the disk is full")
            finally:
                os.close(file)
        except OSError as error:
            raise OSError(
                f"Nothing was done, because the gallery's log cannot be written: {error.strerror or error}. Received: "
                f"path={str(self._path)!r}"
            ) from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the lines; one that a full disk cut off is left out."""
        if not self._path.exists():
            return
        with open(self._path, encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue


def _user() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # A container's user without a name.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
