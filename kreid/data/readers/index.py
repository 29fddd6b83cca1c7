"""Read and check the index files of benchmarks: lists of names, MATLAB matrices and JSON."""

import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kreid.data.readers.listing import contents_of, inside

FIX = "download the published file again"

# The errors of h5py, lzma and json for truncated files and files of another format.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, IndexError, KeyError, RuntimeError, NotImplementedError),
    *(lzma.LZMAError, zlib.error),
)
_HDF5 = b"\x89HDF\r\n\x1a\n"
# MATLAB writes its own header before the HDF5 file.
_HDF5_STARTS = (0, 512)


def find_file(folder: Path, *names: str) -> Path:
    """Find a file in a folder, under one of several names in any letter case.

    Args:
        folder: `pathlib.Path`.
        *names: of the file, in the order of preference.

    Returns:
        Its path.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    for name in names:
        path = inside(folder, name)
        if path is not None and path.is_file():
            return path
    raise FileNotFoundError(
        f"{' (or '.join(names)}{')' * (len(names) - 1)} is missing next to the other index files; "
        f"{contents_of(folder)}. Received: info={str(folder)!r}"
    )


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file, which may be compressed as `.xz`; empty lines are skipped.

    Args:
        path: `pathlib.Path`.

    Returns:
        A list of str.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8-sig") as lines:
            return [line.strip() for line in lines if line.strip()]
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Args:
        path: `pathlib.Path`.

    Returns:
        Its content.

    Raises:
        ValueError: if the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except _UNREADABLE as error:
        raise _damaged(path, error) from error


def read_matrices(path: Path) -> dict[str, NDArray[np.int64]]:
    """Read the matrices of numbers in a MATLAB file of version 7.3 (which is HDF5) or earlier.

    Args:
        path: `pathlib.Path`.

    Returns:
        A dict from the variable's name to an `int64` array, shaped as in MATLAB.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if the file cannot be read, or a number is not whole.
    """
    path = find_file(path.parent, path.name)
    try:
        contents = _read_hdf5(path) if _is_hdf5(path) else _read_matlab(path)
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    matrices = {}
    for name, values in contents.items():
        # Files also have MATLAB's own entries, and may have text.
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf" or values.ndim != 2:
            continue
        broken = np.argwhere(values != np.round(values))
        if broken.size:
            row, column = broken[0]
            raise ValueError(
                f"Row {row + 1} of {name} in {path.name} must hold whole numbers; {FIX}. "
                f"Received: {name}={values[row, column]}"
            )
        matrices[name] = values.astype(np.int64)
    return matrices


def read_matrix(path: Path) -> NDArray[np.int64]:
    """Read the only matrix of a MATLAB file; see `read_matrices`."""
    matrices = read_matrices(path)
    if len(matrices) != 1:
        raise ValueError(
            f"{path.name} must hold exactly one matrix of numbers; {FIX}. Received: path={str(path)!r}, with "
            f"{', '.join(matrices) or 'none'}"
        )
    return next(iter(matrices.values()))


def check_columns(tracks: np.ndarray, path: Path) -> None:
    """Raise `ValueError` unless a table has the four columns start, end, person, camera."""
    if tracks.ndim != 2 or tracks.shape[1] != 4:
        raise ValueError(
            f"{path.name} must have the columns start, end, person, camera; {FIX}. Received: shape={tracks.shape}"
        )


def query_rows(numbers: np.ndarray, count: int, path: Path, table: str) -> list[int]:
    """Convert a benchmark's list of queries, which counts from 1, to rows from 0.

    Args:
        numbers: int array.
        count: number of rows of the table.
        path: `pathlib.Path` of the list.
        table: name of the table.

    Returns:
        A list of rows, from 0.

    Raises:
        ValueError: if an entry is outside the table or repeated.
    """
    numbers = numbers.ravel()
    outside = (numbers < 1) | (numbers > count)
    repeated = np.ones(len(numbers), bool)
    repeated[np.unique(numbers, return_index=True)[1]] = False
    for wrong, message in (
        (outside, f"must be a row of {table}, 1 to {count}"),
        (repeated, f"names a row of {table} twice"),
    ):
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            raise ValueError(f"Query {place + 1} of {path.name} {message}; {FIX}. Received: query={numbers[place]}")
    return (numbers - 1).tolist()


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_HDF5_STARTS[-1] + len(_HDF5))
    return any(start[place:].startswith(_HDF5) for place in _HDF5_STARTS)


def _read_matlab(path: Path) -> dict[str, Any]:
    # Imported here: folders of tracklets need no MATLAB files, and queries read them where SciPy may be missing.
    import scipy.io

    try:
        return scipy.io.loadmat(path)
    except scipy.io.matlab.MatReadError as error:
        raise ValueError(str(error)) from error


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    with h5py.File(path, "r") as file:
        # MATLAB stores columns first, so HDF5 reads the transpose. Groups, such as its references, have no numbers.
        return {name: value[()].T if isinstance(value, h5py.Dataset) else value for name, value in file.items()}


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path.name} is damaged or of another format ({type(error).__name__}: {error}); {FIX}. "
        f"Received: path={str(path)!r}"
    )
