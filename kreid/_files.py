"""Files and folders that are written whole or not at all."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to, and rename it to `path` at the end of the block.

    The temporary path is in the folder of `path` and has its ending, because writers such as Keras's `model.save` go
    by the ending. The block writes a file or makes a folder there. If the block raises, what it wrote is deleted and
    `path` stays as it was.

    Args:
        path: of the file or folder; the folder above it exists. A folder that exists is replaced only if it is empty.

    Yields:
        A `pathlib.Path` at which there is nothing yet. Its name begins with `.writing-`.

    Example:

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with replacing(folder / "scores.npy") as temporary:
    ...     np.save(temporary, np.zeros(3))
    >>> os.listdir(folder)
    ['scores.npy']
    """
    path = Path(path)
    temporary = path.with_name(f".writing-{secrets.token_hex(6)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise


def write_atomically(path: str | os.PathLike[str], content: str | bytes | bytearray | memoryview) -> None:
    r"""Write a file under another name and rename it.

    Text is written as UTF-8. A file name that is not valid UTF-8 reaches Python as text with lone surrogates; these
    are written with a backslash, `\udce9`. In JSON that is the escape for the same character, so the name survives.

    Args:
        path: of the file; its folder exists.
        content: text or bytes.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(printable(content).encode() if isinstance(content, str) else content)


def printable(text: str) -> str:
    r"""Write lone surrogates, the bytes of a file name that is not valid UTF-8, with a backslash as `\udce9`.

    Example:

    >>> print(printable(os.fsdecode(b"Jos\xe9.jpg")))
    Jos\udce9.jpg
    """
    return text.encode(errors="backslashreplace").decode()
