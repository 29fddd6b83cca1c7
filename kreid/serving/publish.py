"""Versions in a base path: published whole, never overwritten, and the oldest removed."""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from kreid._files import replacing, sync

# Servers parse the names of versions as int64.
LARGEST_VERSION = 2**63 - 1


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """List the versions in a base path.

    Args:
        directory: base path. Subfolders whose names are not integers are skipped.

    Returns:
        A list of int, ascending; empty if the folder is missing.
    """
    try:
        entries = list(os.scandir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = [int(e.name) for e in entries if e.name.isascii() and e.name.isdigit() and e.is_dir()]
    return sorted(number for number in numbers if number <= LARGEST_VERSION)


def next_version(directory: str | os.PathLike[str]) -> int:
    """Return the version after the highest one in a base path.

    Args:
        directory: base path; it may be missing.

    Returns:
        int, 1 for an empty or missing folder.
    """
    return max(versions(directory), default=0) + 1


@contextlib.contextmanager
def publishing(directory: Path, version: int | None) -> Iterator[tuple[Path, list[Path]]]:
    """Yield a folder to write a version to, and give it the version's name at the end of the block.

    A polling server looks for integer names, so it does not see the folder before it is complete. If the block raises,
    nothing is left of it.

    Args:
        directory: base path, an existing folder.
        version: its number, or `None` for the next free one at the end of the block: exporters that run at once publish
            one version each.

    Yields:
        The folder, which does not exist yet, and a list that has the version's path after the block.

    Raises:
        ValueError: if the version exists.
    """
    complete = directory / f".complete-{secrets.token_hex(6)}"
    published: list[Path] = []
    try:
        with replacing(complete) as temporary:
            yield temporary, published
        published.append(_named(complete, directory, version))
    finally:
        shutil.rmtree(complete, ignore_errors=True)


def check_version(directory: Path, version: int | None) -> None:
    """Raise `ValueError` unless a new version may have this number, or `None` for the next one."""
    if version is None:
        return
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= LARGEST_VERSION:
        raise ValueError(f"`version` must be a positive integer. Received: version={version!r}")
    check_free(directory, version)


def check_free(directory: Path, version: int) -> None:
    """Raise `ValueError` if a version exists."""
    if os.path.lexists(directory / str(version)):
        raise ValueError(
            f"This version exists and is not overwritten; the next free one is {next_version(directory)}. "
            f"Received: version={version}, directory={directory}"
        )


def _named(complete: Path, directory: Path, version: int | None) -> Path:
    with _locked(directory):
        number = next_version(directory) if version is None else version
        while True:
            path = directory / str(number)
            try:
                # Renaming replaces no folder that holds something.
                os.rename(complete, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if version is not None:
                    check_free(directory, version)
                    raise
                number += 1  # A file has the name, or somebody has copied a version here.
            else:
                sync(directory)
                return path


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one exporter at a time name or remove versions: a number must not be free again between look and rename.

    Some network file systems lock no folders. There exporters still overwrite nothing, but may reuse a removed number.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def remove_old_versions(
    directory: str | os.PathLike[str], keep: int, published: int | None = None, file: str = "saved_model.pb"
) -> list[int]:
    """Remove the oldest complete versions in a base path.

    Each is renamed before it is deleted, so that no server sees half of it. A server that has loaded a version goes on
    answering with it. Folders without the model's file are neither counted nor removed.

    Args:
        directory: base path.
        keep: how many of the highest versions stay.
        published: a version that stays whatever its number.
        file: of the model, in the folder of a version.

    Returns:
        The numbers of the removed versions, ascending.

    Raises:
        ValueError: if `keep` is not a positive integer.

    Example:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for version in "123":
    ...     (folder / version).mkdir()
    ...     (folder / version / "saved_model.pb").touch()
    >>> remove_old_versions(folder, keep=2), versions(folder)
    ([1], [2, 3])
    """
    check_keep(keep)
    directory = Path(directory)
    removed: list[int] = []
    discarded: list[Path] = []
    if not directory.is_dir():
        return removed
    with _locked(directory):
        complete = [number for number in versions(directory) if (directory / str(number) / file).is_file()]
        for number in complete[:-keep]:
            if number == published:
                continue
            discarded.append(directory / f".removing-{secrets.token_hex(6)}")
            try:
                os.rename(directory / str(number), discarded[-1])
            except FileNotFoundError:  # Somebody else removed it.
                continue
            removed.append(number)
    for folder in discarded:
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def check_keep(keep: int) -> None:
    """Raise `ValueError` unless at least one version is kept."""
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ValueError(
            f"`keep` must be a positive integer, the number of versions that stay. Received: keep={keep!r}"
        )
