import numpy as np
import pytest
from rerank_oracles import clusters, fixed_oracle

from kreid.evaluation import Reranking, RerankingGallery, rerank_embeddings


@pytest.mark.parametrize(
    ("queries", "size", "k1", "k2"), [(20, 150, 20, 6), (5, 30, 7, 1), (4, 3, 20, 6), (3, 40, 1, 9)]
)
def test_a_gallery_that_queries_do_not_change(queries, size, k1, k2):
    rows, _ = clusters(tracklets=queries + size)
    rows[1::6] = rows[0]
    gallery = RerankingGallery(rows[queries:], reranking=Reranking(k1, k2, block=3))
    result = gallery.rerank(rows[:queries])
    np.testing.assert_allclose(result, fixed_oracle(rows[:queries], rows[queries:], k1, k2), rtol=0, atol=1e-12)
    for query in range(queries):
        np.testing.assert_array_equal(gallery.rerank(rows[query : query + 1])[0], result[query])


def test_a_query_that_is_no_entrys_neighbour_is_ranked_as_in_one_set():
    rows, _ = clusters(tracklets=60, spread=0.1)
    rows[30:] += 100.0
    query = np.full((1, 6), 40.0)
    np.testing.assert_allclose(RerankingGallery(rows).rerank(query), rerank_embeddings(query, rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_gallery_kept_in_a_file(tmp_path, metric):
    rows, _ = clusters(dtype="float32")
    gallery = RerankingGallery(rows[20:], metric, Reranking(9, 3, 0.25, 3))
    gallery.save(tmp_path / "gallery.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.npz"]
    again = RerankingGallery.load(tmp_path / "gallery.npz")
    np.testing.assert_array_equal(again.rerank(rows[:20]), gallery.rerank(rows[:20]))


def test_a_file_that_is_no_gallery_is_named(tmp_path):
    path = tmp_path / "gallery.npz"
    rows, _ = clusters()
    RerankingGallery(rows).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="no gallery that"):
        RerankingGallery.load(path)
    for name, value in (
        ("neighbours", arrays["neighbours"][1:]),
        ("neighbours", arrays["neighbours"] + 1),
        ("k1", np.array(0)),
        ("metric", np.array("manhattan")),
        ("farthest", arrays["farthest"] * np.nan),
        ("embeddings", np.array([{"a": 1}], dtype=object)),
    ):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(ValueError, match=r"no gallery that.*Received: path='.*gallery.npz'"):
            RerankingGallery.load(path)
    with pytest.raises(FileNotFoundError):
        RerankingGallery.load(tmp_path / "nothing.npz")
