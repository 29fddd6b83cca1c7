"""Read and number the persons and cameras that folder and file names denote."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kreid.data.tracklet import DISTRACTOR, JUNK

_RESERVED = {"distractor": DISTRACTOR, "junk": JUNK}
_DIGITS = re.compile(r"[0-9]+")
_NUMBER = re.compile(r"-?[0-9]+")
_MARS_JUNK = "00-1"


class FrameName(NamedTuple):
    """Person and camera in the name of an image file.

    Args:
        convention: the data set whose names have this form.
        person: str, as in the name.
        camera: int.
    """

    convention: str
    person: str
    camera: int


_CONVENTIONS = {
    "Market-1501": re.compile(r"(?P<person>-1|[0-9]+)_c(?P<camera>[0-9]+)"),
    "MARS": re.compile(r"(?P<person>00-1|[0-9]{4})C(?P<camera>[0-9])T[0-9]+F[0-9]+\."),
    "DukeMTMC-VideoReID": re.compile(r"(?P<person>[0-9]{4})_?C(?P<camera>[0-9])_?F[0-9]+_?[XD][0-9]+\.", re.IGNORECASE),
}


def parse_frame_name(name: str) -> FrameName | None:
    """Read person and camera from an image's name, if it follows a benchmark's convention.

    Args:
        name: of the file, without its folder.

    Returns:
        A `FrameName`, or `None` if the name has no known form.

    Example:

    >>> parse_frame_name("0002_c1s1_000451_03.jpg")
    FrameName(convention='Market-1501', person='0002', camera=1)
    >>> parse_frame_name("000451.jpg") is None
    True
    """
    for convention, form in _CONVENTIONS.items():
        match = form.match(name)
        if match is not None:
            return FrameName(convention, match["person"], int(match["camera"]))
    return None


def name_key(name: str) -> int | str:
    """Convert a name to a form in which equal names are equal: a number if it is one, else normalised text.

    Args:
        name: of a person's or a camera's folder.

    Returns:
        An int for `7`, `0007`, `-1` and `00-1`; otherwise the name in Unicode's composed form, because systems write
        accents differently.

    Example:

    >>> name_key("0007"), name_key("7"), name_key("00-1"), name_key("p07")
    (7, 7, -1, 'p07')
    """
    if name == _MARS_JUNK:
        return JUNK
    if _NUMBER.fullmatch(name):
        return int(name)
    return unicodedata.normalize("NFC", name)


def person_key(name: str) -> int | str:
    """Convert the name of a person's folder as `name_key` does, and `distractor` and `junk` to their numbers.

    Example:

    >>> person_key("distractor"), person_key("0000"), person_key("junk"), person_key("-1")
    (0, 0, -1, -1)
    """
    return _RESERVED.get(name, name_key(name))


def number_persons(names: Iterable[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Number persons from 1 in natural order; distractors are 0 and junk is -1.

    Args:
        names: of the persons' folders; names with the same `person_key` get the same number.

    Returns:
        A tuple of dicts: name to number, and number to name for the persons above 0.

    Example:

    >>> number_persons(["0007", "anna", "7", "0000", "-1"])
    ({'0000': 0, '7': 1, '0007': 1, '-1': -1, 'anna': 2}, {1: '7', 2: 'anna'})
    """
    return _numbered(names, person_key, reserved=set(_RESERVED.values()))


def number_cameras(names: Iterable[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Number cameras from 1 in natural order of their names.

    Args:
        names: of the cameras' folders; names with the same `name_key` get the same number.

    Returns:
        A tuple of dicts: name to number, and number to name.

    Example:

    >>> number_cameras(["c10", "c2"])
    ({'c2': 1, 'c10': 2}, {1: 'c2', 2: 'c10'})
    """
    return _numbered(names, name_key, reserved=set())


def naming_remarks(persons: Iterable[str], cameras: Iterable[str]) -> tuple[str, ...]:
    """Describe names that count as one, and different names that differ only in leading zeros.

    Args:
        persons: names of the persons' folders.
        cameras: names of the cameras' folders.

    Returns:
        A tuple of phrases; empty without such names.

    Example:

    >>> naming_remarks(["7", "0007"], ["c1", "c01"])
    ('one person under several names: 7 = 0007', 'different cameras with names that differ only in zeros: c1, c01')
    """
    remarks = []
    for kind, names, key in (("person", persons, person_key), ("camera", cameras, name_key)):
        groups: dict[int | str, list[str]] = {}
        for name in sorted(set(names), key=_shortest_first):
            groups.setdefault(key(name), []).append(name)
        same = [" = ".join(group) for group in groups.values() if len(group) > 1]
        if same:
            remarks.append(f"one {kind} under several names: {_some(same)}")
        alike: dict[str, list[str]] = {}
        for name in (name for name in groups if isinstance(name, str)):
            alike.setdefault(_DIGITS.sub(lambda number: str(int(number[0])), name), []).append(name)
        near = [name for group in alike.values() if len(group) > 1 for name in group]
        if near:
            remarks.append(f"different {kind}s with names that differ only in zeros: {_some(near)}")
    return tuple(remarks)


def natural(name: str) -> tuple[list[int | str], str]:
    """Return a sort key that compares the numbers in names as numbers (`2.jpg` before `10.jpg`)."""
    # Pieces alternate between text and digits, so text is compared with text; the name itself breaks ties.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], name


def _numbered(
    names: Iterable[str], key: Callable[[str], int | str], reserved: set[int]
) -> tuple[dict[str, int], dict[int, str]]:
    number_of: dict[int | str, int] = {number: number for number in reserved}
    numbers: dict[str, int] = {}
    names_of: dict[int, str] = {}
    # Reports show the first of the names with the same key.
    for name in sorted(set(names), key=_shortest_first):
        key_of_name = key(name)
        if key_of_name not in number_of:
            number_of[key_of_name] = len(names_of) + 1
            names_of[number_of[key_of_name]] = name
        numbers[name] = number_of[key_of_name]
    return numbers, names_of


def _shortest_first(name: str) -> tuple[list[int | str], int, str]:
    """Return a natural sort key that puts the shorter of two names first if they differ only in zeros."""
    return natural(name)[0], len(name), name


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
