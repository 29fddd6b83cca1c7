"""Files that are written whole or not at all."""

import os
import pathlib


def write_atomically(path, text):
    """Writes a text file under another name and renames it.

    Args:
        path: of the file; its folder exists.
        text: its content.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"writing-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
