"""Re-ranking: agreement with the common implementation, protocols, memory, refusals."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from rerank_oracles import clusters, distances_between, jaccard, normalised, vectors_of

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


def test_agrees_with_the_common_implementation(golden):
    reference = golden("rerank_60x400.npz")
    matrices = (reference["q_g_dist"], reference["q_q_dist"], reference["g_g_dist"])
    np.testing.assert_allclose(rerank_distances(*matrices), reference["reranked"], rtol=0, atol=1e-6)
    # It was given squared distances, and squared them.
    result = rerank_embeddings(reference["q_feat"], reference["g_feat"], reranking=Reranking(power=4))
    np.testing.assert_allclose(result, reference["reranked"], rtol=0, atol=1e-6)


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
def test_every_protocol(metric):
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
    with_queries = evaluate(distances, *labels, persons, cameras)
    for name, expected in (("standard", standard), ("mars", mars), ("with_queries", with_queries)):
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
