"""Embeddings of a gallery's files, kept between queries."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kreid.gallery.embeddings import BROKEN, read_arrays, write_arrays


def default_folder() -> Path:
    """Return the folder for kept embeddings: `kreid/galleries` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kreid" / "galleries"


class GalleryStore:
    """One file with the embeddings of one gallery by one model.

    The file's name is a digest of the gallery's path and the model's fingerprint, so another model never reads it. Each
    tracklet is known by a digest of its frames' paths, sizes and modification times: changed tracklets are embedded
    again, and those that are gone leave the file.

    Args:
        folder: of the file; created, readable by its user alone, if it is missing.
        gallery: path of the gallery.
        fingerprint: of the model.

    Attributes:
        path: of the file.
    """

    def __init__(self, folder: str | os.PathLike[str], gallery: str | os.PathLike[str], fingerprint: str) -> None:
        name = hashlib.sha256(os.fsencode(os.path.realpath(gallery))).hexdigest()[:16]
        self.path = Path(folder) / f"{name}-{fingerprint[:16]}.npz"
        self._fingerprint = fingerprint

    def load(self) -> dict[str, tuple[NDArray[np.float32], int]]:
        """Read the file.

        Returns:
            A dict of key, see `tracklet_key`, to embedding and number of readable frames. Empty if there is no file.

        Raises:
            ValueError: if `save` did not write the file.
        """
        if not self.path.is_file():
            return {}
        try:
            arrays = read_arrays(self.path)
            keys, embeddings, valid = arrays["keys"].tolist(), arrays["embeddings"], arrays["valid"]
            if arrays["fingerprint"].item() != self._fingerprint:
                return {}
            if embeddings.dtype != np.float32 or embeddings.ndim != 2 or not len(keys) == len(embeddings) == len(valid):
                raise ValueError("its arrays do not fit together")
        except BROKEN as error:
            raise ValueError(
                f"The file of kept embeddings is damaged ({error}); delete it. Received: path={str(self.path)!r}"
            ) from error
        return {key: (row, int(count)) for key, row, count in zip(keys, embeddings, valid, strict=True)}

    def save(self, keys: Sequence[str], embeddings: NDArray[np.float32], valid: NDArray[np.int32]) -> None:
        """Write the file, whole or not at all.

        Args:
            keys: of the tracklets, see `tracklet_key`.
            embeddings: float32 `(tracklets, features)`.
            valid: int32 `(tracklets,)`, numbers of readable frames.

        Raises:
            OSError: if the file cannot be written.
        """
        # Embeddings tell persons apart, so other users must not read them.
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        arrays = {"keys": np.array(keys, np.str_), "embeddings": np.asarray(embeddings), "valid": valid}
        write_arrays(self.path, {**arrays, "fingerprint": np.array(self._fingerprint)})


def tracklet_key(paths: Sequence[str]) -> str:
    """Return a digest of files' paths, sizes and modification times.

    Args:
        paths: of a tracklet's frames that are embedded.

    Returns:
        A str of 64 hexadecimal digits.

    Raises:
        OSError: if a file is missing.
    """
    files = []
    for path in paths:
        stat = os.stat(path)
        files.append((os.fsencode(os.path.abspath(path)).hex(), stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()
