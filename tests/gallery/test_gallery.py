"""What all galleries have in common, for each of them."""

import dataclasses
import types

import gallery_samples as samples
import numpy as np
import pytest

from kreid.gallery import Added, Gallery, GalleryModel, MemoryGallery, Where, gallery as gallery_module, memory, nearest
from kreid.gallery.nearest import NearestTracklets
from kreid.gallery.parts import RecordPart

DAY = 24 * 60 * 60


@pytest.fixture(params=["memory", "lance", "streaming", pytest.param("milvus", marks=pytest.mark.slow)])
def kind(request):
    if request.param == "milvus":
        pytest.importorskip("milvus_lite", reason="pip install 'kreid[milvus]' milvus-lite")
    return request.param


@pytest.fixture
def gallery(kind, tmp_path):
    record = samples.people(200)
    gallery = samples.make(kind, tmp_path, record)
    gallery.add(record)
    return gallery


FILTERS = [
    None,
    {"cameras": [2]},
    {"cameras": (1, 3), "not_cameras": [3], "persons": [0, 4, 5]},
    {"not_cameras": [1, 2]},
    {"since": 30.0},
    {"until": 40},
    {"since": 20.5, "until": 50.5, "tags": {"coat": "red"}},
    {"sources": ["yard's.mp4", "hall.mp4"], "tags": {"coat": "blue", "bag": "yes"}},
    {"tags": {"hat": "none"}},
    {"ids": ["t3", "t5", "t'; DROP TABLE"]},
    {"cameras": []},
]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_searches_equal_a_plain_search(kind, metric, tmp_path):
    stored = samples.people(300, metric=metric)
    gallery = samples.make(kind, tmp_path, stored)
    for rows in np.array_split(np.arange(len(stored)), 3):
        gallery.add(stored.take(rows))
    queries = samples.people(12, seed=1, metric=metric, prefix="q")
    ids, embeddings = queries.ids.astype("<U9"), queries.embeddings.copy()
    ids[0], embeddings[0] = stored.ids[0], stored.embeddings[0]  # Its own tracklet is left out.
    queries = dataclasses.replace(queries, ids=ids, embeddings=embeddings)
    answers = 0
    for number, where in enumerate(FILTERS):
        for count, threshold in [(1, None), (7, 0.4), (500, None)]:
            options = {
                "count": count,
                "threshold": threshold,
                "other_cameras": number % 2 == 1,
                "by_person": (number + count) % 3 == 0,
            }
            found = gallery.search_many(queries, where=where, **options)
            expected = samples.plain_search(stored, queries, mask=Where.of(where).mask(stored), **options)
            for matches, plain in zip(found, expected, strict=True):
                assert [match.id for match in matches] == [name for name, _ in plain]
                np.testing.assert_allclose([match.distance for match in matches], [d for _, d in plain], atol=1e-7)
                answers += len(matches)
    assert answers > 3000


@pytest.mark.parametrize("by_person", [False, True])
def test_the_parts_change_no_result(by_person):
    stored = samples.people(500, seed=2)
    queries = samples.people(30, seed=3, prefix="q")
    model = GalleryModel.of(stored)
    results = []
    for parts in (1, 7, 100):
        nearest = NearestTracklets(queries, 6, None, by_person=by_person)
        for rows in np.array_split(np.random.default_rng(parts).permutation(500), parts):
            part = MemoryGallery(model)
            part.add(stored.take(rows))
            nearest.add(RecordPart(part.read(), np.zeros(len(rows))))
        results.append([[(match.id, match.distance) for match in matches] for matches in nearest.results()])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("by_person", [False, True])
@pytest.mark.parametrize("count", [1, 6, 700])
@pytest.mark.parametrize("dots", [0, 4])
def test_the_blocks_change_no_result(metric, by_person, count, dots, monkeypatch):
    stored = samples.people(600, seed=2, metric=metric, dimension=3, spread=0.05)
    queries = samples.people(9, seed=3, metric=metric, dimension=3, prefix="q")
    gallery = MemoryGallery(GalleryModel.of(stored))
    gallery.add(stored)
    options = {"threshold": None, "by_person": by_person, "other_cameras": True, "where": {"not_cameras": [4]}}

    def search():
        found = gallery.search_many(queries, count, **options)
        return [[(match.id, match.distance) for match in matches] for matches in found]

    whole = search()
    for name, value in {"_BLOCK": 70, "_FIRST_ROWS": 11, "_QUERIES": 4, "_DOTS": dots, "_EXACT_ROWS": 5}.items():
        monkeypatch.setattr(nearest, name, value)
    assert search() == whole
    assert sum(map(len, whole)) > 8 * min(count, 10)


