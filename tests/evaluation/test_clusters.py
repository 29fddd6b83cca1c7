import tracemalloc

import numpy as np
import pytest

from kreid.evaluation import cluster_diameters, clusters


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_equation_10_for_persons_without_distractors_and_junk(block, monkeypatch):
    monkeypatch.setattr(clusters, "_BLOCK", block)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    persons = rng.integers(-1, 6, 40)
    persons[0] = 900
    expected = {}
    for person in sorted(set(persons.tolist()) - {-1, 0}):
        own = x[persons == person]
        pairs = [np.sqrt(((a - b) ** 2).sum()) for i, a in enumerate(own) for b in own[i + 1 :]]
        expected[person] = max(pairs, default=0.0)
    diameters = cluster_diameters(x, persons)
    assert list(diameters) == list(expected)
    np.testing.assert_allclose(list(diameters.values()), list(expected.values()), rtol=1e-9)
    assert all(type(value) is float for value in diameters.values())
    assert all(type(person) is int for person in diameters)


def test_equal_embeddings_are_zero_wide():
    assert cluster_diameters(np.full((4, 64), 30.1, "float32"), [3, 3, 3, 3]) == {3: 0.0}
    assert cluster_diameters(np.empty((0, 4)), []) == {}


def test_memory_does_not_grow_with_a_persons_pairs():
    # The whole matrix of distances would take 144 MB.
    x = np.random.default_rng(0).normal(size=(6_000, 4)).astype("float32")
    tracemalloc.start()
    cluster_diameters(x, np.ones(len(x), int))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


@pytest.mark.parametrize(
    ("embeddings", "persons", "complaint"),
    [
        (np.zeros((3, 2)), [1, 2], r"Received: embeddings of shape \(3, 2\), persons int64 of shape \(2,\)"),
        (np.zeros(3), [1, 2, 3], r"embeddings of shape \(3,\)"),
        (np.zeros((2, 2)), [1.0, 2.0], "persons float64"),
        (np.array([[0.0], [np.nan]]), [1, 1], "must be finite"),
    ],
)
def test_refusals(embeddings, persons, complaint):
    with pytest.raises(ValueError, match=complaint):
        cluster_diameters(embeddings, persons)
