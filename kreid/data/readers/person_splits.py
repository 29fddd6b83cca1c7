"""The ten splits of the small data sets into train and test persons: published ones, or drawn by kreid."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kreid.data.readers.index import FIX, read_json, read_matrices
from kreid.data.readers.listing import Listing, below, inside, is_system_name, list_folder, subfolders
from kreid.data.tracklet import ReidDataset, Tracklet

SPLITS = 10


class Split(NamedTuple):
    """The persons of a split.

    Args:
        train: sorted folder names of the train persons.
        test: sorted folder names of the test persons.
        origin: number and source of the split, in words.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    origin: str


def drawn_split(names: Iterable[str], number: int) -> Split:
    """Draw one of ten splits, which depends only on the names and the number.

    Args:
        names: folder names of the persons.
        number: of the split, from 1.

    Returns:
        A `Split`, with half of the persons in `test`.

    Raises:
        ValueError: for fewer than four persons.

    Example:

    >>> split = drawn_split(["d", "b", "a", "c"], 1)
    >>> sorted(split.train + split.test), len(split.test), split == drawn_split("abcd", 1)
    (['a', 'b', 'c', 'd'], 2, True)
    """
    names = sorted(names)
    if len(names) < 4:
        raise ValueError(f"A split needs two persons to train on and two to test on. Received: persons={names}")
    # The stream of RandomState is frozen, while a Generator's may change with NumPy's version.
    test = set(np.random.RandomState(number).permutation(len(names))[: len(names) // 2].tolist())
    return Split(
        tuple(name for row, name in enumerate(names) if row not in test),
        tuple(name for row, name in enumerate(names) if row in test),
        f"{number} of {SPLITS} drawn by kreid",
    )


def check_number(number: int) -> None:
    """Raise `ValueError` unless the number of a split is from 1 to 10."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= SPLITS:
        raise ValueError(f"`split` must be an int from 1 to {SPLITS}. Received: split={number!r}")


def find_split_file(folders: Iterable[Path | None], known: Sequence[str]) -> Path | None:
    """Find the file of published splits.

    Every JSON or MATLAB file with `split` in its name counts, so that no file of splits is overlooked and replaced by
    drawn splits.

    Args:
        folders: folders to search, the most likely first.
        known: names under which such files are published, the preferred first.

    Returns:
        The path, or `None`.

    Raises:
        ValueError: if there are several files, all with unknown names.
    """
    files = []
    for folder in dict.fromkeys(folders):
        if folder is not None and folder.is_dir():
            names = (name.name for name in sorted(folder.iterdir()) if not is_system_name(name.name))
            files += [
                folder / name
                for name in names
                if name.lower() in {each.lower() for each in known}
                or ("split" in name.lower() and name.lower().endswith((".json", ".mat")))
            ]
    for name in known:
        for file in files:
            if file.name.lower() == name.lower():
                return file
    if len(files) > 1:
        raise ValueError(
            f"There are several files of splits; keep one, or rename it to {known[0]}. "
            f"Received: {', '.join(map(str, files))}"
        )
    return files[0] if files else None


def published_split(path: Path, number: int, names: Sequence[str]) -> Split:
    """Read a split from a file of names (see `listed_split`) or of numbers (see `numbered_split`).

    Args:
        path: `pathlib.Path` of a JSON or MATLAB file.
        number: of the split, from 1.
        names: sorted folder names of the persons, to which numbers in the file refer, from 1.

    Returns:
        A `Split`.

    Raises:
        ValueError: if the file has neither form, or a wrong name or number.
    """
    if path.suffix.lower() == ".json" and isinstance(read_json(path), list):
        return listed_split(path, number)
    return numbered_split(path, number, names)


def listed_split(path: Path, number: int) -> Split:
    """Read a split from a JSON list of ten `{"train": [names], "test": [names]}`.

    Args:
        path: `pathlib.Path`.
        number: of the split, from 1.

    Returns:
        A `Split`.

    Raises:
        ValueError: if the split is not two lists of different names.
    """
    listed = read_json(path)
    if not isinstance(listed, list) or len(listed) != SPLITS:
        raise ValueError(f"{path.name} must hold a list of {SPLITS} splits; {FIX}. Received: path={str(path)!r}")
    entry = listed[number - 1]
    train, test = (
        _checked_names(entry.get(part) if isinstance(entry, dict) else None, part, path, number)
        for part in ("train", "test")
    )
    twice = [name for name, following in itertools.pairwise(sorted(train + test)) if name == following]
    if twice:
        raise ValueError(f"Split {number} of {path.name} names a person twice; {FIX}. Received: person={twice[0]!r}")
    return Split(tuple(sorted(train)), tuple(sorted(test)), f"{number} of {path.name}")


def _checked_names(names: object, part: str, path: Path, number: int) -> list[str]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"Split {number} of {path.name} must have a list of folder names as {part!r}; {FIX}. "
            f"Received: {part}={names!r:.60}"
        )
    return names


def numbered_split(path: Path, number: int, names: Sequence[str]) -> Split:
    """Read a split from `ls_set`: ten rows with all persons' numbers, the test persons in the first half.

    Args:
        path: `pathlib.Path` of a MATLAB file, or of a JSON file that also has the names as `person_dirs`.
        number: of the split, from 1.
        names: sorted folder names of the persons, to which the numbers of a MATLAB file refer, from 1.

    Returns:
        A `Split`.

    Raises:
        ValueError: if `ls_set` is missing, or the row is not a permutation of the persons' numbers.
    """
    is_json = path.suffix.lower() == ".json"
    contents = read_json(path) if is_json else read_matrices(path)
    try:
        rows = np.array(contents["ls_set"])
        names = list(contents["person_dirs"] if is_json else names)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path.name} must hold the table ls_set, or a list of {SPLITS} splits; {FIX}. Received: path={str(path)!r}"
        ) from error
    if rows.dtype.kind not in "iu" or rows.shape != (SPLITS, len(names)):
        raise ValueError(
            f"ls_set in {path.name} must have {SPLITS} rows with a number for each of the {len(names)} persons: unpack "
            f"all persons' folders, or {FIX}. Received: shape={rows.shape}"
        )
    row = rows[number - 1]
    seen: set[int] = set()
    for value in row.tolist():
        if not 1 <= value <= len(names) or value in seen:
            raise ValueError(
                f"Row {number} of ls_set in {path.name} must have each of 1 to {len(names)} once; {FIX}. "
                f"Received: person={value}"
            )
        seen.add(value)
    half = len(names) // 2
    test, train = (tuple(sorted(names[value - 1] for value in part)) for part in (row[:half], row[half:]))
    return Split(train, test, f"{number} of {path.name}")


def find_cameras(root: Path, places: Iterable[Sequence[str]], camera: str) -> Path | None:
    """Find the folder that holds the cameras' folders.

    Args:
        root: `pathlib.Path` of the data set.
        places: possible paths of the folder below the root, as sequences of names.
        camera: name of the first camera's folder.

    Returns:
        The folder, or `None`.
    """
    for place in places:
        path = inside(root, *place)
        folder = inside(path, camera) if path is not None else None
        if folder is not None and folder.is_dir():
            return path
    return None


def camera_folders(place: Path | None, names: Sequence[str]) -> list[Path] | None:
    """Return the folders of all cameras in a folder, or `None` if one is missing."""
    folders = [inside(place, name) for name in names] if place is not None else [None]
    present = [folder for folder in folders if folder is not None]
    return present if len(present) == len(names) else None


def two_cameras(
    root: Path, folders: Sequence[Path], split: Split, number_of: Callable[[str], int | None]
) -> ReidDataset:
    """Build the data set of a split of persons with one tracklet in each of two cameras.

    Args:
        root: `pathlib.Path` of the data set, which gives it its name.
        folders: folders of the two cameras, each with one folder per person.
        split: a `Split`.
        number_of: function from the name of a person's folder to the person's number, or `None` for other folders.

    Returns:
        A `ReidDataset`: the first camera's test tracklets are the queries, the second camera's the gallery.

    Raises:
        FileNotFoundError: if no train person or no test person has an image.
        ValueError: if a name in the split is not a person's folder.
    """
    for name in split.train + split.test:
        if number_of(name) is None:
            raise ValueError(
                f"Split {split.origin} must name folders of persons in both cameras; {FIX}. Received: person={name!r}"
            )
    listings = {
        (camera, folder.name): list_folder(folder)
        for camera, place in enumerate(folders, start=1)
        for folder in subfolders(place)
        if folder.name in {*split.train, *split.test}
    }
    parts: dict[str, list[Tracklet]] = {}
    empty = []
    for part, names in (("train", split.train), ("test", split.test)):
        parts[part] = []
        for camera, place in enumerate(folders, start=1):
            for name in names:
                frames = listings.get((camera, name), Listing((), (), ())).images
                tracklet = Tracklet(f"{part}/{place.name}/{name}", number_of(name) or 0, camera, frames)
                if tracklet.frames:
                    parts[part].append(tracklet)
                else:
                    empty.append(tracklet.id)
        if not parts[part]:
            raise FileNotFoundError(
                f"No {part} person of split {split.origin} has an image: unpack the data set into the root. "
                f"Received: root={str(root)!r}"
            )
    return ReidDataset(
        name=root.name,
        train=tuple(parts["train"]),
        test=tuple(parts["test"]),
        query_rows=tuple(row for row, tracklet in enumerate(parts["test"]) if tracklet.camera == 1),
        empty=tuple(empty),
        camera_names={camera: place.name for camera, place in enumerate(folders, start=1)},
        split=split.origin,
        skipped_files=below(root, [file for listing in listings.values() for file in listing.others]),
    )
