"""The versions that a server holds: which ones, by what labels, and how a new one replaces an old one."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kreid.serving.export import versions
from kreid.serving.loaded_model import LoadedModel
from kreid.serving.refusal import RequestRefused

# ModelVersionStatus.State
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50
MAX_ENDED = 10  # versions in state END that the status still lists


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """The versions of a base path that are served.

    Args:
        latest: number of highest versions; `None` for all versions or for `specific`.
        specific: the versions to serve; empty for all or for `latest`.

    Example:

    >>> VersionPolicy.parse("latest:2").choose([1, 2, 3])
    [2, 3]
    >>> VersionPolicy.parse("all").choose([1, 2, 3])
    [1, 2, 3]
    >>> VersionPolicy.parse("3,5").choose([1, 2, 3])
    [3]
    """

    latest: int | None = None
    specific: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> VersionPolicy:
        """Read a policy.

        Args:
            text: `"latest"`, `"latest:N"`, `"all"`, or version numbers with commas between them.

        Returns:
            The policy.

        Raises:
            ValueError: for other texts.
        """
        if text == "all":
            return cls()
        if match := re.fullmatch(r"latest(?::([1-9][0-9]{0,3}))?", text):
            return cls(latest=int(match[1] or 1))
        if re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", text):
            return cls(specific=tuple(sorted({int(number) for number in text.split(",")})))
        raise ValueError(
            "`versions` must be 'latest:N' with N from 1 to 9999, 'all', or version numbers such as '3,5'. "
            f"Received: versions={text!r}"
        )

    def choose(self, available: Iterable[int]) -> list[int]:
        """Return those of the available versions that are to be served, ascending."""
        if self.specific:
            return sorted(set(available) & set(self.specific))
        numbers = sorted(available)
        return numbers if self.latest is None else numbers[-self.latest :]


@dataclasses.dataclass
class VersionState:
    """What the status says of a version.

    Args:
        number: of the version.
        state: a `ModelVersionStatus.State`.
        error: why it could not be loaded; empty without an error.
    """

    number: int
    state: int = START
    error: str = ""
    model: LoadedModel | None = dataclasses.field(default=None, repr=False)
    users: int = 0
    files: Any = dataclasses.field(default=None, repr=False)  # of a version that could not be loaded


class ServedVersions:
    """The versions of one base path, loaded and unloaded while requests run.

    A new version is loaded before an old one is unloaded, and an old one is unloaded when its last request has ended.
    A version that cannot be loaded leaves the others as they are; it is tried again when its files change. A folder
    without versions unloads nothing.

    Args:
        base_path: folder of version folders.
        name: of the model, for messages.
        policy: which versions to serve.
        labels: version number by label.
        changed: called with each `VersionState` that changes, from the thread that loads.

    Raises:
        ValueError: if the policy names versions that do not exist, or there is no version at all.
    """

    def __init__(
        self,
        base_path: str | os.PathLike[str],
        name: str,
        policy: VersionPolicy,
        labels: Mapping[str, int],
        changed: Callable[[VersionState], None] = lambda state: None,
    ) -> None:
        self.base_path = Path(base_path)
        self.name = name
        existing = versions(base_path)
        if not existing:
            raise ValueError(
                "The folder has no version: give the base path with the subfolders 1, 2, ... that export_model writes. "
                f"Received: base_path={base_path}"
            )
        _check_exist(policy, labels, existing)
        self.policy = policy
        self.labels = dict(labels)
        self.highest = policy.choose(existing)[-1]
        self._changed = changed
        self._states: dict[int, VersionState] = {}
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._closed = False
        self._freed = False

    def load(self) -> None:
        """Load what the policy asks for; with `latest`, the next lower version where none can be loaded.

        Raises:
            ValueError: if no version can be loaded, or a label's version is not among the loaded ones.
        """
        with self._loading:
            existing = versions(self.base_path)
            first = self._load_all(self.policy.choose(existing))
            if self.policy.latest is not None:
                for number in reversed(existing):
                    if self.available() or self._closed:
                        break
                    first = self._load_all([number]) or first
        loaded = self.available()
        if not loaded and not self._closed:
            raise ValueError(first or f"The folder has no version any more. Received: base_path={self.base_path}")
        _check_labels(self.labels, loaded)

    def poll(self) -> None:
        """Load new versions of the folder and unload those that the policy no longer asks for."""
        with self._loading:
            self._update(self.policy)
        if self._freed:
            self._freed = False
            gc.collect()  # a graph's Python objects refer to each other

    def reload(self, policy: VersionPolicy, labels: Mapping[str, int]) -> None:
        """Serve by another policy and other labels; on an error everything stays as it is.

        Args:
            policy: which versions to serve.
            labels: version number by label.

        Raises:
            ValueError: if a version that the policy or a label names does not exist or cannot be loaded.
        """
        with self._loading:
            existing = versions(self.base_path)
            _check_exist(policy, labels, existing)
            wanted = policy.choose(existing)
            error = self._load_all(wanted, again=True)
            loaded = self.available()
            try:
                if error and (policy.specific or not set(wanted) & set(loaded)):
                    raise ValueError(error)
                _check_labels(labels, [number for number in loaded if number in wanted])
            except ValueError:
                self._update(self.policy)  # unload again what only the refused policy asked for
                raise
            with self._lock:
                self.policy, self.labels = policy, dict(labels)
            self._update(policy)

    def close(self) -> None:
        """Unload everything; versions with running requests are freed after these."""
        with self._lock:
            self._closed = True
            loaded = [state for state in self._states.values() if state.state == AVAILABLE]
        for state in loaded:
            self._unload(state)

    def available(self) -> list[int]:
        """Return the numbers of the versions that can be asked for, ascending."""
        with self._lock:
            return self._available()

    def fingerprints(self) -> dict[int, str]:
        """Return the fingerprint of each version that can be asked for, by its number; empty where unknown."""
        with self._lock:
            models = {number: self._states[number].model for number in self._available()}
        return {number: model.fingerprint or "" for number, model in models.items() if model is not None}

    def states(self) -> list[VersionState]:
        """Return copies of all versions' states, highest version first."""
        with self._lock:
            states = [dataclasses.replace(state, model=None, files=None) for state in self._states.values()]
        return sorted(states, key=lambda state: -state.number)

    @contextlib.contextmanager
    def use(self, version: int | None, label: str | None = None) -> Iterator[tuple[int, LoadedModel]]:
        """Hold a version for one request.

        Args:
            version: number, or `None` for the label's or the highest.
            label: of a version, or `None`.

        Yields:
            The version's number and model, which stays loaded until the end of the block.

        Raises:
            RequestRefused: if there is no such label or version.
        """
        with self._lock:
            if label is not None:
                if label not in self.labels:
                    raise RequestRefused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
                version = self.labels[label]
            number = max(self._available(), default=None) if version is None else version
            state = self._states.get(number) if number is not None else None
            if state is None or state.state != AVAILABLE or state.model is None:
                requested = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise RequestRefused("NOT_FOUND", f"Servable not found for request: {requested}")
            state.users += 1
        try:
            yield state.number, state.model
        finally:
            with self._lock:
                state.users -= 1
            self._free(state)

    def _available(self) -> list[int]:
        return sorted(number for number, state in self._states.items() if state.state == AVAILABLE)

    def _update(self, policy: VersionPolicy) -> None:
        wanted = policy.choose(versions(self.base_path))
        if not wanted:  # such as a disk that is away for a moment
            return
        self._load_all(wanted)
        surplus = [number for number in self.available() if number not in wanted]
        # Where a wanted version is broken or missing, an old one fills its place.
        for number in surplus[: max(0, len(self.available()) - len(wanted))]:
            self._unload(self._states[number])
        self._forget()

    def _load_all(self, numbers: Iterable[int], again: bool = False) -> str:
        """Load what is not loaded yet; return the first error."""
        error = ""
        for number in numbers:
            with self._lock:
                state = self._states.get(number)
                failed = state is not None and bool(state.error)
                if self._closed or (state is not None and state.state in (AVAILABLE, LOADING)):
                    continue
                revived = state is not None and state.state == UNLOADING and state.model is not None
                if state is not None and revived:  # its last request still runs
                    state.state = AVAILABLE
            if state is not None and revived:
                self._changed(state)
                continue
            files = _files(self.base_path / str(number))
            if failed and not again and state is not None and state.files == files:
                continue
            state = VersionState(number, LOADING)
            with self._lock:
                self._states[number] = state
            self._changed(state)
            try:
                model = LoadedModel(self.base_path / str(number))
            except Exception as failure:  # whatever is wrong with a new version, the others stay
                with self._lock:
                    state.state, state.error, state.files = END, str(failure) or repr(failure), files
                error = error or state.error
            else:
                with self._lock:
                    state.model, state.state = model, AVAILABLE
                    closed = self._closed
                if closed:
                    self._unload(state)
            self._changed(state)
        return error

    def _unload(self, state: VersionState) -> None:
        with self._lock:
            if state.state != AVAILABLE:
                return
            state.state = UNLOADING
        self._changed(state)
        self._free(state)

    def _free(self, state: VersionState) -> None:
        """Free a version that is to be unloaded and has no request."""
        with self._lock:
            if state.state != UNLOADING or state.users or state.model is None:
                return
            model, state.model, state.state = state.model, None, END
        model.close()
        self._freed = True
        self._changed(state)

    def _forget(self) -> None:
        with self._lock:
            ended = sorted(number for number, state in self._states.items() if state.state == END)
            for number in ended[:-MAX_ENDED]:
                del self._states[number]


def _check_exist(policy: VersionPolicy, labels: Mapping[str, int], existing: list[int]) -> None:
    missing = sorted((set(policy.specific) | set(labels.values())) - set(existing))
    if missing:
        raise ValueError(
            f"The folder has no such version; it has {', '.join(map(str, existing))}. "
            f"Received: versions={', '.join(map(str, missing))}"
        )
    _check_labels(labels, policy.choose(existing))


def _check_labels(labels: Mapping[str, int], loaded: Iterable[int]) -> None:
    for label, number in labels.items():
        if number not in loaded:
            raise ValueError(
                f"A label may only name a version that is served. Received: label={label}={number}, "
                f"versions={', '.join(map(str, loaded))}"
            )


def _files(folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of a version's files, to notice a change."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.stat(os.path.join(root, name))
                found.append((os.path.join(root, name), status.st_size, status.st_mtime_ns))
    return sorted(found)