def test_parts_in_memory_are_joined_up_to_a_size(monkeypatch):
    monkeypatch.setattr(memory, "_PART_ROWS", 64)
    record = samples.people(200)
    gallery = MemoryGallery(GalleryModel.of(record))
    for row in range(200):
        gallery.add(record.take([row]))
    sizes = [len(part.record) for part in gallery._state]
    assert sum(sizes) == 200
    assert max(sizes) <= 64
    assert len(sizes) < 12
    assert gallery.read().ids.tolist() == sorted(record.ids)
    assert gallery.delete({"ids": record.ids[:150].tolist()}) == 150
    assert gallery.count() == sum(len(part.record) for part in gallery._state) == 50


@pytest.mark.parametrize("part_rows", [1, 1000])
@pytest.mark.parametrize(("scale", "shift"), [(1e-22, 0.0), (1e13, 0.0), (1.0, 1e4)])
def test_embeddings_whose_float32_products_lose_the_distances(scale, shift, part_rows, monkeypatch):
    monkeypatch.setattr(memory, "_PART_ROWS", part_rows)
    # The squares underflow, are large, or agree in nearly all digits.
    record = samples.people(100)
    record = dataclasses.replace(record, embeddings=record.embeddings * np.float32(scale) + np.float32(shift))
    gallery = MemoryGallery(GalleryModel.of(record))
    for rows in np.array_split(np.arange(len(record)), 10):
        gallery.add(record.take(rows))
    exact = record.embeddings.astype(np.float64)
    for row, matches in enumerate(gallery.search_many(record, 5, threshold=None)):
        distances = np.delete(np.sqrt(((exact - exact[row]) ** 2).sum(axis=1)), row)
        assert [match.distance for match in matches] == np.sort(distances)[:5].tolist()


def test_a_match_has_the_labels_of_its_tracklet(gallery):
    record = samples.people(200)
    for match in gallery.search(record.take([3]), 20, threshold=None):
        row = record.ids.tolist().index(match.id)
        labels = (record.persons, record.cameras, record.starts, record.ends, record.sources)
        np.testing.assert_equal(
            (match.person, match.camera, match.start, match.end, match.source), tuple(values[row] for values in labels)
        )
        assert match.tags == record.tags[row]


def test_nobody_is_an_answer(gallery):
    far = samples.people(1, prefix="q", embeddings=np.full((1, 6), 50.0))
    assert gallery.search(far) == []  # By the threshold of the model.
    assert gallery.model.threshold == 0.8
    assert len(gallery.search(far, 3, threshold=None)) == 3
    near = gallery.search(samples.people(200).take([0]), 100)
    assert near and all(match.distance < 0.8 for match in near)


def test_an_empty_gallery_and_no_queries(kind, tmp_path):
    record = samples.people(5)
    gallery = samples.make(kind, tmp_path, record)
    assert gallery.search(record.take([0])) == []
    assert (gallery.count(), gallery.persons(), len(gallery.read())) == (0, {}, 0)
    assert gallery.delete({"persons": [1]}) == 0
    gallery.compact()
    assert gallery.verify().is_whole
    nobody = record.take(np.zeros(0, int))
    assert gallery.add(nobody) == Added(0, 0, 0)
    assert gallery.search_many(nobody) == []
    gallery.add(record)
    assert gallery.search_many(nobody) == []


def test_records_come_back_as_they_were_given(gallery):
    record = samples.people(200)
    read = gallery.read()
    expected = record.take(np.argsort(record.ids))
    for name in ("embeddings", "ids", "persons", "cameras", "starts", "ends", "sources", "metric", "model", "tags"):
        np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))
    got = gallery.get(["t7", "t3"])
    assert got.ids.tolist() == ["t7", "t3"]
    np.testing.assert_array_equal(got.embeddings[1], record.embeddings[record.ids == "t3"][0])
    with pytest.raises(ValueError, match=r"no tracklet of 1 ids. Received: ids with \['x'\]"):
        gallery.get(["t7", "x"])
    assert len(gallery.get([])) == 0
    assert gallery.count() == 200
    counts = dict(zip(*(values.tolist() for values in np.unique(record.persons, return_counts=True)), strict=True))
    assert gallery.persons() == counts
    assert gallery.count({"persons": [3]}) == counts[3]


