"""Evaluation of embeddings: distances in, CMC and mAP out.

The names below are read on first use, so that importing this package imports neither NumPy nor Keras.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
