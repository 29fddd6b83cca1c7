"""Frame vectors of two persons in one tracklet, and pooling in float64 NumPy."""

import numpy as np

SHARED = 3.0


def tracklet(*counts, noise=0.3, channels=16, seed=0):
    """Frames of several persons in turn, with a large part that all share: (frames, C), and the person of each."""
    rng = np.random.default_rng((seed, *counts))
    persons = np.linalg.qr(rng.normal(size=(channels, channels)))[0][: len(counts)]
    labels = np.repeat(np.arange(len(counts)), counts)
    frames = persons[labels] + noise * rng.normal(size=(len(labels), channels)) / np.sqrt(channels) + SHARED
    return frames.astype("float32"), labels


def padded(tracklets, value=0.0):
    """One array of tracklets of different lengths, and its mask."""
    longest = max(map(len, tracklets))
    frames = np.full((len(tracklets), longest, tracklets[0].shape[1]), value, "float32")
    for row, one in enumerate(tracklets):
        frames[row, : len(one)] = one
    return frames, np.arange(longest) < np.array([len(one) for one in tracklets])[:, None]


def unit_vectors(frames, mean):
    centred = frames.astype("float64") - mean
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)


def agreement_weights(frames, mean, t):
    """Softmax of t times the mean cosine of each frame (L, C) with the others, pair by pair."""
    units = unit_vectors(frames, mean)
    scores = [np.mean([u @ v for j, v in enumerate(units) if j != i] or [0.0]) for i, u in enumerate(units)]
    powers = np.exp(t * (np.array(scores) - max(scores)))
    return powers / powers.sum()


def majority_weights(frames, mean, threshold, weighting="similarity"):
    """The cut by the signs of the leading eigenvector of the centred similarities, and the weights, by LAPACK."""
    units = unit_vectors(frames, mean)
    length = len(units)
    similarities = units @ units.T
    centring = np.eye(length) - 1 / length
    first = np.linalg.eigh(centring @ similarities @ centring)[1][:, -1] >= 0
    sides = [np.flatnonzero(first), np.flatnonzero(~first)]
    within = [similarities[i, j] for side in sides for i in side for j in side if i != j]
    across = [similarities[i, j] for i in sides[0] for j in sides[1]]
    kept = np.arange(length)
    if within and across and np.mean(within) - np.mean(across) > threshold:
        alike = [np.mean([similarities[i, j] for i in side for j in side if i != j] or [0.0]) for side in sides]
        kept = max(zip(map(len, sides), alike, map(tuple, sides), strict=True))[2]
    weights = np.zeros(length)
    weights[list(kept)] = 1.0
    if weighting == "similarity":
        alike = np.maximum(similarities[np.ix_(kept, kept)], 0) ** 2
        values, vectors = np.linalg.eigh(alike)
        # Of several leading eigenvectors, such as two unlike frames', the part of equal weights.
        leading = vectors[:, values > values[-1] - 1e-9]
        weights[list(kept)] = leading @ leading.sum(axis=0)
    return weights / weights.sum()
