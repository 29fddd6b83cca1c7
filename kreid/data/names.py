"""Names of persons and cameras as folders and file names give them: which of them mean the same."""

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
    """What the name of an image file says.

    Args:
        convention: whose names have this form.
        person: text, as in the name.
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
    """Read person and camera from the name of an image, where a benchmark's convention puts them there.

    Args:
        name: of the file, without its folder.

    Returns:
        A `FrameName`, or `None` for a name of no known form.

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
    """Reduce a name to what it means: a number where it is one, else the text.

    Args:
        name: of a person's or a camera's folder.

    Returns:
        An int for `7`, `0007`, `-1` and `00-1`; otherwise the name in Unicode's composed form, so that one name
        unpacked on two systems is one.

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
    """Reduce the name of a person's folder as `name_key` does; `distractor` and `junk` become their numbers.

    Example:

    >>> person_key("distractor"), person_key("0000"), person_key("junk"), person_key("-1")
    (0, 0, -1, -1)
    """
    return _RESERVED.get(name, name_key(name))


def number_persons(names: Iterable[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Number persons from 1 in natural order; distractors are 0 and junk is -1.

    Args:
        names: of the persons' folders; those that mean the same get the same number.

    Returns:
        Name to number, and number to name for the persons above 0.

    Example:

    >>> number_persons(["0007", "anna", "7", "0000", "-1"])
    ({'0000': 0, '7': 1, '0007': 1, '-1': -1, 'anna': 2}, {1: '7', 2: 'anna'})
    """
    return _numbered(names, person_key, reserved=set(_RESERVED.values()))


def number_cameras(names: Iterable[str]) -> tuple[dict[str, int], dict[int, str]]:
    """Number cameras from 1 in natural order of their names.

    Args:
        names: of the cameras' folders; those that mean the same get the same number.

    Returns:
        Name to number, and number to name.
    """
    return _numbered(names, name_key, reserved=set())


def naming_remarks(persons: Iterable[str], cameras: Iterable[str]) -> tuple[str, ...]:
    """Say which names were taken for one, and which stay apart although they differ in leading zeros alone.

    Args:
        persons: names of the persons' folders.
        cameras: names of the cameras' folders.

    Returns:
        Sentences, none where there is nothing to say.

    Example:

    >>> naming_remarks(["7", "0007"], ["c1", "c01"])
    ('one person under several names: 7 = 0007', 'cameras whose names differ in zeros alone are kept apart: c1, c01')
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
            remarks.append(f"{kind}s whose names differ in zeros alone are kept apart: {_some(near)}")
    return tuple(remarks)


def natural(name: str) -> tuple[list[int | str], str]:
    """Give the key by which names are sorted, so that numbers in them count as numbers."""
    # Pieces alternate between text and digits, so that like is compared with like; the name itself breaks ties.
    pieces = re.split(r"([0-9]+)", name)
    return [int(piece) if place % 2 else piece for place, piece in enumerate(pieces)], name


def _numbered(
    names: Iterable[str], key: Callable[[str], int | str], reserved: set[int]
) -> tuple[dict[str, int], dict[int, str]]:
    number_of: dict[int | str, int] = {number: number for number in reserved}
    numbers: dict[str, int] = {}
    names_of: dict[int, str] = {}
    # Of the names with one meaning the first is the one that reports show.
    for name in sorted(set(names), key=_shortest_first):
        meaning = key(name)
        if meaning not in number_of:
            number_of[meaning] = len(names_of) + 1
            names_of[number_of[meaning]] = name
        numbers[name] = number_of[meaning]
    return numbers, names_of


def _shortest_first(name: str) -> tuple[list[int | str], int, str]:
    """Natural order, with the shorter of two names first that differ in zeros alone."""
    return natural(name)[0], len(name), name


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
