import tracemalloc

import numpy as np
import pytest
from pair_samples import oracle, tracklets

from kreid.evaluation import pair_distances, pairs


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block_bytes", [1, 3_000, 2**26])
def test_all_pairs_one_by_one(monkeypatch, metric, block_bytes):
    monkeypatch.setattr(pairs, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(pairs, "_ROWS", 1 if block_bytes == 1 else 4)
    embeddings, persons, cameras = tracklets()
    embeddings[4] = 0.0  # Under the cosine 1 from everything.
    genuine, impostors = oracle(embeddings, persons, cameras, metric)
    measured = pair_distances(embeddings, persons, cameras, metric, tail=0.2)
    np.testing.assert_allclose(measured.genuine, genuine, atol=1e-6)
    assert measured.num_impostors == len(impostors)
    np.testing.assert_allclose(
        measured.nearest_impostors, impostors[: int(np.floor(0.2 * len(impostors))) + 1], atol=1e-6
    )
    if metric == "euclidean":  # Whole numbers below the root: equal distances are equal in the oracle too.
        np.testing.assert_array_equal(measured.nearer, [np.sum(impostors < value) for value in genuine])
        np.testing.assert_array_equal(measured.as_near, [np.sum(impostors <= value) for value in genuine])


def test_memory_does_not_grow_with_the_pairs(monkeypatch):
    monkeypatch.setattr(pairs, "_BLOCK_BYTES", 2**18)
    embeddings, persons, cameras = tracklets(count=3_000, persons=500)
    tracemalloc.start()
    pair_distances(embeddings, persons, cameras, tail=0.001)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20 < 4 * 3_000**2 / 2


def test_bad_arguments_are_named():
    embeddings, persons, cameras = tracklets()
    with pytest.raises(ValueError, match="Received: tail=0"):
        pair_distances(embeddings, persons, cameras, tail=0)
    with pytest.raises(ValueError, match=r"Received: embeddings.shape=\(89, 3\), 90 persons"):
        pair_distances(embeddings[1:], persons, cameras)
    with pytest.raises(ValueError, match="Genuine pairs need a person in two cameras"):
        pair_distances(embeddings, persons, np.zeros_like(cameras))
    with pytest.raises(ValueError, match=r"Impostor pairs need two persons. Received: 90 tracklets of 1"):
        pair_distances(embeddings, np.ones_like(persons), cameras)
    for bad in (np.nan, np.inf):
        embeddings[7, 1] = bad
        with pytest.raises(ValueError, match=r"must be finite.*Received: embeddings\[7, "):
            pair_distances(embeddings, persons, cameras)
