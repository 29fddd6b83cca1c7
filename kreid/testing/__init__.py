"""Contracts that kreid's parts keep, as functions; for users' own layers and losses too."""

import importlib

_HOMES = {
    "check_export": "export",
    "check_layer": "layers",
    "check_loss": "losses",
    "check_pipeline": "pipeline",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"kreid.testing.{_HOMES[name]}"), name)
    if name in _HOMES.values():
        return importlib.import_module(f"kreid.testing.{name}")
    raise AttributeError(f"module 'kreid.testing' has no attribute {name!r}")


def __dir__():
    return __all__
