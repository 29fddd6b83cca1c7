"""Expanded reciprocal sets and their mixture with distances, against sets and dense vectors."""

import numpy as np
import pytest
from rerank_oracles import SIZES, clusters, distances_between, oracle

from kreid.evaluation import Reranking, reciprocal, rerank_distances, rerank_embeddings


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("queries", "gallery", "k1", "k2"), SIZES)
def test_equals_sets_and_dense_vectors(queries, gallery, k1, k2, metric):
    rows, _ = clusters(queries, queries + gallery)
    rows[1::7] = rows[0]  # Equal tracklets, more of them than neighbours.
    expected = oracle(distances_between(rows, rows, metric), queries, k1, k2)
    for block in (None, 7):
        result = rerank_embeddings(rows[:queries], rows[queries:], metric, Reranking(k1, k2, block=block))
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("lambda_", "power"), [(0.0, 2), (1.0, 2), (0.3, 1), (0.6, 4), (0.3, 2.5)])
def test_mixture_and_power(lambda_, power):
    rows, _ = clusters()
    distances = distances_between(rows, rows)
    expected = oracle(distances, 20, lambda_=lambda_, power=power)
    reranking = Reranking(lambda_=lambda_, power=power)
    result = rerank_embeddings(rows[:20], rows[20:], reranking=reranking)
    np.testing.assert_allclose(result, expected, atol=1e-12)
    parts = (distances[:20, 20:], distances[:20, :20], distances[20:, 20:])
    np.testing.assert_allclose(rerank_distances(*parts, reranking), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_block_changes_a_bit(monkeypatch, dtype):
    rows, _ = clusters(tracklets=230, persons=15, features=33, dtype=dtype)
    rows[150:160] = rows[50:60]
    expected = rerank_embeddings(rows[:80], rows[80:])
    assert expected.dtype == dtype and expected.shape == (80, 150)
    monkeypatch.setattr(reciprocal, "_STEP", 3000)
    for block in (1, 13, 64, 79):
        np.testing.assert_array_equal(
            rerank_embeddings(rows[:80], rows[80:], reranking=Reranking(block=block)), expected
        )
