import dataclasses

import numpy as np
import pytest

from kreid import evaluation
from kreid.gallery import TrackletEmbeddings


def test_a_saved_file_has_plain_arrays_and_all_fields(tmp_path):
    made = TrackletEmbeddings(
        np.eye(3), ["a", "b<", "ü"], [7, 9, 7], [1, 2, 2], [0], "cosine", "model", "data", ["x.jpg"], ["gone"]
    )
    made = dataclasses.replace(
        made, starts=[1.5, np.nan, 0], ends=[2, np.nan, 0], sources=["v"] * 3, tags=[{"a": "b=ü"}, {}, {}]
    )
    made.save(tmp_path / "file.npz")
    loaded = TrackletEmbeddings.load(tmp_path / "file.npz")
    for name, value in vars(made).items():
        np.testing.assert_array_equal(getattr(loaded, name), value)
    with np.load(tmp_path / "file.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ids": ["a"]}, "1 ids"),
        ({"ids": ["a", "a"]}, r"its own id; rename one\. Received: ids with \['a'\] repeated"),
        ({"query_rows": [2]}, r"row numbers from 0 to 1\. Received: query_rows=\[2\]"),
        ({"query_rows": [1, 1]}, r"query_rows with \[1\] repeated"),
        ({"metric": "hamming"}, "metric='hamming'"),
        ({"embeddings": [0.0, 1.0]}, r"embeddings\.shape=\(2,\)"),
        ({"starts": [1.0]}, r"starts\.shape=\(1,\)"),
        ({"ends": [1.0, np.inf]}, "finite, or NaN"),
        ({"starts": [1.0, 5.0], "ends": [1.0, 4.0]}, r"starts\[1\]=5.0, ends\[1\]=4.0"),
        ({"tags": [{}]}, "1 of 2 tags"),
        ({"tags": [{}, {"a": 1}]}, r"tags\[1\]={'a': 1}"),
        ({"tags": [{"a=b": "c"}, {}]}, "no '='"),
    ],
)
def test_what_does_not_fit_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrackletEmbeddings(
            **{"embeddings": np.eye(2), "ids": ["a", "b"], "persons": [1, 2], "cameras": [1, 1], **changes}
        )


def test_files_that_are_no_embeddings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of embeddings"):
        TrackletEmbeddings.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("text")
    np.savez(tmp_path / "other.npz", embeddings=np.eye(2))
    for name in ("text.npz", "other.npz"):
        with pytest.raises(ValueError, match="not written by"):
            TrackletEmbeddings.load(tmp_path / name)


def walks(**changes):
    fields = {
        "embeddings": np.arange(4.0)[:, None],
        "ids": list("abcd"),
        "persons": [7, 9, 7, -1],
        "cameras": [1, 1, 2, 2],
        "query_rows": [0, 2],
    }
    return TrackletEmbeddings(**{**fields, **changes})


@pytest.mark.parametrize("rows", [[2, 1], [False, True, True, False]])
def test_some_rows_keep_their_labels_and_queries(rows):
    record = walks(metric="cosine", unreadable=["gone"], starts=np.arange(4.0), tags=[{"of": name} for name in "abcd"])
    some = record.take(rows)
    order = [2, 1] if rows == [2, 1] else [1, 2]
    assert some.embeddings[:, 0].tolist() == order
    assert some.ids.tolist() == ["abcd"[row] for row in order]
    assert some.query_ids == ["c"]
    assert some.starts.tolist() == order
    assert some.tags == tuple({"of": "abcd"[row]} for row in order)
    assert np.isnan(some.ends).all() and some.sources.tolist() == ["", ""]
    assert len(record.take([])) == 0
    assert (some.metric, some.unreadable.tolist()) == ("cosine", ["gone"])


def test_every_score_takes_the_record_or_its_arrays():
    random = np.random.default_rng(0)
    record = walks(
        embeddings=random.normal(size=(12, 3)).astype("float32"),
        ids=[str(row) for row in range(12)],
        persons=[1, 1, 1, 2, 2, 2, 3, 3, 0, 0, -1, 4],
        cameras=[1, 2, 3] * 4,
        query_rows=[0, 3, 6, 11],
        metric="cosine",
    )
    labels = record.persons, record.cameras
    arrays = record.embeddings, *labels, record.query_rows, "cosine"
    for score in (evaluation.evaluate_test, evaluation.evaluate_reranked):
        for name, result in score(record).items():
            np.testing.assert_array_equal(result.average_precision, score(*arrays)[name].average_precision)
    for one, other in zip(evaluation.evaluate_cameras(record), evaluation.evaluate_cameras(*arrays), strict=True):
        np.testing.assert_array_equal(one, other)
    pairs, expected = evaluation.pair_distances(record), evaluation.pair_distances(record.embeddings, *labels, "cosine")
    np.testing.assert_array_equal(pairs.genuine, expected.genuine)
    assert evaluation.rates_at(record, threshold=0.7) == evaluation.rates_at(
        record.embeddings, *labels, "cosine", threshold=0.7
    )
    assert evaluation.fit_verification(record, false_match_rate=0.1, fitted_on="us") == evaluation.fit_verification(
        record.embeddings, *labels, "cosine", false_match_rate=0.1, fitted_on="us"
    )
    assert evaluation.cluster_diameters(record) == evaluation.cluster_diameters(record.embeddings, record.persons)
    gallery = np.delete(np.arange(12), record.query_rows)
    parts = [values[rows] for rows in (record.query_rows, gallery) for values in (record.embeddings, *labels)]
    search = evaluation.identify(record)
    np.testing.assert_array_equal(search.nearest, evaluation.identify(*parts, "cosine").nearest)
    assert (search.num_matched, search.num_unmatched) == (3, 1)
    (_, one), (_, other) = (next(evaluation.rerank_blocks(*given)) for given in ((record,), (*arrays[:1], *arrays[3:])))
    np.testing.assert_array_equal(one, other)
    one, other = (evaluation.RerankingGallery(*given) for given in ((record,), (record.embeddings, "cosine")))
    np.testing.assert_array_equal(one.rerank(record.embeddings), other.rerank(record.embeddings))


def test_labels_come_once():
    with pytest.raises(ValueError, match=r"have their own metric; leave.*Received: metric='cosine'"):
        evaluation.evaluate_test(walks(), metric="cosine")
    with pytest.raises(ValueError, match=r"need `cameras` and `query_rows`.*Received: cameras=None"):
        evaluation.evaluate_test(np.eye(2), [1, 1])
    with pytest.raises(ValueError, match=r"leave the other arguments out. Received: 2 more"):
        evaluation.identify(walks(), [1, 1], [1, 1])


def test_files_from_before_times_and_tags(tmp_path):
    walks().save(tmp_path / "file.npz")
    with np.load(tmp_path / "file.npz") as file:
        arrays = {name: file[name] for name in file.files if name not in ("starts", "ends", "sources", "tags")}
    np.savez(tmp_path / "old.npz", **arrays)
    old = TrackletEmbeddings.load(tmp_path / "old.npz")
    assert np.isnan(old.starts).all() and old.tags == ({},) * 4