def test_adding_again(gallery):
    record = samples.people(200)
    more = samples.people(10, seed=5, prefix="n")
    assert gallery.add(record) == Added(0, 200, 0)
    assert gallery.add(record.take([1, 2])) == Added(0, 2, 0)
    assert gallery.add(more) == Added(10, 0, 0)
    for changes in (
        {"embeddings": more.embeddings + np.float32(1e-6)},
        {"persons": [*more.persons[:-1], 77]},
        {"cameras": more.cameras + 1},
        {"starts": np.full(10, np.nan)},
        {"ends": more.ends + 1},
        {"sources": ["x"] * 10},
        {"tags": [{}] * 9 + [{"coat": "green"}]},
    ):
        with pytest.raises(ValueError, match="with other content: delete them first"):
            gallery.add(dataclasses.replace(more, **changes))
    assert gallery.count() == 210
    mixed = dataclasses.replace(samples.people(4, seed=6, prefix="m"), persons=[-1, 2, 0, -1])
    assert gallery.add(mixed) == Added(2, 0, 2)
    assert gallery.count() == 212


def test_all_or_nothing(gallery):
    new = samples.people(3, seed=5, prefix="n")
    old = samples.people(200).take([0])
    both = dataclasses.replace(new, ids=["n0", "n1", old.ids[0]])
    with pytest.raises(ValueError, match="other content"):
        gallery.add(both)
    assert gallery.count() == 200


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"model": "cd" * 32},
            "again.*kreid evaluate.*model='cdcdcd.*gallery has model='ababab",
        ),
        ({"model": ""}, "of model=unknown"),
        ({"metric": "cosine"}, "metric='cosine'.*metric='euclidean'"),
        ({"embeddings": np.zeros((3, 7))}, "dimension=7.*dimension=6"),
        ({"embeddings": np.full((3, 6), np.nan)}, "leave out the 3.*norm=nan"),
        ({"embeddings": np.full((3, 6), np.inf)}, "leave out the 3"),
        ({"embeddings": np.full((3, 6), 3e38)}, "no longer than 1e"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(gallery, changes, complaint):
    wrong = samples.people(3, seed=5, prefix="n", **changes)
    with pytest.raises(ValueError, match=complaint):
        gallery.add(wrong)
    with pytest.raises(ValueError, match=complaint):
        gallery.search_many(wrong)
    assert gallery.count() == 200


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"persons": [1, -2, 3]}, r"persons\[1\]=-2"),
        ({"ids": ["a", "", "b"]}, "id is not empty"),
        ({"ids": ["a", "b\udce9", "c"]}, r"valid Unicode.*udce9"),
        ({"tags": [{}, {"a": "\udce9"}, {}]}, r"valid Unicode"),
    ],
)
def test_labels_that_are_refused(gallery, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        gallery.add(samples.people(3, seed=5, prefix="n", **changes))
    assert gallery.count() == 200


def test_a_cosine_gallery_refuses_zeros(kind, tmp_path):
    record = samples.people(3, metric="cosine")
    gallery = samples.make(kind, tmp_path, record)
    with pytest.raises(ValueError, match="to have a direction"):
        gallery.add(dataclasses.replace(record, embeddings=np.zeros((3, 6))))


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda gallery, query: gallery.search(query, 0), "count=0"),
        (lambda gallery, query: gallery.search(query, True), "count=True"),
        (lambda gallery, query: gallery.search(query, threshold=0), "threshold=0"),
        (lambda gallery, query: gallery.search(query, threshold=float("nan")), "threshold=nan"),
        (lambda gallery, query: gallery.search(query, threshold="low"), "threshold='low'"),
        (lambda gallery, query: gallery.search(query, where={"camera": [1]}), "Did you mean 'cameras'.*has 'camera'"),
        (lambda gallery, query: gallery.search(query, where=[1]), r"where=\[1\]"),
        (lambda gallery, query: gallery.search(query.take([])), "Received: 0 tracklets"),
        (lambda gallery, query: gallery.get(["a", "a"]), "'a'.*repeated"),
        (lambda gallery, query: gallery.get("t1"), "ids='t1'"),
        (lambda gallery, query: gallery.delete({}), "at least one condition"),
        (lambda gallery, query: gallery.delete(Where()), "at least one condition"),
    ],
)
def test_wrong_requests(gallery, call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(gallery, samples.people(1, prefix="q"))
    assert gallery.count() == 200


@pytest.mark.parametrize("where", FILTERS[1:])
def test_delete(gallery, where):
    record = samples.people(200)
    chosen = Where.of(where).mask(record)
    assert gallery.delete(where) == chosen.sum()
    assert set(gallery.read().ids) == set(record.ids[~chosen])
    gallery.compact()
    assert set(gallery.read().ids) == set(record.ids[~chosen])
    assert gallery.add(record) == Added(chosen.sum(), 200 - chosen.sum(), 0)


def test_retention(kind, tmp_path, monkeypatch):
    now = [1e9]
    # The clock of kreid alone: others wait by theirs.
    monkeypatch.setattr(gallery_module, "time", types.SimpleNamespace(time=lambda: now[0]))
    old, new = samples.people(20), samples.people(20, seed=1, prefix="n")
    gallery = samples.make(kind, tmp_path, old, keep_days=2.5)
    gallery.add(old)
    now[0] += 2 * DAY
    gallery.add(new)
    gallery.export_parquet(tmp_path / "both.parquet")
    assert gallery.count() == 40
    now[0] += DAY
    # Nobody finds them any more, and adding them makes them new.
    assert gallery.count() == 20
    assert {match.id[0] for match in gallery.search(old.take([0]), 50, threshold=None)} == {"n"}
    assert gallery.add(old.take([0, 1])) == Added(2, 0, 0)
    gallery.compact()
    assert gallery.count() == 22
    # An export and import is no way to keep them longer.
    (tmp_path / "other").mkdir()
    other = samples.make(kind, tmp_path / "other", old, keep_days=2.5)
    assert other.import_parquet(tmp_path / "both.parquet").added == 40
    assert other.count() == 20
    for wrong in (0, -1, float("nan"), float("inf"), "3", True):
        with pytest.raises(ValueError, match="Received: keep_days="):
            MemoryGallery(gallery.model, keep_days=wrong)


def test_export_and_import(gallery, kind, tmp_path):
    assert gallery.export_parquet(tmp_path / "some.parquet", {"cameras": [1, 2]}) == gallery.count({"cameras": [1, 2]})
    assert gallery.export_parquet(tmp_path / "all.parquet") == 200
    (tmp_path / "other").mkdir()
    other = samples.make(kind, tmp_path / "other", samples.people(1))
    some = other.import_parquet(tmp_path / "some.parquet")
    assert other.import_parquet(tmp_path / "all.parquet") == Added(200 - some.added, some.added, 0)
    one, two = gallery.read(), other.read()
    for name, value in vars(one).items():
        np.testing.assert_array_equal(getattr(two, name), value)
    with pytest.raises(FileNotFoundError, match="folder of the file first"):
        gallery.export_parquet(tmp_path / "none" / "all.parquet")
    another = samples.make("memory", tmp_path, samples.people(1, model="cd" * 32))
    with pytest.raises(ValueError, match="Embeddings of two models"):
        another.import_parquet(tmp_path / "all.parquet")


def test_the_model_comes_from_embeddings_or_a_card():
    model = GalleryModel.of(samples.people(3))
    assert (model.fingerprint, model.dimension, model.metric, model.threshold) == ("ab" * 32, 6, "euclidean", 0.8)
    card = {"fingerprint": "f", "embedding_dim": 6, "metric": "cosine", "system": "STA", "verification": None}
    assert GalleryModel.from_card(card, "3") == GalleryModel("f", 6, "cosine", None, "STA", "3")
    for wrong in ({"dimension": 0}, {"metric": "l1"}, {"threshold": -1.0}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match=f"Received: {next(iter(wrong))}="):
            GalleryModel(**{"fingerprint": "", "dimension": 2, "metric": "cosine", **wrong})


def test_the_interface_has_no_instances():
    with pytest.raises(TypeError, match="abstract"):
        Gallery(GalleryModel("", 2, "cosine"))
