"""The approximate index of a gallery on the disk: recall, conditions, what is added and forgotten, damage."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import gallery_samples as samples
import numpy as np
import pytest

from kreid.cli import main
from kreid.gallery import GalleryBusyError, GalleryModel, LanceGallery, arrow, compressed_index, lance_gallery

PERSONS, EACH, DIMENSION = 80, 16, 24


def crowd(count=PERSONS * EACH, seed=0, metric="euclidean", prefix="t"):
    """Tracklets of many persons, without two of equal distance."""
    random = np.random.default_rng(seed)
    persons = random.integers(1, PERSONS + 1, count)
    points = np.random.default_rng(7).normal(size=(PERSONS, DIMENSION))
    vectors = (points[persons - 1] + 0.3 * random.normal(size=(count, DIMENSION))).astype(np.float32)
    labels = samples.people(count, seed, metric=metric, prefix=prefix, dimension=DIMENSION)
    persons[random.random(count) < 0.1] = 0
    return dataclasses.replace(labels, embeddings=vectors, persons=persons)


@pytest.fixture(scope="module")
def record():
    return crowd()


def made(folder, record, **options):
    gallery = LanceGallery.create(folder / "hall", GalleryModel.of(record), **options)
    for rows in np.array_split(np.arange(len(record)), 3):
        gallery.add(record.take(rows))
    return gallery


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    """Measure the recall with few queries, for speed."""
    monkeypatch.setattr(compressed_index, "SAMPLE", 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, record):
    folder = tmp_path_factory.mktemp("made")
    made(folder, record).make_index()
    return folder / "hall"


@pytest.fixture
def gallery(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "hall")
    return LanceGallery.open(tmp_path / "hall")


def ids(matches):
    return [match.id for match in matches]


@pytest.mark.parametrize(("metric", "cache_bytes"), [("euclidean", 1 << 30), ("cosine", 0)])
def test_a_search_finds_what_the_index_promises(tmp_path, metric, cache_bytes):
    record = crowd(metric=metric)
    gallery = made(tmp_path, record, cache_bytes=cache_bytes)
    assert gallery.index is None
    report = gallery.make_index()
    assert (report.target, report.tracklets) == (0.98, len(record))
    assert 0.98 <= report.recall <= 1 and 4 * report.compared <= len(record)
    again = LanceGallery.open(tmp_path / "hall", cache_bytes=cache_bytes)
    assert again.index == gallery.index == report
    queries = crowd(100, seed=1, metric=metric, prefix="q")
    exact = again.search_many(queries, threshold=None, exact=True)
    found = again.search_many(queries, threshold=None)
    assert compressed_index.recall_of(found, exact) > 0.95
    plain = samples.plain_search(record, queries, 10)
    assert [ids(own) for own in exact] == [[name for name, _ in own] for own in plain]
    # Some of the far ones are missing: the search did not compare all.
    many = [gallery.search_many(queries, 80, threshold=None, exact=one) for one in (True, False)]
    assert compressed_index.recall_of(many[1], many[0]) < 1
    assert all(len(own) == 80 for own in many[1])


FILTERS = [
    {},
    {"cameras": [2]},
    {"not_cameras": [1, 2], "since": 20.5, "until": 50.5, "tags": {"coat": "red"}},
    {"sources": ["yard's.mp4"], "tags": {"coat": "blue", "bag": "yes"}},
    {"persons": [4, 5]},
    {"ids": ["t3", "t5", "none"]},
    {"tags": {"hat": "none"}},
]


def test_searches_with_conditions_are_exact(folder):
    gallery = LanceGallery.open(folder)
    queries = crowd(6, seed=1, prefix="q")
    kinds = [{"where": where} for where in FILTERS[1:]] + [{"other_cameras": True}, {"by_person": True}]
    for kind in kinds:
        assert gallery.index_for(**kind) is None
        found = [gallery.search_many(queries, 80, threshold=None, exact=exact, **kind) for exact in (False, True)]
        assert str(found[0]) == str(found[1])  # `Match` has NaN.
    assert gallery.index_for() == gallery.index_for(where={}) == gallery.index is not None
    assert gallery.index_for(exact=True) is None


def test_a_threshold_and_the_own_tracklet(gallery, record):
    queries = record.take([0, 5, 9])
    for matches, best in zip(gallery.search_many(queries), gallery.search_many(queries, exact=True), strict=True):
        assert ids(matches) == ids(best)
    for row, matches in enumerate(gallery.search_many(queries, 5, threshold=None)):
        assert queries.ids[row] not in ids(matches)


def test_what_comes_after_the_index_is_found_and_what_is_deleted_is_not(gallery, record, tmp_path):
    other = LanceGallery.open(tmp_path / "hall")
    report = gallery.index
    random = np.random.default_rng(3)
    # Far from all others, so that no code is like them.
    strange = (50 + random.normal(size=(5, DIMENSION))).astype(np.float32)
    new = dataclasses.replace(crowd(5, seed=8, prefix="n"), embeddings=strange)
    gallery.add(new)
    query = crowd(1, seed=1, prefix="q")
    for one in (gallery, other):
        found = one.search(dataclasses.replace(query, embeddings=strange[:1]), 5, threshold=None)
        assert set(ids(found)) == set(new.ids.tolist()) and found[0].distance == 0
    nearest = ids(gallery.search(query, 6, threshold=None))
    gallery.delete({"ids": [nearest[0], nearest[2]]})
    for one in (gallery, other):
        assert ids(one.search(query, 4, threshold=None)) == [nearest[place] for place in (1, 3, 4, 5)]
    assert gallery.index == report


def test_an_old_tracklet_is_not_found(gallery):
    query = crowd(1, seed=1, prefix="q")
    assert gallery.search(query, threshold=None)
    gallery.set_keep_days(1e-9)
    assert gallery.search(query, threshold=None) == []


def files_with(path, *texts):
    return {file.name for file in path.rglob("*") if file.is_file() and any(one in file.read_bytes() for one in texts)}


def test_compaction_leaves_nothing_of_the_deleted_in_the_index(tmp_path, record):
    vectors = record.embeddings.copy()
    vectors[7] += 100
    record = dataclasses.replace(record, embeddings=vectors)
    gallery = made(tmp_path, record)
    gallery.make_index()
    (gone,) = arrow.to_table(record.take([7]), np.zeros(1)).column("embedding").to_pylist()
    pairs = [np.float32(gone[place : place + 2]).tobytes() for place in range(DIMENSION - 1)]
    held = [part for parts in gallery._memory.values() for part in parts]
    rows = {name: part.digests[row] for part in held for row, name in enumerate(part.batch.column("id").to_pylist())}
    digest = rows[str(record.ids[7])].tobytes()
    assert "index.npz" in files_with(tmp_path, digest)
    assert files_with(tmp_path, *pairs) - {"index.npz"}
    gallery.delete({"ids": [str(record.ids[7])]})
    before = gallery._current_index().codebooks
    gallery.compact()
    assert not files_with(tmp_path, digest, *pairs)
    index = gallery._current_index()
    # The codes are learnt from those that are left.
    assert index.report.tracklets == len(record) - 1 and index.report.recall >= 0.98
    assert not np.array_equal(before, index.codebooks)
    assert gallery.verify() == (len(record) - 1, (), 0, (), ())


def test_compaction_that_forgets_nothing_keeps_the_index(gallery, record, tmp_path):
    file = tmp_path / "hall" / "index.npz"
    content = file.read_bytes()
    (tmp_path / "hall" / ".writing-0123.npz").write_bytes(content)  # As a killed process leaves it.
    query = crowd(1, seed=1, prefix="q")
    before = gallery.search(query, threshold=None)
    gallery.compact()
    assert file.read_bytes() == content
    assert not list((tmp_path / "hall").glob(".writing-*"))
    assert str(gallery.search(query, threshold=None)) == str(before)
    assert [line["action"] for line in gallery.log].count("make_index") == 1


def test_an_index_that_cannot_be_made_again_is_gone_after_compaction(gallery, record, tmp_path):
    gallery.delete({"persons": list(range(PERSONS))})
    assert gallery.delete({"ids": gallery.read().ids[:-40].tolist()}) or gallery.count() <= 40
    with pytest.warns(UserWarning, match="has no index any more: searches compare all.*at least 256 tracklets"):
        gallery.compact()
    assert gallery.index is None and not (tmp_path / "hall" / "index.npz").exists()


def test_an_index_can_be_removed(gallery, tmp_path):
    other = LanceGallery.open(tmp_path / "hall")
    assert other.index == gallery.index
    gallery.remove_index()
    gallery.remove_index()
    assert gallery.index is None and other.index is None
    assert other.make_index(0.9).target == gallery.index.target == 0.9


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, change, lambda file: file.write_bytes(b"")])
def test_a_damaged_index_is_no_damaged_gallery(gallery, record, tmp_path, damage, capsys):
    file, path = tmp_path / "hall" / "index.npz", str(tmp_path / "hall")
    query = crowd(1, seed=1, prefix="q")
    exact = gallery.search(query, 80, threshold=None, exact=True)
    damage(file)
    for one in (gallery, LanceGallery.open(path)):
        with pytest.warns(UserWarning, match="Searches compare all tracklets: `kreid gallery index` makes the index"):
            assert str(one.search(query, 80, threshold=None)) == str(exact)
        with warnings.catch_warnings(action="error"):  # Once.
            assert str(one.search(query, 80, threshold=None)) == str(exact)
            assert one.index is None and one.damaged_files == ("index.npz",)
            assert one.verify() == (len(record), (), 0, (), ("index.npz",))
    assert main(["gallery", "verify", path]) == 1
    assert "0 damaged, 0 lost\nfile: index.npz\nMake the index anew" in capsys.readouterr().out
    assert main(["gallery", "verify", path, "--drop"]) == 0
    assert not file.exists() and gallery.verify() == (len(record), (), 0, (), ())
    gallery.make_index()
    damage(file)
    with pytest.warns(UserWarning, match="makes the index anew"):
        gallery.compact()  # What it has of deleted tracklets cannot be known.
    assert gallery.index.recall >= 0.98


def test_an_index_of_another_version_is_made_anew(gallery, tmp_path, monkeypatch):
    file = tmp_path / "hall" / "index.npz"
    index = gallery._current_index()
    monkeypatch.setattr(compressed_index, "_FORMAT", 1)
    index.save(file)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"`kreid gallery index` makes the index anew.*another version.*in format 1"):
        assert gallery.search(crowd(1, seed=1), threshold=None)
    gallery.make_index()
    assert gallery.index is not None


def test_without_faiss_searches_are_exact(gallery, monkeypatch):
    query = crowd(1, seed=1, prefix="q")
    exact = gallery.search(query, 80, threshold=None, exact=True)
    monkeypatch.setitem(sys.modules, "faiss", None)
    again = LanceGallery.open(gallery._path)
    with pytest.warns(UserWarning, match=r"Searches compare all.*FAISS: pip install 'kreid\[index\]'"):
        assert str(again.search(query, 80, threshold=None)) == str(exact)
    with warnings.catch_warnings(action="error"):  # Once.
        assert str(again.search(query, 80, threshold=None)) == str(exact)
        assert again.index == gallery.index and again.damaged_files == ()
    with pytest.raises(ImportError, match=r"kreid\[index\]"):
        again.make_index()


@pytest.mark.parametrize("dimension", [1, 6, 31])
def test_embeddings_of_any_length(tmp_path, dimension):
    """Some fill up no last block of four values."""
    random = np.random.default_rng(2)
    record = samples.people(300, dimension=dimension)
    record = dataclasses.replace(record, embeddings=random.normal(size=(300, dimension)).astype(np.float32))
    gallery = made(tmp_path, record)
    report = gallery.make_index(0.5)
    assert report.recall >= 0.5 and LanceGallery.open(tmp_path / "hall").index == report
    for row in range(3):
        own = dataclasses.replace(record.take([row]), ids=np.array(["q"]))
        assert gallery.search(own, 1, threshold=None)[0].id == record.ids[row]


def test_an_index_of_another_size_is_refused(gallery, tmp_path):
    with pytest.raises(ValueError, match=r"index cannot be read: its arrays do not fit.*path="):
        compressed_index.CompressedIndex.load(tmp_path / "hall" / "index.npz", DIMENSION + 1)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_damaged_file_of_tracklets(gallery, record, tmp_path, cache_bytes):
    for file in sorted((tmp_path / "hall" / "tracklets.lance" / "data").iterdir())[:1]:
        cut(file)
    again = LanceGallery.open(tmp_path / "hall", cache_bytes=cache_bytes)
    query = crowd(1, seed=1, prefix="q")
    with pytest.warns(UserWarning, match="42[67] tracklets of the gallery are damaged and left out"):
        found = again.search(query, 10, threshold=None)
    assert ids(found)[:5] == ids(again.search(query, 5, threshold=None, exact=True))
    assert again.index is not None


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_changed_value_is_not_found(gallery, record, tmp_path, cache_bytes):
    query = record.take([3])
    nearest = ids(gallery.search(query, 3, threshold=None))
    vector = record.embeddings[record.ids == nearest[0]][0].tobytes()
    for file in (tmp_path / "hall" / "tracklets.lance" / "data").iterdir():
        changed = bytearray(vector)
        changed[17] ^= 1
        file.write_bytes(file.read_bytes().replace(vector, bytes(changed)))
    again = LanceGallery.open(tmp_path / "hall", cache_bytes=cache_bytes)
    with pytest.warns(UserWarning, match="1 tracklets of the gallery are damaged"):
        assert ids(again.search(query, 2, threshold=None)) == nearest[1:]


@pytest.mark.parametrize("recall", [0, 1.5, -1, True, "high"])
def test_an_impossible_recall(gallery, recall):
    with pytest.raises(ValueError, match=f"above 0 and up to 1. Received: recall={recall!r}"):
        gallery.make_index(recall)


def test_an_index_that_would_not_be_faster_is_refused(tmp_path):
    # Without any clusters, the nearest are in all lists.
    record = samples.people(400, dimension=200)
    noise = np.random.default_rng(0).normal(size=(400, 200)).astype(np.float32)
    gallery = made(tmp_path, dataclasses.replace(record, embeddings=noise))
    low = gallery.make_index(0.05)
    with pytest.raises(ValueError, match=r"would not make searches faster: .* a quarter .* finds 0\.\d+ of the 10"):
        gallery.make_index()
    assert gallery.index == low and 0.05 <= low.recall < 0.98
    small = LanceGallery.create(tmp_path / "small", gallery.model)
    small.add(record.take(np.arange(255)))
    with pytest.raises(ValueError, match=r"at least 256 tracklets.*255 tracklets in path"):
        small.make_index()
    assert small.index is None and sorted(os.listdir(tmp_path / "small"))[0] == "audit.jsonl"


def test_no_index_is_made_from_what_is_deleted_meanwhile(gallery, record, tmp_path, monkeypatch):
    gone = iter(record.ids.tolist())
    learn = compressed_index.learn_codebooks

    def deleting(*arguments):
        if times:
            times.pop()
            LanceGallery.open(tmp_path / "hall").delete({"ids": [next(gone)]})
        return learn(*arguments)

    monkeypatch.setattr(lance_gallery, "learn_codebooks", deleting)
    drawn = []
    draw = LanceGallery._drawn
    monkeypatch.setattr(LanceGallery, "_drawn", lambda *own: drawn.append(draw(*own)) or drawn[-1])
    times = [1]
    assert gallery.make_index().tracklets == len(record) - 1
    assert len(drawn) == 4 and record.ids[0] not in drawn[-1][0].ids  # Made again, without it.
    times = [1, 2, 3]
    before = gallery.index
    with pytest.raises(GalleryBusyError, match=r"delete tracklets all the time.*path="):
        gallery.make_index()
    assert gallery.index == before


def test_the_command(tmp_path, record, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    record.save("all.npz")
    crowd(2, seed=1, prefix="q").save("q.npz")
    assert main(["gallery", "add", "halls", "all.npz"]) == 0
    capsys.readouterr()
    assert main(["gallery", "list", "halls"]) == 0
    assert "searches: exact\n" in capsys.readouterr().out
    assert main(["gallery", "index", "halls", "--recall", "0.9"]) == 0
    report = LanceGallery.open("halls").index
    line = f"by an index of recall {report.recall:.3f} of the 10 nearest (target 0.9), which compares {report.compared}"
    assert line in capsys.readouterr().out
    search = ["gallery", "search", "halls", "q.npz", "--threshold", "none"]
    assert main(search) == 0
    assert f"By an index of recall {report.recall:.3f}" in capsys.readouterr().err
    assert main([*search, "--exact"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["gallery", "index", "halls", "--recall", "2"]) == 2
    assert "recall=2.0" in capsys.readouterr().err
    assert main(["gallery", "index", "halls", "--remove"]) == 0
    assert "searches: exact\n" in capsys.readouterr().out


def test_threads_search_while_the_gallery_and_its_index_change(gallery):
    queries = crowd(12, seed=1, prefix="q")
    exact = gallery.search_many(queries, 5, threshold=None, exact=True)
    stop, errors, recalls = threading.Event(), [], []

    def search():
        try:
            while not stop.is_set():
                recalls.append(compressed_index.recall_of(gallery.search_many(queries, 5, threshold=None), exact))
        except Exception as error:  # For the assertion below, whatever it is.
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(3):
            far = crowd(40, seed=8, prefix=f"far{number}_")
            gallery.add(dataclasses.replace(far, embeddings=far.embeddings + 4))
            gallery.make_index()
            gallery.delete({"ids": far.ids[:20].tolist()})
            gallery.compact()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    # Learnt anew, an index finds other ones of the nearest.
    assert len(recalls) >= 3 and min(recalls) > 0.9
    assert gallery.index is not None and gallery.verify() == (PERSONS * EACH + 60, (), 0, (), ())


@pytest.mark.slow
def test_a_killed_builder_leaves_the_gallery_as_it_was(record, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from kreid.gallery import LanceGallery
gallery = LanceGallery.open(sys.argv[1])
while True:
    print("make", flush=True)
    gallery.make_index()
"""
    gallery = made(tmp_path, record)
    gallery.make_index()
    for kill in range(12):
        builder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "hall")], stdout=subprocess.PIPE)
        assert builder.stdout.readline() == b"make\n"
        threading.Event().wait(0.15 * kill)
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        again = LanceGallery.open(tmp_path / "hall")
        with warnings.catch_warnings(action="error"):
            assert again.verify() == (len(record), (), 0, (), ())
            assert again.index.recall >= 0.98 and again.index.tracklets == len(record)
    gallery.compact()
    assert not list((tmp_path / "hall").glob(".writing-*"))
