"""Tracklets for the tests of galleries behind gRPC."""

import numpy as np

from kreid.gallery import TrackletEmbeddings
from kreid.passport import Passport

FINGERPRINT = "5e" * 32


def people(count, seed=0, dimension=4, prefix="t", **changes):
    """Tracklets of persons 0 (unknown) to 4 around a point for each, with all labels; the threshold is 0.7."""
    random = np.random.default_rng(seed)
    persons = np.arange(count) % 5
    points = np.random.default_rng(99).normal(size=(5, dimension))
    starts = np.where(np.arange(count) % 3 == 0, np.nan, np.arange(count) * 10.0)
    fields = {
        "embeddings": points[persons] + 0.1 * random.normal(size=(count, dimension)),
        "ids": [f"{prefix}{row}" for row in range(count)],
        "persons": persons,
        "cameras": 1 + np.arange(count) % 3,
        "model": FINGERPRINT,
        "starts": starts,
        "ends": starts + 5,
        "sources": [("", "hall.mp4", "Höfe.mp4")[row % 3] for row in range(count)],
        "tags": [{"coat": "red", "bag": "yes"} if row % 2 else {} for row in range(count)],
        "passport": Passport(verification={"metric": "euclidean", "threshold": 0.7}),
    }
    return TrackletEmbeddings(**{**fields, **changes})
