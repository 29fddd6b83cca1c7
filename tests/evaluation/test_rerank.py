import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from rerank_oracles import clusters, distances_between, jaccard, normalised, oracle, vectors_of

from kreid.evaluation import (
    PROTOCOLS,
    Reranking,
    RerankingGallery,
    evaluate,
    evaluate_reranked,
    evaluate_test,
    neighbours,
    reciprocal,
    rerank_blocks,
    rerank_distances,
    rerank_embeddings,
)

SIZES = [(1, 1, 20, 6), (1, 90, 20, 6), (5, 3, 2, 1), (8, 100, 20, 6), (9, 70, 1, 2), (6, 24, 100, 6), (8, 40, 5, 70)]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("queries", "gallery", "k1", "k2"), SIZES)
def test_equals_sets_and_dense_vectors(queries, gallery, k1, k2, metric):
    rows, _ = clusters(queries, queries + gallery)
    rows[1::7] = rows[0]  # Equal tracklets, more of them than neighbours.
    expected = oracle(distances_between(rows, rows, metric), queries, k1, k2)
    for block in (None, 7):
        result = rerank_embeddings(rows[:queries], rows[queries:], metric, Reranking(k1, k2, block=block))
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


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


def test_neighbours_closer_than_a_float32_product_can_tell():
    rows, _ = clusters(tracklets=200, persons=2)
    rows = np.sign(rows[:, :1]) + 1e-6 * rows  # Two places far apart, with 100 each.
    products = (rows.astype("float32") - rows.astype("float32").mean(axis=0)) @ rows.T.astype("float32")
    exact = (rows - rows.mean(axis=0)) @ rows.T
    assert (products.argsort(axis=1)[:, :20] != exact.argsort(axis=1)[:, :20]).mean() > 0.5
    expected = oracle(distances_between(rows, rows), 30)
    np.testing.assert_allclose(rerank_embeddings(rows[:30], rows[30:]), expected, atol=1e-12)


def test_agrees_with_the_common_implementation(golden):
    reference = golden("rerank_60x400.npz")
    matrices = (reference["q_g_dist"], reference["q_q_dist"], reference["g_g_dist"])
    np.testing.assert_allclose(rerank_distances(*matrices), reference["reranked"], rtol=0, atol=1e-6)
    # It was given squared distances, and squared them.
    result = rerank_embeddings(reference["q_feat"], reference["g_feat"], reranking=Reranking(power=4))
    np.testing.assert_allclose(result, reference["reranked"], rtol=0, atol=1e-6)


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


def test_blocks_of_any_rows():
    rows, _ = clusters(tracklets=150)
    chosen = np.array([140, 3, 77, 12, 60])
    order = np.concatenate([chosen, np.setdiff1d(np.arange(150), chosen)])
    expected = rerank_embeddings(rows[chosen], rows[order[5:]])
    blocks = list(rerank_blocks(rows, chosen, reranking=Reranking(block=2)))
    assert [first for first, _ in blocks] == [0, 2, 4]
    together = np.concatenate([distances for _, distances in blocks])
    np.testing.assert_allclose(together[:, order[5:]], expected, atol=1e-12)
    assert together[np.arange(5), chosen].max() < 1e-12


def test_large_and_small_embeddings_are_ranked_alike():
    rows, _ = clusters(dtype="float32")
    expected = rerank_embeddings(rows[:20], rows[20:])
    for scale in (2.0**-60, 2.0**60):
        np.testing.assert_allclose(rerank_embeddings(rows[:20] * scale, rows[20:] * scale), expected, atol=1e-7)
    gallery = RerankingGallery(rows[20:] * 2.0**-60)
    assert np.isfinite(gallery.rerank(rows[:1] * 2.0**120)).all()


