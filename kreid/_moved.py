"""Import public names from the packages that had them before, with a warning."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def with_moved_names(package: str, get: Callable[[str], Any], homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package that also forwards names that moved to other packages.

    Args:
        package: name of the old package.
        get: the package's `__getattr__` for its own names.
        homes: dict of name to the package that has it now.

    Returns:
        A function to assign to the package's `__getattr__`.

    Example:

    >>> get = with_moved_names("old", vars(kreid.data).__getitem__, {"read_tracks": "kreid.tracks"})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     get("read_tracks") is kreid.tracks.read_tracks
    True
    >>> print(caught[0].message)
    `old.read_tracks` moved: import it from `kreid.tracks`.
    """

    def get_moved(name: str) -> Any:
        if name not in homes:
            return get(name)
        home = homes[name]
        warnings.warn(f"`{package}.{name}` moved: import it from `{home}`.", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), name)

    return get_moved
