"""Write files and folders completely or not at all."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], size: int | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to `path` at the end of the block.

    The temporary path is in the folder of `path` and has its extension, because writers such as Keras's `model.save`
    depend on the extension. The block writes a file or a folder there. If the block raises, the temporary path is
    deleted and `path` is unchanged.

    Args:
        path: of the file or folder, in an existing folder. An existing folder at `path` is replaced only if it is
            empty.
        size: expected bytes, for the error of a full disk.

    Raises:
        OSError: if the disk is full, with the path and the room.

    Yields:
        A `pathlib.Path` that does not exist yet. Its name begins with `.writing-`.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "scores.npy") as temporary:
    ...     np.save(temporary, np.zeros(3))
    >>> os.listdir(folder)
    ['scores.npy']
    """
    path = Path(os.path.abspath(path))
    # Keras wants both endings of a file of weights, `.weights.h5`.
    temporary = path.with_name(f".writing-{secrets.token_hex(6)}{''.join(path.suffixes[-2:])}")
    try:
        yield temporary
        if temporary.is_file():
            sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except BaseException as error:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError) and _is_disk_full(error):
            free = shutil.disk_usage(path.parent).free
            needed = "" if size is None else f", {size} bytes needed"
            raise OSError(
                error.errno or errno.ENOSPC,
                f"The disk is full, so the file was not written and an older one is unchanged; free some space and "
                f"repeat the command. Received: path={str(path)!r}, {free} bytes free{needed}",
            ) from error
        raise


def check_place(path: str | os.PathLike[str]) -> None:
    """Check, before long work, that a new file or folder can be renamed to a path; folders on the way may be missing.

    Raises:
        OSError: if the path is a mount point, or the nearest folder that exists is a file or cannot be written to.
    """
    place = Path(os.path.abspath(path))
    if os.path.ismount(place):
        raise OSError(f"A mount point cannot be replaced; give a folder inside it. Received: path={os.fspath(path)!r}")
    nearest = next(folder for folder in place.parents if os.path.lexists(folder))
    if not nearest.is_dir():
        raise NotADirectoryError(f"{nearest} is a file; give another path. Received: path={os.fspath(path)!r}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{nearest} cannot be written to; give another path. Received: path={os.fspath(path)!r}")


def _is_disk_full(error: OSError) -> bool:
    """Whether a write failed because the disk or the user's quota is full; HDF5 says so only in its text."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk, so that a renamed file is whole after a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], content: str | bytes | bytearray | memoryview) -> None:
    r"""Write a file under a temporary name and rename it.

    Text is written as UTF-8. Python represents a file name that is not valid UTF-8 as text with lone surrogates; these
    are written with a backslash, `\udce9`. In JSON this is the escape for the same character, so the name is preserved.

    Args:
        path: of the file, in an existing folder.
        content: text or bytes.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(printable(content).encode() if isinstance(content, str) else content)


# More than any file of settings: below it, unpacking costs nothing.
_ALWAYS_UNPACKED = 16 * 2**20


def times_larger(unpacked: int, size: int) -> bool:
    """Whether a file of a size declares more content than Keras, PyTorch and kreid write, which compress no arrays."""
    return unpacked > max(2 * size, _ALWAYS_UNPACKED)


def check_unpacked_size(path: str | os.PathLike[str]) -> None:
    """Check that a zip file of arrays does not unpack to much more than its size. Other files pass.

    Args:
        path: of the file.

    Raises:
        ValueError: if it does.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as file:
        unpacked = sum(entry.file_size for entry in file.infolist())
    size = os.stat(path).st_size
    if times_larger(unpacked, size):
        raise ValueError(
            f"This file unpacks to {unpacked} bytes, which no file of arrays does; get it again from its source. "
            f"Received: path={str(path)!r} of {size} bytes"
        )


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: str) -> str:
    r"""Escape lone surrogates, which are bytes of a file name that is not valid UTF-8, as in `\udce9`.

    Example:

    >>> print(printable(os.fsdecode(b"Jos\xe9.jpg")))
    Jos\udce9.jpg
    """
    return text.encode(errors="backslashreplace").decode()
