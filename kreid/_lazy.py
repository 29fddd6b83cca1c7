"""Packages whose names are imported when first used."""

import importlib
import sys


def attach(package, homes):
    """Makes what a package needs to fetch its names from its modules on first use.

    The modules themselves are fetched the same way, as attributes of the package.

    Args:
        package: str, the package's `__name__`.
        homes: dict of public name to the module of the package that defines it.

    Returns:
        The package's `__getattr__`, `__dir__` and `__all__`.

    Example:

    >>> fetch, _, names = attach("kreid.data", {"PKSampler": "identities"})
    >>> fetch("PKSampler").__module__, fetch("identities").__name__, names
    ('kreid.data.identities', 'kreid.data.identities', ['PKSampler'])
    """
    modules = frozenset(homes.values())

    def fetch(name):
        if name in homes:
            return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def names():
        return sorted({*vars(sys.modules[package]), *homes})

    return fetch, names, sorted(homes)
