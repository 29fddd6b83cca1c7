"""Export to SavedModel, a gRPC server that needs only pip packages, and its client.

Names are imported on first use: the clients import neither Keras nor TensorFlow;
`export_model` imports both, and `EmbeddingServer` TensorFlow, if it has a model.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
