"""Results of a made-up evaluation: embeddings that show the person and, less, the camera."""

import numpy as np


def results(persons=30, cameras=4, seed=0):
    """Returns the arguments of `audit` for a gallery without the queries, and for one with them."""
    random = np.random.default_rng(seed)
    labels = (
        np.repeat(np.arange(1, persons + 1), cameras * 2),
        np.tile(np.repeat(np.arange(1, cameras + 1), 2), persons),
    )
    kept = random.random(len(labels[0])) < 0.8
    known, seen_by = labels[0][kept], labels[1][kept]
    strangers = 20
    who = np.concatenate([known, persons + np.arange(1, strangers + 1)])
    where = np.concatenate([seen_by, random.integers(1, cameras + 1, strangers)])
    looks, views = random.normal(size=(persons + strangers + 1, 16)), random.normal(size=(cameras + 1, 16))
    vectors = (looks[who] + 0.6 * views[where] + 0.6 * random.normal(size=(len(who), 16))).astype("float32")
    who[len(known) :] = 0  # Distractors.
    _, queries = np.unique(np.stack([known, seen_by]), axis=1, return_index=True)
    rest = np.setdiff1d(np.arange(len(who)), queries)
    parts = {"query": queries, "gallery": rest}
    apart = {
        f"{side}_{name}": values[rows] for side, rows in parts.items() for name, values in _named(vectors, who, where)
    }
    within = {**apart, **{f"gallery_{name}": values for name, values in _named(vectors, who, where)}}
    return apart, within


def _named(vectors, persons, cameras):
    return (("embeddings", vectors), ("persons", persons), ("cameras", cameras))
