"""Choose tracklets of a gallery by their labels."""

import dataclasses
import difflib
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kreid._files import printable
from kreid.gallery.embeddings import TrackletEmbeddings


@dataclasses.dataclass(frozen=True)
class Where:
    """Conditions on the labels of tracklets. A tracklet is chosen if all that are given hold; by default each is.

    Args:
        ids: the tracklet is one of these.
        persons: the person is one of these; 0 is unknown.
        cameras: the camera is one of these.
        not_cameras: the camera is none of these.
        since: seconds; the tracklet ends then or later. One without a time is not chosen.
        until: seconds; the tracklet begins before. One without a time is not chosen.
        sources: the source is one of these.
        tags: the tracklet has each of these tags, with this value.

    Raises:
        ValueError: if a condition has the wrong type, or the time span is empty.

    Example:

    >>> walks = kreid.gallery.TrackletEmbeddings(
    ...     [[0.0], [0.1]], ["a", "b"], [7, 9], [1, 2], tags=[{"coat": "red"}, {"coat": "blue"}]
    ... )
    >>> kreid.gallery.Where(cameras=[1, 2], tags={"coat": "red"}).mask(walks).tolist()
    [True, False]
    """

    ids: Sequence[str] | None = None
    persons: Sequence[int] | None = None
    cameras: Sequence[int] | None = None
    not_cameras: Sequence[int] | None = None
    since: float | None = None
    until: float | None = None
    sources: Sequence[str] | None = None
    tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "sources"):
            self._set(name, lambda value: _text(value))
        for name in ("persons", "cameras", "not_cameras"):
            self._set(name, _integer)
        for name in ("since", "until"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
                raise ValueError(f"A time is a number of seconds. Received: {name}={value!r}")
            object.__setattr__(self, name, float(value))
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ValueError(f"`until` is after `since`. Received: since={self.since}, until={self.until}")
        if self.tags is not None:
            if not isinstance(self.tags, Mapping):
                raise ValueError(f"`tags` maps names to values. Received: tags={self.tags!r}")
            try:
                object.__setattr__(self, "tags", {_text(name): _text(value) for name, value in self.tags.items()})
            except TypeError:
                raise ValueError(
                    f"Names and values of tags are str of valid Unicode. Received: tags={self.tags!r}"
                ) from None
        # Without this, deleting where a program found no conditions would delete all.
        for name in ("not_cameras", "tags"):
            object.__setattr__(self, name, getattr(self, name) or None)

    def _set(self, name: str, convert: Any) -> None:
        """Replace the values of a field by a tuple of one type."""
        values = getattr(self, name)
        if values is None:
            return
        try:
            if isinstance(values, (str, bytes, Mapping)):
                raise TypeError
            object.__setattr__(self, name, tuple(convert(value) for value in values))
        except TypeError:
            kind = "str of valid Unicode" if name in ("ids", "sources") else "int of 64 bits"
            raise ValueError(f"`{name}` is a list of {kind}. Received: {name}={values!r}") from None

    @classmethod
    def of(cls, conditions: "Where | Mapping[str, Any] | None") -> "Where":
        """Return conditions that are given as a `Where`, as a mapping of its fields, or as `None`.

        Args:
            conditions: to convert.

        Returns:
            A `Where`.

        Raises:
            ValueError: if the mapping has another field.
        """
        if conditions is None:
            return cls()
        if isinstance(conditions, Where):
            return conditions
        fields = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(conditions, Mapping):
            raise ValueError(f"Conditions are a `Where` or a mapping of its fields. Received: where={conditions!r}")
        for name in conditions:
            if name not in fields:
                near = difflib.get_close_matches(str(name), fields, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"The conditions are {', '.join(fields)}.{hint} Received: where has {name!r}")
        return cls(**conditions)

    def to_dict(self) -> dict[str, Any]:
        """Return the conditions that are given, as data that `json` can write."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def __bool__(self) -> bool:
        """Whether any condition is given."""
        return bool(self.to_dict())

    def mask(self, tracklets: TrackletEmbeddings) -> np.ndarray:
        """Return which tracklets are chosen.

        Args:
            tracklets: a `TrackletEmbeddings`.

        Returns:
            bool `(tracklets,)`.
        """
        chosen = np.ones(len(tracklets), bool)
        for values, column in (
            (self.ids, tracklets.ids),
            (self.persons, tracklets.persons),
            (self.cameras, tracklets.cameras),
            (self.sources, tracklets.sources),
        ):
            if values is not None:
                chosen &= np.isin(column, values)
        if self.not_cameras is not None:
            chosen &= ~np.isin(tracklets.cameras, self.not_cameras)
        # A comparison with an unknown time, NaN, is false.
        if self.since is not None:
            chosen &= tracklets.ends >= self.since
        if self.until is not None:
            chosen &= tracklets.starts < self.until
        if self.tags:
            wanted = self.tags.items()
            chosen &= np.array([wanted <= own.items() for own in tracklets.tags], bool)
        return chosen


def _integer(value: Any) -> int:
    number = operator.index(value)
    if not -(2**63) <= number < 2**63:
        raise TypeError
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str) or printable(value) != value:
        raise TypeError
    return str(value)
