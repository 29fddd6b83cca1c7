"""k-reciprocal re-ranking written again with sets and dense vectors."""

import numpy as np

# Queries, gallery, k1, k2.
SIZES = [(1, 1, 20, 6), (1, 90, 20, 6), (5, 3, 2, 1), (8, 100, 20, 6), (9, 70, 1, 2), (6, 24, 100, 6), (8, 40, 5, 70)]


def distances_between(x, y, metric="euclidean"):
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    if metric == "cosine":
        x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    squares = ((x[:, None] - y[None]) ** 2).sum(axis=-1)
    return squares / 2 if metric == "cosine" else np.sqrt(squares)


def normalised(distances, power=2):
    largest = distances.max(axis=1, keepdims=True)
    return (distances / np.where(largest > 0, largest, 1)) ** power


def rankings(distances):
    """Return every row's ranking: itself first, equal ones as they come."""
    distances = distances.copy()
    np.fill_diagonal(distances, -1)
    return np.argsort(distances, axis=1, kind="stable")


def reciprocal(ranking, row, k):
    return {other for other in ranking[row, : k + 1].tolist() if row in ranking[other, : k + 1]}


def expanded(own, candidates):
    """Return a k-reciprocal set with the candidates' sets of which it has more than two thirds."""
    accepted = [candidate for candidate in candidates if 3 * len(candidate & own) > 2 * len(candidate)]
    return sorted(own.union(*accepted))


def vectors_of(distances, k1, power=2):
    ranking, ratios = rankings(distances), normalised(distances, power)
    vectors = np.zeros(distances.shape)
    for row in range(len(distances)):
        own = reciprocal(ranking, row, k1)
        members = expanded(own, [reciprocal(ranking, other, round(k1 / 2)) for other in own])
        vectors[row, members] = np.exp(-ratios[row, members])
    return vectors / vectors.sum(axis=1, keepdims=True), ranking


def jaccard(x, y):
    return np.array([1 - np.minimum(row, y).sum(axis=1) / np.maximum(row, y).sum(axis=1) for row in x])


def oracle(distances, queries, k1=20, k2=6, lambda_=0.3, power=2):
    """Re-ranks the first rows of the distances of all to all, set by set."""
    vectors, ranking = vectors_of(distances, k1, power)
    vectors = np.array([vectors[nearest[:k2]].mean(axis=0) for nearest in ranking])
    mixed = (1 - lambda_) * jaccard(vectors[:queries], vectors) + lambda_ * normalised(distances, power)[:queries]
    return mixed[:, queries:]


def fixed_oracle(queries, gallery, k1=20, k2=6, lambda_=0.3):
    """Re-ranks each query against a gallery that it does not change."""
    among = distances_between(gallery, gallery)
    vectors, ranking = vectors_of(among, k1)
    averaged = np.array([vectors[nearest[:k2]].mean(axis=0) for nearest in ranking])
    result = []
    for query in queries:
        both = np.concatenate([query[None], gallery])
        distances = distances_between(both, both)
        with_query, ratios = rankings(distances), normalised(distances)[0]
        own = reciprocal(with_query, 0, k1)
        candidates = [reciprocal(ranking, other - 1, round(k1 / 2)) for other in own if other]
        members = expanded(own, [{other + 1 for other in candidate} for candidate in candidates])
        vector = np.zeros((1, len(both)))
        vector[0, members] = np.exp(-ratios[members])
        vector /= vector.sum()
        others = with_query[0, 1:k2] - 1
        wide = np.pad(vectors, ((0, 0), (1, 0)))
        vector = (vector + wide[others].sum(axis=0)) / (1 + len(others))
        result.append((1 - lambda_) * jaccard(vector, np.pad(averaged, ((0, 0), (1, 0))))[0] + lambda_ * ratios[1:])
    return np.array(result)


def clusters(seed=0, tracklets=120, persons=12, features=6, spread=0.5, dtype="float64"):
    random = np.random.default_rng(seed)
    labels = random.integers(0, persons, tracklets)
    centres = random.normal(size=(persons, features))
    return (centres[labels] + spread * random.normal(size=(tracklets, features))).astype(dtype), labels
