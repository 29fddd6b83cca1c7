"""kreid: video person re-identification in Keras 3, from tracklets to served embeddings.

Importing kreid imports neither Keras nor TensorFlow; the parts are imported when first used.
"""

import importlib

__version__ = "0.1.0"

_PARTS = (
    "backbones",
    "data",
    "distances",
    "evaluation",
    "layers",
    "losses",
    "models",
    "plots",
    "serving",
    "testing",
    "training",
)

__all__ = ["__version__", *_PARTS]


def __getattr__(name):
    if name in _PARTS:
        return importlib.import_module(f"kreid.{name}")
    raise AttributeError(f"module 'kreid' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
