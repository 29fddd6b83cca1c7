"""Export to SavedModel, the gRPC server that needs pip alone, and its client.

Names are loaded on first use: `kreid.serving.EmbeddingClient` imports neither
Keras nor TensorFlow; `export_model` and `EmbeddingServer` import both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
