import numpy as np
import pytest
from pair_samples import distance, tracklets

from kreid.evaluation import identify, retrieval


def open_set(seed=1):
    """Returns queries and gallery, three rows each; persons 7 to 9 are not in the gallery."""
    embeddings, persons, cameras = tracklets(seed, count=120, persons=9)
    random = np.random.default_rng(seed)
    query = random.random(120) < 0.4
    gallery = ~query & (persons < 7)
    return [values[part] for part in (query, gallery) for values in (embeddings, persons, cameras)]


@pytest.mark.parametrize("block_bytes", [1, 2**27])
def test_open_set_search_entry_by_entry(monkeypatch, block_bytes):
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", block_bytes)
    arguments = open_set()
    expected = []
    for embedding, person, camera in zip(*arguments[:3], strict=True):
        listed = []
        for column, (other, label, place) in enumerate(zip(*arguments[3:], strict=True)):
            if label != -1 and not (label == person and place == camera):
                value = distance(embedding.astype(float), other.astype(float), "euclidean")
                listed.append((value, column, bool(label == person and person > 0)))
        listed.sort()
        ranks = [rank for rank, entry in enumerate(listed, start=1) if entry[2]]
        expected.append((listed[0][0], listed[ranks[0] - 1][0] if ranks else np.nan, ranks[0] if ranks else 0))
    nearest, match, rank = np.array(expected).T
    result = identify(*arguments)
    np.testing.assert_array_equal(result.nearest, nearest)
    np.testing.assert_array_equal(result.match, match)
    np.testing.assert_array_equal(result.match_rank, rank)
    assert (result.num_matched, result.num_unmatched) == ((rank > 0).sum(), (rank == 0).sum())
    for rate in (0.1, 0.25, 0.5):
        threshold = result.threshold_at(rate)
        alarms = np.mean(nearest[rank == 0] < threshold)
        assert alarms <= rate < np.mean(nearest[rank == 0] <= threshold)
        for within in (1, 5):
            hits = [r <= within and d < threshold for r, d in zip(rank, match, strict=True) if r]
            assert result.rates_at(threshold, within) == (alarms, np.mean(hits))


def test_open_set_refusals():
    arguments = open_set()
    result = identify(*arguments)
    with pytest.raises(ValueError, match="takes 1000 queries without a match to see one"):
        result.threshold_at(0.001)
    with pytest.raises(ValueError, match="Received: rank=0"):
        result.rates_at(1.0, rank=0)
    empty = [values[:0] for values in arguments[3:]]
    with pytest.raises(ValueError, match=r"The gallery holds nothing but junk. Received: 0"):
        identify(*arguments[:3], *empty)
    with pytest.raises(ValueError, match="Received: 0 with, 1 without"):
        identify([[0.0] * 3], [9], [0], *arguments[3:])
    arguments[0][2] = np.nan
    with pytest.raises(ValueError, match=r"must be finite.*query_embeddings\[2, "):
        identify(*arguments)
