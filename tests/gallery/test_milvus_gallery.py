"""Galleries in Milvus, by Milvus Lite: exactness, forgetting, names, damage; the rest is in `test_gallery.py`."""

import dataclasses
import json
import subprocess
import sys

import gallery_samples as samples
import numpy as np
import pytest

from kreid.gallery import GalleryModel, MilvusGallery, Where, milvus_gallery, milvus_schema

pytest.importorskip("milvus_lite", reason="pip install 'kreid[milvus]' milvus-lite")


@pytest.fixture(scope="module", autouse=True)
def _stop_servers():
    yield
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_all()


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all galleries that are told apart by their names."""
    return str(tmp_path_factory.mktemp("milvus") / "all.db")


def files_with(path, ids, vectors):
    """Files of a folder that hold an id or two neighbouring values of an embedding, Parquet files unpacked."""
    import pyarrow.parquet as pq

    needles = [name.encode() for name in ids]
    needles += [vector[place : place + 2].tobytes() for vector in vectors for place in range(len(vector) - 1)]
    found = []
    for file in path.rglob("*"):
        if not file.is_file():
            continue
        content = file.read_bytes()
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            content += json.dumps(table.column("id").to_pylist()).encode()
            if "embedding" in table.column_names:
                values = [value for row in table.column("embedding").to_pylist() for value in row]
                content += np.array(values, np.float32).tobytes()
        if any(needle in content for needle in needles):
            found.append(file)
    return found


def test_kept_found_deleted_and_forgotten(tmp_path):
    record = samples.people(60, dimension=16)
    vectors = np.random.default_rng(3).normal(size=(60, 16)).astype(np.float32)
    ids = [f"tracklet-{row:04}" for row in range(60)]
    record = dataclasses.replace(record, embeddings=vectors, ids=ids)
    gallery = MilvusGallery.create(
        str(tmp_path / "g.db"), "hall", GalleryModel.of(record), log=tmp_path / "log", who="ann"
    )
    assert gallery.add(record).added == 60
    gallery._ask("flush", gallery._collection())  # Into files, as a server does by itself.
    for metric_options in ({}, {"other_cameras": True}, {"by_person": True, "where": {"not_cameras": [2]}}):
        options = {"count": 4, "threshold": None, **metric_options}
        found = gallery.search_many(record.take(range(5)), **options)
        where = Where.of(options.pop("where", None))
        expected = samples.plain_search(record, record.take(range(5)), mask=where.mask(record), **options)
        assert [[match.id for match in matches] for matches in found] == [
            [name for name, _ in plain] for plain in expected
        ]
    chosen = Where(persons=[4]).mask(record)
    assert gallery.delete({"persons": [4]}) == chosen.sum() > 0
    gone = [ids[row] for row in np.flatnonzero(chosen)], vectors[chosen]
    assert files_with(tmp_path / "g.db", *gone), "Milvus Lite has a way to forget: use it"
    gallery.compact()
    assert not files_with(tmp_path / "g.db", *gone)
    assert gallery.count() == (~chosen).sum()
    opened = MilvusGallery.open(str(tmp_path / "g.db"), "hall", log=tmp_path / "log", who="bob")
    np.testing.assert_array_equal(opened.read().embeddings, vectors[~chosen])
    assert opened.model == gallery.model
    assert opened.verify() == ((~chosen).sum(), (), 0, (), ())
    lines = [(line["who"], line["action"]) for line in gallery.log]
    assert lines == [("ann", "add"), *[("ann", "search")] * 3, ("ann", "delete"), ("ann", "compact"), ("bob", "read")]
    # What a killed compaction left is removed by the next one.
    leftover = f"hall_{int(gallery._collection().split('_')[-1]) + 1}"
    milvus_schema.make(gallery._client, leftover, gallery.model, 60)
    gallery.compact()
    collections = gallery._ask("list_collections")
    assert sorted(collections) == sorted({"hall_about", gallery._collection()})
    assert gallery.count() == (~chosen).sum()


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_search_grows_until_it_is_exact(metric, uri, monkeypatch):
    # Far from the origin and close together: Milvus's float32 distances do not tell the tracklets apart.
    random = np.random.default_rng(0)
    vectors = (100 + 1e-4 * random.normal(size=(400, 6))).astype(np.float32)
    record = samples.people(400, metric=metric, embeddings=vectors)
    gallery = MilvusGallery.create(uri, f"near_{metric}", GalleryModel.of(record))
    gallery.add(record)
    sizes = []
    search = type(gallery._client).search
    monkeypatch.setattr(
        type(gallery._client),
        "search",
        lambda *args, **options: sizes.append(options["limit"]) or search(*args, **options),
    )
    queries = record.take([0, 1, 2])
    memory = samples.make("memory", None, record)
    memory.add(record)
    expected = memory.search_many(queries, 3, threshold=None)

    def pairs(found):
        return [[(match.id, match.distance) for match in matches] for matches in found]

    assert pairs(gallery.search_many(queries, 3, threshold=None)) == pairs(expected)
    assert max(sizes) > 22
    # Where Milvus gives too few, all tracklets are read.
    monkeypatch.setattr(milvus_gallery, "_MOST_FOUND", 30)
    assert pairs(gallery.search_many(queries, 3, threshold=None)) == pairs(expected)
    assert max(sizes[-3:]) == 30


@pytest.mark.slow
def test_several_requests_all_or_nothing(uri, monkeypatch):
    record = samples.people(50)
    gallery = MilvusGallery.create(uri, "requests", GalleryModel.of(record))
    monkeypatch.setattr(milvus_schema, "REQUEST_BYTES", 1000)
    assert gallery.add(record.take(range(20))).added == 20
    client, calls = type(gallery._client), []
    upsert = client.upsert

    def fail(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return upsert(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(client, "upsert", fail)
        with pytest.raises(KeyboardInterrupt):
            gallery.add(record)
    assert gallery.count() == 20
    assert gallery.add(record) == (30, 20, 0)
    assert set(gallery.read().ids) == set(record.ids)
    gallery.compact()
    assert gallery.verify() == (50, (), 0, (), ())


@pytest.mark.slow
def test_damage_is_named_and_dropped(uri):
    record = samples.people(9)
    gallery = MilvusGallery.create(uri, "damage", GalleryModel.of(record))
    gallery.add(record)
    (row,) = gallery._ask("query", "damage", ids=["t4"], output_fields=list(milvus_schema.FIELDS))
    changed = {name: row[name] for name in milvus_schema.FIELDS} | {"camera": 77}
    gallery._ask("upsert", gallery._collection(), [changed])
    assert gallery.verify() == (8, ("t4",), 0, (), ())
    assert gallery.verify(drop=True).damaged == ("t4",)
    assert gallery.verify() == (8, (), 0, (), ())


def test_names_and_places(uri, tmp_path):
    model = GalleryModel("f", 2, "cosine")
    MilvusGallery.create(uri, "first", model, keep_days=3)
    assert MilvusGallery.open(uri, "first").keep_days == 3
    with pytest.raises(FileExistsError, match="collection='first', and there is a collection 'first_about'"):
        MilvusGallery.create(uri, "first", model)
    with pytest.raises(FileNotFoundError, match=r"all\.db', collection='second'"):
        MilvusGallery.open(uri, "second")
    for wrong in ("", "two words", "1st", "a" * 300, None):
        with pytest.raises(ValueError, match="Received: collection="):
            MilvusGallery.open(uri, wrong)
    for unreachable in (str(tmp_path / "none" / "g.db"), "http://127.0.0.1:9"):
        with pytest.raises(OSError, match=r"cannot be reached.*Received: uri="):
            MilvusGallery.open(unreachable, "first", timeout=0.5)
    for changes, complaint in (
        ({"ids": ["a" * 70000]}, "65535 bytes.*70000 bytes"),
        ({"tags": [{f"n{n}": "" for n in range(5000)}]}, "4096 tags.*Received: 5000 tags"),
    ):
        wrong = samples.people(1, dimension=2, metric="cosine", model="f", **changes)
        with pytest.raises(ValueError, match=complaint):
            MilvusGallery.open(uri, "first").add(wrong)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ""),
        ({"cameras": []}, None),
        ({"tags": {"a=b": "c"}}, None),
        ({"ids": ['a"b\\', "ü"]}, 'id in ["a\\"b\\\\", "ü"]'),
        ({"since": 1e-7, "until": 3}, "end >= 1e-07 and start < 3.0"),
        ({"not_cameras": [1, 2], "persons": [0]}, "person in [0] and camera not in [1, 2]"),
    ],
)
def test_conditions(where, expected):
    assert milvus_schema.expression(Where.of(where)) == expected


def test_the_package_is_named_where_it_is_missing():
    code = """
import sys
sys.modules["pymilvus"] = None
import kreid
try:
    kreid.gallery.MilvusGallery.open("g.db", "hall")
except ImportError as error:
    assert "pip install 'kreid[milvus]'" in str(error)
else:
    raise SystemExit("opened")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
