"""Contracts that kreid's parts keep, as functions; for users' own layers and losses too."""

from kreid._lazy import attach

_HOMES = {
    "check_export": "export",
    "check_layer": "layers",
    "check_loss": "losses",
    "check_pipeline": "pipeline",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
