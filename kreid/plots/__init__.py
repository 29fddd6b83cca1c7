"""Pictures of results. Pillow alone; neither Keras nor TensorFlow is imported."""

import importlib

_NAMES = {"RankedTracklet": "ranked_list", "draw_ranked_list": "ranked_list"}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *_NAMES])
