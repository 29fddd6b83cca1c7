"""Distances by loops over pairs in float64."""

import numpy as np


def rows(n, features, norm=30.0, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, features))
    return (norm * x / np.linalg.norm(x, axis=1, keepdims=True)).astype("float32")


def euclidean_loops(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.array([[np.sqrt(sum((a - b) ** 2)) for b in y] for a in x])


def cosine_loops(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.array(
        [[1 - (a @ b) / (np.linalg.norm(a) * np.linalg.norm(b)) if a.any() and b.any() else 1.0 for b in y] for a in x]
    )
