"""Files that are written whole or not at all."""

import os
import pathlib


def write_atomically(path, content):
    """Writes a file under another name and renames it.

    Args:
        path: of the file; its folder exists.
        content: text or bytes.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"writing-{path.name}")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)
