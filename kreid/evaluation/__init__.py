"""Evaluation of embeddings: distances in, CMC and mAP out.

The names below are read on first use, so that importing this package imports neither NumPy nor Keras.
"""

import importlib

_HOME = {
    "PROTOCOLS": "retrieval",
    "RetrievalResult": "retrieval",
    "evaluate": "retrieval",
    "embed_tracklets": "embed",
    "evaluate_model": "embed",
    "evaluate_test": "retrieval",
    "results_dict": "report",
    "results_table": "report",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *_HOME})
