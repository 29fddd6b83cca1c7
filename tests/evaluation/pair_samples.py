"""Tracklets with many tied distances, and all their pairs one by one."""

import numpy as np


def tracklets(seed=0, count=90, persons=12, spread=1.2):
    """Returns embeddings, persons (-1 junk, 0 distractors) and cameras; distances in steps, so that many are tied."""
    random = np.random.default_rng(seed)
    labels = random.integers(-1, persons + 1, count)
    centres = random.normal(size=(persons + 2, 3)) * 3
    embeddings = np.round(centres[labels + 1] + spread * random.normal(size=(count, 3)))
    return embeddings.astype("float32"), labels, random.integers(0, 3, count)


def distance(a, b, metric):
    if metric == "euclidean":
        return np.float32(np.sqrt(((a - b) ** 2).sum()))
    norms = np.sqrt((a**2).sum() * (b**2).sum())
    return np.float32(1 - (a @ b) / norms if norms else 1.0)


def oracle(embeddings, persons, cameras, metric="euclidean"):
    """Two sorted lists, of genuine and of impostor distances, from all pairs one by one."""
    genuine, impostors = [], []
    exact = embeddings.astype("float64")
    for a in range(len(exact)):
        for b in range(a):
            if -1 in (persons[a], persons[b]):
                continue
            if persons[a] != persons[b]:
                impostors.append(distance(exact[a], exact[b], metric))
            elif persons[a] != 0 and cameras[a] != cameras[b]:
                genuine.append(distance(exact[a], exact[b], metric))
    return np.sort(genuine), np.sort(impostors)
