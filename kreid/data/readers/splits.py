"""The ten halvings of the small sets into train and test persons: the published ones, or drawn anew."""

import itertools
from typing import NamedTuple

import numpy as np

from kreid.data.readers.index import MEND, read_json, read_matrices
from kreid.data.readers.listing import image_files, subfolders
from kreid.data.tracklet import ReidDataset, Tracklet

SPLITS = 10


class Split(NamedTuple):
    """Names of the persons of a split, and where it is from.

    Args:
        train: folder names of the train persons, sorted.
        test: those of the test persons.
        origin: the split's number and source, in words.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    origin: str


def drawn_split(names, number):
    """Draws one of ten splits: the same for the same names, whatever their order and the machine.

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
        raise ValueError(f"A split needs two persons to train on and two to find. Received: persons={names}")
    # The stream of RandomState is frozen, while a Generator's may change with NumPy's version.
    test = set(np.random.RandomState(number).permutation(len(names))[: len(names) // 2].tolist())
    return Split(
        tuple(name for row, name in enumerate(names) if row not in test),
        tuple(name for row, name in enumerate(names) if row in test),
        f"{number} of {SPLITS} drawn by kreid",
    )


def check_number(number):
    """Refuses the number of a split that is not from 1 to 10."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= SPLITS:
        raise ValueError(f"Splits are numbered from 1 to {SPLITS}. Received: split={number!r}")


def listed_split(path, number):
    """Reads a split from a JSON list of ten `{"train": [names], "test": [names]}`.

    Args:
        path: `pathlib.Path`.
        number: of the split, from 1.

    Returns:
        A `Split`.

    Raises:
        ValueError: naming the split and the name that is wrong.
    """
    listed = read_json(path)
    if not isinstance(listed, list) or len(listed) != SPLITS:
        raise ValueError(f"{path.name} must hold a list of {SPLITS} splits; {MEND}. Received: path={str(path)!r}")
    found = listed[number - 1]
    parts = [found.get(part) if isinstance(found, dict) else None for part in ("train", "test")]
    for part, names in zip(("train", "test"), parts, strict=True):
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"Split {number} of {path.name} must have a list of folder names as {part!r}; {MEND}. "
                f"Received: {part}={names!r:.60}"
            )
    everyone = sorted(parts[0] + parts[1])
    twice = [name for name, following in itertools.pairwise(everyone) if name == following]
    if twice:
        raise ValueError(f"Split {number} of {path.name} names a person twice; {MEND}. Received: person={twice[0]!r}")
    return Split(tuple(sorted(parts[0])), tuple(sorted(parts[1])), f"{number} of {path.name}")


def numbered_split(path, number, names=None):
    """Reads a split from `ls_set`: ten rows of numbers of persons, of which the first half are the test persons.

    Args:
        path: `pathlib.Path` of a MATLAB file, or of a JSON file that has the names as `person_dirs` besides.
        number: of the split, from 1.
        names: folder names of the persons, sorted, which the numbers count from 1; the file's own where it has them.

    Returns:
        A `Split`.

    Raises:
        ValueError: naming the row and the number that is wrong.
    """
    found = read_json(path) if path.suffix == ".json" else read_matrices(path)
    try:
        rows = np.array(found["ls_set"])
        names = list(found["person_dirs"]) if path.suffix == ".json" else list(names)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name} must hold the table ls_set; {MEND}. Received: path={str(path)!r}") from error
    if rows.dtype.kind not in "iu" or rows.shape != (SPLITS, len(names)):
        raise ValueError(
            f"ls_set in {path.name} must have {SPLITS} rows with a number for each of the {len(names)} persons: unpack "
            f"all persons' folders, or {MEND}. Received: shape={rows.shape}"
        )
    row = rows[number - 1]
    seen = set()
    for value in row.tolist():
        if not 1 <= value <= len(names) or value in seen:
            raise ValueError(
                f"Row {number} of ls_set in {path.name} must have each of 1 to {len(names)} once; {MEND}. "
                f"Received: person={value}"
            )
        seen.add(value)
    half = len(names) // 2
    test, train = (tuple(sorted(names[value - 1] for value in part)) for part in (row[:half], row[half:]))
    return Split(train, test, f"{number} of {path.name}")


def two_cameras(root, folders, split, number_of):
    """The data set of a split of persons, each of whom two cameras saw once.

    Args:
        root: `pathlib.Path` of the data set, which gives it its name.
        folders: folder of each of the two cameras, which holds a folder for each person.
        split: a `Split`.
        number_of: function from the name of a person's folder to the person's number.

    Returns:
        A `ReidDataset`: the first camera's test tracklets are the queries, the second one's the gallery.

    Raises:
        FileNotFoundError: if no person of a part has an image.
        ValueError: if a name is no person's folder.
    """
    for name in split.train + split.test:
        if number_of(name) is None:
            raise ValueError(
                f"Split {split.origin} must name folders of persons who were seen by both cameras; {MEND}. "
                f"Received: person={name!r}"
            )
    frames = {
        (camera, folder.name): image_files(folder)
        for camera, place in enumerate(folders, start=1)
        for folder in subfolders(place)
        if folder.name in {*split.train, *split.test}
    }
    parts, empty = {}, []
    for part, names in (("train", split.train), ("test", split.test)):
        parts[part] = []
        for camera, place in enumerate(folders, start=1):
            for name in names:
                tracklet = Tracklet(
                    f"{part}/{place.name}/{name}", number_of(name), camera, frames.get((camera, name), ())
                )
                if tracklet.frames:
                    parts[part].append(tracklet)
                else:
                    empty.append(tracklet.id)
        if not parts[part]:
            raise FileNotFoundError(
                f"No person of split {split.origin} has an image among the {part} persons: unpack the data set into "
                f"the root. Received: root={str(root)!r}"
            )
    return ReidDataset(
        name=root.name,
        train=tuple(parts["train"]),
        test=tuple(parts["test"]),
        query_rows=tuple(row for row, tracklet in enumerate(parts["test"]) if tracklet.camera == 1),
        empty=tuple(empty),
        camera_names={camera: place.name for camera, place in enumerate(folders, start=1)},
        split=split.origin,
    )
