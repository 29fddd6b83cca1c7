"""Export to SavedModel, the gRPC server that needs pip alone, and its client.

Names are loaded on first use: `kreid.serving.EmbeddingClient` imports neither
Keras nor TensorFlow; `export_model` and `EmbeddingServer` import both.
"""

from kreid._lazy import attach

_HOMES = {
    "EmbeddingClient": "client",
    "ServingError": "client",
    "EmbeddingServer": "server",
    "export_model": "export",
    "read_card": "export",
    "read_warmup": "warmup",
    "write_warmup": "warmup",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
