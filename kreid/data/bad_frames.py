"""Draw the faults of real tracklets: frames of other persons, covered, blurred, half out of the picture, or dark.

Plain NumPy. A draw is a table of whole numbers, a row for each frame; `kreid.data.spoil` changes the pixels by it.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.data.tracklet import Tracklet

#: Frames of one other person, frames each of another person, and four faults of the picture.
KINDS = ("another_person", "other_persons", "covered", "blurred", "half_out", "dark")
#: The kinds that put frames of other tracklets in place.
SWITCHES = ("another_person", "other_persons")
PLACES = ("by_kind", "run", "scattered")
#: Numbers of a frame's fault: the kind's number in `KINDS` from 1, or 0 for a good frame, and seven for the kind.
FAULT_WIDTH = 8
#: Lengths are kept in these parts of a frame's height or width, so that a draw fits every image size.
PARTS = 1 << 16


@dataclass(frozen=True)
class BadFrames:
    """Which faults the clips of training batches have, and in how many of their frames.

    Each clip draws one kind and a number of bad frames, both uniformly. The clip keeps its label.

    Args:
        kinds: some of `KINDS`: `"another_person"` (frames of one other person of the camera, as when a tracker
            switches), `"other_persons"` (each of another person of the camera), `"covered"` (by an object, in most of
            the picture), `"blurred"`, `"half_out"` (the person's box is half beside the person), `"dark"`.
        frames: `(fewest, most)` bad frames of a clip: whole numbers, or shares of its frames if one of them is a
            fraction, such as `(0, 0.375)`. A clip keeps at least one good frame.
        places: which frames are bad: `"run"` (adjacent ones), `"scattered"` or `"by_kind"`: a run for
            `"another_person"`, as a tracker follows one person and then another, and scattered for all others.

    Raises:
        ValueError: for an unknown kind or place, no kind, or a range that is no range.

    Example:

    >>> BadFrames(kinds=("dark", "covered"), frames=(0, 0.375)).counts(num_frames=8)
    (0, 3)
    """

    kinds: Sequence[str] = KINDS
    frames: Sequence[float] = (0, 3)
    places: str = "by_kind"

    def __post_init__(self) -> None:
        check_kinds(self.kinds)
        _check_places(self.places)
        frames = self.frames
        if (
            not isinstance(frames, (list, tuple))
            or len(frames) != 2
            or not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in frames)
            or not 0 <= frames[0] <= frames[1]
            or (self._are_shares and frames[1] >= 1)
        ):
            raise ValueError(
                "The bad frames of a clip are [fewest, most], two whole numbers from 0 or two shares below 1. "
                f"Received: frames={frames!r}"
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> "BadFrames":
        """Make it from the data of a recipe's key `bad_frames`.

        Raises:
            ValueError: for a key that it does not have, or as the constructor does.

        Example:

        >>> BadFrames.from_settings({"kinds": ["dark"], "frames": [0, 2]}).kinds
        ('dark',)
        """
        known = tuple(cls.__dataclass_fields__)
        unknown = [key for key in settings if key not in known]
        if unknown:
            raise ValueError(
                f"`bad_frames` has the keys {', '.join(known)}. Received: {unknown[0]}={settings[unknown[0]]!r}"
            )
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
        }
        return cls(**values)

    @property
    def _are_shares(self) -> bool:
        return not all(float(value).is_integer() for value in self.frames)

    def counts(self, num_frames: int) -> tuple[int, int]:
        """Return the fewest and the most bad frames of a clip.

        Args:
            num_frames: int, frames of the clip.

        Raises:
            ValueError: if clips have fewer than two frames, or all of them could be bad.
        """
        if num_frames < 2:
            raise ValueError(
                "Bad frames need clips of two frames or more, so that a good one is left; set `bad_frames` for the "
                f"phases with clips alone. Received: num_frames={num_frames}"
            )
        if self._are_shares:
            return bad_count(num_frames, self.frames[0]), bad_count(num_frames, self.frames[1])
        if self.frames[1] >= num_frames:
            raise ValueError(
                f"A clip of {num_frames} frames keeps a good one; lower the most bad frames to {num_frames - 1} or "
                f"less. Received: frames={list(self.frames)!r}"
            )
        return int(self.frames[0]), int(self.frames[1])


@dataclass(frozen=True, eq=False)
class BadTracklet:
    """A tracklet with faults.

    Args:
        tracklet: the `Tracklet`; where its frames show another person, they name the other tracklet's files.
        bad: bool `(frames,)`, True on bad frames.
        faults: int32 `(frames, FAULT_WIDTH)`, see `draw_faults`.
    """

    tracklet: Tracklet
    bad: NDArray[np.bool_]
    faults: NDArray[np.int32]


def draw_bad_frames(
    tracklets: Sequence[Tracklet], kind: str, share: float, *, seed: int = 0, places: str = "by_kind"
) -> list[BadTracklet]:
    """Draw the faults of test tracklets.

    A draw depends on the seed, the kind and the tracklet's id, and for the other persons on the list of tracklets;
    never on the order of batches or on a model, so that all models see the same faults. With a larger share the bad
    frames of a smaller one stay bad, with the same faults, except where rounding gives both the same number.

    Args:
        tracklets: sequence of `Tracklet`. Other persons are those of the same camera among them, identities alone: a
            distractor may be anyone. If the camera shows nobody else, they are of any camera.
        kind: one of `KINDS`.
        share: float from 0 and below 1, bad frames of all frames of a tracklet; see `bad_count`.
        seed: int, 0 or more.
        places: see `BadFrames`.

    Returns:
        A list of `BadTracklet`, in the order of `tracklets`.

    Raises:
        ValueError: for an unknown kind or place, a share out of its range, or a switch without another person.

    Example:

    >>> files = {person: tuple(f"{person}_{time}.jpg" for time in range(8)) for person in (1, 2)}
    >>> tracklets = [Tracklet(f"t{person}", person, camera=1, frames=frames) for person, frames in files.items()]
    >>> first, second = draw_bad_frames(tracklets, "another_person", share=2 / 8)
    >>> first.tracklet.frames[3:6], first.bad.nonzero()[0].tolist()
    (('1_3.jpg', '2_5.jpg', '2_6.jpg'), [4, 5])
    """
    check_kinds((kind,))
    _check_places(places)
    if not 0 <= share < 1:
        raise ValueError(f"The share of bad frames is from 0 and below 1. Received: share={share!r}")
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more. Received: seed={seed}")
    others = OtherPersons(tracklets)
    drawn = []
    for row, tracklet in enumerate(tracklets):
        key = zlib.crc32(tracklet.id.encode(errors="surrogateescape"))
        rng = np.random.default_rng((seed, KINDS.index(kind), key))
        faults = draw_faults(others, row, len(tracklet), kind, bad_count(len(tracklet), share), places, rng)
        bad = faults[:, 0] > 0
        if kind in SWITCHES:
            frames = list(tracklet.frames)
            for place in np.flatnonzero(bad).tolist():
                frames[place] = tracklets[faults[place, 1]].frames[faults[place, 2]]
            tracklet = replace(tracklet, frames=tuple(frames))
        drawn.append(BadTracklet(tracklet, bad, faults))
    return drawn


def draw_faults(
    others: "OtherPersons", row: int, length: int, kind: str, count: int, places: str, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Draw the faults of one clip or tracklet.

    The same generator with a larger count gives the same faults, and more of them.

    Args:
        others: whose frames may be put in place.
        row: of the tracklet, in `others`.
        length: frames of the clip.
        kind: one of `KINDS`.
        count: of the bad frames.
        places: see `BadFrames`.
        rng: `np.random.Generator`.

    Returns:
        `int32 (length, FAULT_WIDTH)`, zeros for a good frame. A bad one has the number of its kind in `KINDS`, from 1,
        and: for switches, the other tracklet's row and the frame in it; covered, the object's top, left, height and
        width, two colours as `red * 65536 + green * 256 + blue`, and the height of its stripes, 0 for none; blurred,
        the reach of the mean down and to the right; half out, the way that the picture moves, down and to the right;
        dark, the factor of its values. Lengths are in `PARTS` of the frame's height or width, the factor in `PARTS`.
    """
    is_run = places == "run" or (places == "by_kind" and kind == "another_person")
    order = _growing_run(length, rng) if is_run else rng.permutation(length)
    faults = np.zeros((length, FAULT_WIDTH), np.int32)
    if not count:
        return faults
    numbers = np.zeros((length, FAULT_WIDTH), np.int64)
    numbers[:, 0] = KINDS.index(kind) + 1
    if kind == "another_person":
        numbers[:, 1:3] = others.one(row, length, rng)
    elif kind == "other_persons":
        # In the order in which frames become bad: persons come again only after all others.
        numbers[order, 1:3] = others.each(row, length, rng)
    else:
        drawn = _PICTURE_FAULTS[kind](length, rng)
        numbers[:, 1 : 1 + drawn.shape[1]] = drawn
    bad = order[:count]
    faults[bad] = numbers[bad]
    return faults


def _growing_run(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return all positions in an order whose first k, for every k, are a run at a uniformly random place."""
    counts = np.arange(1, length + 1)
    # With one number for all counts, a run starts where the shorter one does, or one position before it.
    starts = (rng.random() * (length - counts + 1)).astype(np.int64)
    earlier = np.concatenate([starts[:1], starts[:-1]])
    return np.where(starts < earlier, starts, starts + counts - 1)


def bad_count(length: int, share: float) -> int:
    """Return the number of bad frames nearest to a share (halves up), so that one good frame is left.

    Example:

    >>> [bad_count(length, 3 / 8) for length in (1, 2, 4, 8, 100)]
    [0, 1, 2, 3, 38]
    """
    return max(0, min(length - 1, int(share * length + 0.5)))


class OtherPersons:
    """Frames of other persons in the camera of a tracklet.

    Args:
        tracklets: sequence of `Tracklet`.
    """

    def __init__(self, tracklets: Sequence[Tracklet]) -> None:
        self._ids = [tracklet.id for tracklet in tracklets]
        self._persons = np.array([tracklet.person for tracklet in tracklets])
        self._cameras = np.array([tracklet.camera for tracklet in tracklets])
        self._lengths = np.array([len(tracklet) for tracklet in tracklets])

    def rows(self, row: int) -> NDArray[np.int64]:
        """Return the rows of the other persons' tracklets: of the tracklet's camera, or of any if it has none.

        Raises:
            ValueError: if there is no other person.
        """
        other = (self._persons > 0) & (self._persons != self._persons[row]) & (self._lengths > 0)
        here = np.flatnonzero(other & (self._cameras == self._cameras[row]))
        rows = here if len(here) else np.flatnonzero(other)
        if not len(rows):
            raise ValueError(
                "Frames of another person need a second person; leave out the kinds "
                f"{' and '.join(SWITCHES)}. Received: no other person than that of {self._ids[row]!r}"
            )
        return rows

    def one(self, row: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw one other tracklet and adjacent frames of it, from the first again after its last.

        Returns:
            `int64 (count, 2)`: rows and positions.
        """
        drawn = rng.choice(self.rows(row))
        length = self._lengths[drawn]
        positions = (rng.integers(length) + np.arange(count)) % length
        return np.stack([np.full(count, drawn), positions], axis=1)

    def each(self, row: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw one frame of each of several persons; persons come again only if there are fewer than frames.

        Returns:
            `int64 (count, 2)`: rows and positions.
        """
        mixed = rng.permutation(self.rows(row))
        _, first = np.unique(self._persons[mixed], return_index=True)
        drawn = np.resize(mixed[np.sort(first)], count)
        return np.stack([drawn, rng.integers(self._lengths[drawn])], axis=1)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `ValueError` unless these are some of `KINDS`."""
    if isinstance(kinds, str) or not kinds or any(kind not in KINDS for kind in kinds):
        raise ValueError(f"The kinds of bad frames are some of {', '.join(KINDS)}. Received: kinds={kinds!r}")


def _check_places(places: str) -> None:
    if places not in PLACES:
        raise ValueError(f"The places of bad frames are one of {', '.join(PLACES)}. Received: places={places!r}")


def _parts(values: ArrayLike) -> NDArray[np.int64]:
    return np.rint(np.asarray(values) * PARTS).astype(np.int64)


def _covered(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """An object of 0.6 to 0.9 of the height and 0.75 to 1 of the width, of one colour or striped."""
    size = rng.uniform((0.6, 0.75), (0.9, 1.0), (length, 2))
    corner = rng.random((length, 2)) * (1 - size)
    colours = rng.integers(0, 1 << 24, (length, 2))
    stripes = rng.uniform(0.02, 0.1, (length, 1)) * (rng.random((length, 1)) < 0.5)
    return np.concatenate([_parts(corner), _parts(size), colours, _parts(stripes)], axis=1)


def _blurred(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Means over squares of a side between 1/12 and 1/6 of the height; widths are half of heights."""
    reach = rng.uniform(1 / 24, 1 / 12, (length, 1))
    return _parts(np.concatenate([reach, 2 * reach], axis=1))


def _half_out(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Moved by 0.4 to 0.6, to the left, the right, up or down."""
    moved = rng.uniform(0.4, 0.6, length) * rng.choice((-1, 1), length)
    is_down = rng.random(length) < 0.5
    return _parts(np.stack([moved * is_down, moved * ~is_down], axis=1))


def _dark(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Values times 0.05 to 0.2."""
    return _parts(rng.uniform(0.05, 0.2, (length, 1)))


_PICTURE_FAULTS = {"covered": _covered, "blurred": _blurred, "half_out": _half_out, "dark": _dark}
