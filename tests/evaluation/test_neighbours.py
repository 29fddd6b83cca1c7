"""Neighbours: their order at equal and at nearly equal distances, any scale, refused embeddings."""

import numpy as np
import pytest
from rerank_oracles import SIZES, clusters, distances_between, oracle

from kreid.evaluation import Reranking, RerankingGallery, rerank_blocks, rerank_distances, rerank_embeddings


@pytest.mark.parametrize(("queries", "gallery", "k1", "k2"), SIZES)
def test_many_equal_distances_keep_their_order(queries, gallery, k1, k2):
    rows = np.round(2 * clusters(gallery, queries + gallery, features=3)[0])  # Distances on a grid are exact.
    distances = distances_between(rows, rows)
    expected = oracle(distances, queries, k1, k2)
    reranking = Reranking(k1, k2, block=5)
    result = rerank_embeddings(rows[:queries], rows[queries:], reranking=reranking)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)
    parts = (distances[:queries, queries:], distances[:queries, :queries], distances[queries:, queries:])
    np.testing.assert_allclose(rerank_distances(*parts, reranking), expected, rtol=0, atol=1e-12)


def test_equal_tracklets_are_their_own_nearest_then_come_in_order():
    # With one neighbour each, all have the query, the first row; the query has the first of the gallery.
    result = rerank_embeddings(np.ones((1, 2)), np.ones((4, 2)), reranking=Reranking(1, 1, lambda_=0))
    np.testing.assert_allclose(result, [[0, 1, 1, 1]], atol=1e-15)


def test_neighbours_closer_than_a_float32_product_can_tell():
    rows, _ = clusters(tracklets=200, persons=2)
    rows = np.sign(rows[:, :1]) + 1e-6 * rows  # Two places far apart, with 100 each.
    products = (rows.astype("float32") - rows.astype("float32").mean(axis=0)) @ rows.T.astype("float32")
    exact = (rows - rows.mean(axis=0)) @ rows.T
    assert (products.argsort(axis=1)[:, :20] != exact.argsort(axis=1)[:, :20]).mean() > 0.5
    expected = oracle(distances_between(rows, rows), 30)
    np.testing.assert_allclose(rerank_embeddings(rows[:30], rows[30:]), expected, atol=1e-12)


def test_large_and_small_embeddings_are_ranked_alike():
    rows, _ = clusters(dtype="float32")
    expected = rerank_embeddings(rows[:20], rows[20:])
    for scale in (2.0**-60, 2.0**60):
        np.testing.assert_allclose(rerank_embeddings(rows[:20] * scale, rows[20:] * scale), expected, atol=1e-7)
    gallery = RerankingGallery(rows[20:] * 2.0**-60)
    assert np.isfinite(gallery.rerank(rows[:1] * 2.0**120)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(bad):
    rows, _ = clusters()
    damaged = rows.copy()
    damaged[7, 2] = bad
    for call, name in (
        (lambda: rerank_embeddings(damaged, rows), "query_embeddings"),
        (lambda: rerank_embeddings(rows, damaged), "gallery_embeddings"),
        (lambda: rerank_blocks(damaged, [0]), "embeddings"),
        (lambda: RerankingGallery(damaged), "embeddings"),
        (lambda: RerankingGallery(rows).rerank(damaged), "query_embeddings"),
    ):
        with pytest.raises(ValueError, match=rf"Embeddings must be finite.*Received: {name}\[7, 2\]={bad}"):
            call()
    distances = np.ones((4, 4))
    distances[2, 1] = bad
    with pytest.raises(ValueError, match=rf"Distances must be finite.*Received: query_query\[2, 1\]={bad}"):
        rerank_distances(np.ones((4, 4)), distances, np.ones((4, 4)), Reranking(block=1))


def test_zeros_have_no_direction():
    rows, _ = clusters()
    rows[4] = 0
    assert np.isfinite(rerank_embeddings(rows[:20], rows[20:])).all()
    for call in (
        lambda: rerank_embeddings(rows, rows, "cosine"),
        lambda: RerankingGallery(np.ones((3, 6)), "cosine").rerank(rows),
    ):
        with pytest.raises(ValueError, match=r"zeros has no direction.*Received: query_embeddings\[4\]="):
            call()
