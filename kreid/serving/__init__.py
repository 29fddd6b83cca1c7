"""Export to SavedModel, the gRPC server that needs pip alone, and its client.

Names are loaded on first use: `kreid.serving.EmbeddingClient` imports neither
Keras nor TensorFlow; `export_model` and `EmbeddingServer` import both.
"""

import importlib

_NAMES = {
    "EmbeddingClient": "client",
    "ServingError": "client",
    "EmbeddingServer": "server",
    "export_model": "export",
    "read_card": "export",
    "read_warmup": "warmup",
    "write_warmup": "warmup",
}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)


def __dir__():
    return sorted([*globals(), *_NAMES])
