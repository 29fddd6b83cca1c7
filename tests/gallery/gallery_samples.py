"""Tracklets for galleries, and a plain search to compare theirs with."""

import numpy as np

from kreid.distances import distance_matrix
from kreid.gallery import GalleryModel, LanceGallery, MemoryGallery, MilvusGallery, TrackletEmbeddings
from kreid.passport import Passport


def people(count, seed=0, dimension=6, metric="euclidean", prefix="t", spread=0.3, **changes):
    """Tracklets of persons 0 (unknown) to 9 around a point for each, some twice, with all labels."""
    random = np.random.default_rng(seed)
    persons = random.integers(0, 10, count)
    points = np.random.default_rng(99).normal(size=(10, dimension))
    embeddings = (points[persons] + spread * random.normal(size=(count, dimension))).astype(np.float32)
    embeddings[count // 2 : count // 2 + count // 10] = embeddings[: count // 10]  # Equal distances.
    starts = random.uniform(0, 100, count)
    starts[random.random(count) < 0.2] = np.nan
    fields = {
        "embeddings": embeddings,
        "ids": [f"{prefix}{number}" for number in random.permutation(count)],
        "persons": persons,
        "cameras": random.integers(1, 5, count),
        "metric": metric,
        "model": "ab" * 32,
        "starts": starts,
        "ends": starts + random.uniform(0, 20, count),
        "sources": random.choice(["", "hall.mp4", "yard's.mp4"], count),
        "tags": [{"coat": coat, "bag": "yes"} if coat else {} for coat in random.choice(["", "red", "blue"], count)],
        "passport": Passport(verification={"metric": metric, "threshold": 0.8 if metric == "euclidean" else 0.1}),
    }
    return TrackletEmbeddings(**{**fields, **changes})


def make(kind, folder, record, **options):
    """An empty gallery for a record's model."""
    model = GalleryModel.of(record)
    if kind == "memory":
        return MemoryGallery(model, **options)
    if kind == "milvus":
        return MilvusGallery.create(str(folder / "g.db"), "hall", model, **options)
    # Streaming keeps nothing in memory; the conditions are then Lance's.
    cache = {"cache_bytes": 0} if kind == "streaming" else {}
    return LanceGallery.create(folder / "g", model, **options, **cache)


def plain_search(stored, queries, count, mask=None, threshold=None, other_cameras=False, by_person=False):
    """Ids and distances of each query's nearest tracklets, from the matrix of all distances."""
    matrix = distance_matrix(queries.embeddings.astype(float), stored.embeddings.astype(float), stored.metric)
    found = []
    for row, distances in enumerate(matrix):
        order = sorted(range(len(stored)), key=lambda column: (round(distances[column], 9), stored.ids[column]))
        answer, persons = [], set()
        for column in order:
            person = int(stored.persons[column])
            if (
                (mask is not None and not mask[column])
                or stored.ids[column] == queries.ids[row]
                or (threshold is not None and not distances[column] < threshold)
                or (other_cameras and stored.cameras[column] == queries.cameras[row])
                or (by_person and person in persons)
            ):
                continue
            persons |= {person} - {0}
            answer.append((str(stored.ids[column]), float(distances[column])))
        found.append(answer[:count])
    return found
