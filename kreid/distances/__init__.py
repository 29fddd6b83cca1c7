"""Pairwise distances: of tensors for losses and layers, of NumPy arrays for evaluation and queries.

Importing this package imports neither TensorFlow nor Keras: names are fetched when first used, and
`distance_matrix` needs NumPy alone.
"""

from kreid._lazy import attach

_HOMES = {
    "at_least_float32": "tensors",
    "safe_sqrt": "tensors",
    "pairwise_squared_euclidean": "tensors",
    "pairwise_euclidean": "tensors",
    "pairwise_cosine": "tensors",
    "distance_matrix": "arrays",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
