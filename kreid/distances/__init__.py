"""Pairwise distances: of tensors for losses and layers, of NumPy arrays for evaluation and queries.

Importing this package imports neither TensorFlow nor Keras: names are imported on first use, and `distance_matrix`
needs only NumPy.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