def test_memory_is_linear(monkeypatch):
    rows, _ = clusters(tracklets=4000, persons=250, features=16, dtype="float32")
    monkeypatch.setattr(reciprocal, "_STEP", 2**16)
    monkeypatch.setattr(neighbours, "_BLOCK_BYTES", 2**20)
    tracemalloc.start()
    for _ in rerank_blocks(rows, np.arange(100)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24 < 4000 * 4000 * 4 / 3


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_both_protocols(metric):
    rows, persons = clusters(tracklets=150, persons=12, spread=0.9)
    persons += 1
    cameras = np.random.default_rng(1).integers(0, 3, 150)
    query_rows = np.arange(5, 150, 9)
    vectors, ranking = vectors_of(distances_between(rows, rows, metric), 20)
    vectors = np.array([vectors[nearest[:6]].mean(axis=0) for nearest in ranking])
    ratios = normalised(distances_between(rows, rows, metric))
    distances = (0.7 * jaccard(vectors[query_rows], vectors) + 0.3 * ratios[query_rows]).round(12)
    gallery = np.setdiff1d(np.arange(150), query_rows)
    labels = (persons[query_rows], cameras[query_rows])
    results = evaluate_reranked(rows, persons, cameras, query_rows, metric, Reranking(block=11))
    assert list(results) == list(PROTOCOLS)
    standard = evaluate(distances[:, gallery], *labels, persons[gallery], cameras[gallery])
    mars = evaluate(distances, *labels, persons, cameras, average_precision="trapezoidal")
    for name, expected in (("standard", standard), ("mars", mars)):
        np.testing.assert_allclose(results[name].average_precision, expected.average_precision, rtol=1e-12)
    assert results["standard"].map > evaluate_test(rows, persons, cameras, query_rows, metric)["standard"].map + 0.02


def test_junk_changes_no_score():
    rows, persons = clusters(tracklets=150)
    cameras = np.random.default_rng(1).integers(0, 3, 150)
    clean = evaluate_reranked(rows, persons, cameras, [3, 50, 100])
    rows, cameras = np.insert(rows, 60, rows[:30], axis=0), np.insert(cameras, 60, cameras[:30])
    persons = np.insert(persons, 60, np.full(30, -1))
    rows[60] = 1e3
    with_junk = evaluate_reranked(rows, persons, cameras, [3, 50, 130])
    for name, result in clean.items():
        np.testing.assert_array_equal(with_junk[name].average_precision, result.average_precision)


def test_junk_and_distractors_as_queries_are_not_scored():
    rows, persons = clusters(tracklets=150)
    persons += 1
    cameras = np.random.default_rng(1).integers(0, 3, 150)
    queries = [3, 50, 100]
    persons[[3, 20, 21]], persons[50] = 0, -1
    for score in (evaluate_test, evaluate_reranked):
        with pytest.warns(UserWarning, match="2 of 3 queries are distractors"):
            results = score(rows, persons, cameras, queries)
        alone = score(rows, persons, cameras, [100])
        assert (results["mars"].num_valid, results["mars"].num_queries) == (1, 3)
        np.testing.assert_array_equal(results["mars"].first_hit, [0, 0, alone["mars"].first_hit[0]])


def test_progress_is_shown_when_asked_for(capfd):
    rows, _ = clusters()
    rerank_embeddings(rows[:20], rows[20:])
    assert capfd.readouterr().err == ""
    rerank_embeddings(rows[:20], rows[20:], progress=True)
    shown = capfd.readouterr().err
    assert "neighbours: 120 of 120 tracklets" in shown
    assert "re-ranking: 20 of 20 queries" in shown


def test_no_query_is_no_work():
    rows, _ = clusters()
    assert rerank_embeddings(rows[:0], rows).shape == (0, 120)
    assert RerankingGallery(rows).rerank(rows[:0]).shape == (0, 120)


def test_neither_keras_nor_tensorflow_is_imported():
    code = (
        "import sys; from kreid.evaluation import rerank_embeddings; rerank_embeddings([[1.0]], [[2.0], [3.0]]);"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(p for p in sys.path if p)})


def test_an_unknown_metric_is_named():
    rows, _ = clusters()
    for call in (
        lambda: rerank_embeddings(rows[:20], rows[20:], "manhattan"),
        lambda: rerank_blocks(rows, [0], "manhattan"),
        lambda: RerankingGallery(rows, "manhattan"),
    ):
        with pytest.raises(ValueError, match="Received: metric='manhattan'"):
            call()


def test_sizes_that_do_not_fit_are_named():
    rows, persons = clusters()
    with pytest.raises(ValueError, match=r"same number of features.*gallery_embeddings.shape=\(120, 5\)"):
        rerank_embeddings(rows, rows[:, :5])
    with pytest.raises(ValueError, match=r"Received: query_embeddings.shape=\(6,\)"):
        rerank_embeddings(rows[0], rows)
    with pytest.raises(ValueError, match=r"no gallery to rank.*Received: gallery_embeddings.shape=\(0, 6\)"):
        rerank_embeddings(rows, rows[:0])
    with pytest.raises(ValueError, match=r"no gallery to rank.*Received: embeddings.shape=\(0, 6\)"):
        RerankingGallery(rows[:0])
    with pytest.raises(ValueError, match=r"no gallery to rank.*Received: embeddings.shape=\(0, 6\)"):
        evaluate_reranked(rows[:0], persons[:0], persons[:0], [])
    with pytest.raises(ValueError, match=r"have 6 features. Received: query_embeddings.shape=\(120, 5\)"):
        RerankingGallery(rows).rerank(rows[:, :5])
    with pytest.raises(ValueError, match="row numbers from 0 to 119"):
        rerank_blocks(rows, [120])
    with pytest.raises(ValueError, match=r"Received: query_gallery.shape=\(2, 3\), query_query.shape=\(3, 3\)"):
        rerank_distances(np.ones((2, 3)), np.ones((3, 3)), np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"no gallery to rank.*query_gallery.shape=\(2, 0\)"):
        rerank_distances(np.ones((2, 0)), np.ones((2, 2)), np.ones((0, 0)))
    with pytest.raises(ValueError, match=r"Received: embeddings.shape=\(119, 6\), 120 persons"):
        evaluate_reranked(rows[1:], persons, persons, [0])


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
