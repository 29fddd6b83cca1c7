"""Galleries on the disk: what is forgotten, several processes, damage, a full disk."""

import dataclasses
import json
import os
import random
import re
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
from kreid.gallery import GalleryModel, LanceGallery, Where, lance_gallery

PROGRAM = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import gallery_samples as samples
from kreid.gallery import LanceGallery
gallery = LanceGallery.open(sys.argv[1])
"""


def start(code, path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


@pytest.fixture
def record():
    return samples.people(300, dimension=64)


@pytest.fixture
def gallery(tmp_path, record):
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(record), who="ann")
    for rows in np.array_split(np.arange(300), 3):
        gallery.add(record.take(rows))
    return gallery


def data_files(path):
    return sorted((path / "hall" / "tracklets.lance" / "data").iterdir())


def files_with(path, embedding):
    """Files of a folder with any two neighbouring values of an embedding."""
    pairs = [embedding[place : place + 2].tobytes() for place in range(len(embedding) - 1)]
    contents = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return [file for file, content in contents.items() if any(pair in content for pair in pairs)]


CHOICES = {"one": {"ids": ["t9"]}, "some": {"persons": [4]}, "all": {"cameras": [1, 2, 3, 4]}}


@pytest.mark.parametrize("files", [1, 2])
@pytest.mark.parametrize("where", CHOICES.values(), ids=CHOICES)
def test_compaction_leaves_no_byte_of_a_deleted_embedding(record, tmp_path, where, files):
    # No two tracklets have two neighbouring values in common.
    vectors = np.random.default_rng(3).normal(size=(300, 64)).astype(np.float32)
    record = dataclasses.replace(record, embeddings=vectors)
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(record))
    # A single file is not merged: it is written anew for the deleted rows alone, however few.
    for rows in np.array_split(np.arange(300), files):
        gallery.add(record.take(rows))
    gallery.search_many(record)
    chosen = Where.of(where).mask(record)
    assert gallery.delete(where) == chosen.sum() > 0
    gone, kept = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    assert files_with(tmp_path / "hall", vectors[gone[0]])
    gallery.compact()
    for row in gone:
        assert not files_with(tmp_path / "hall", vectors[row])
    for row in kept[:3]:
        assert files_with(tmp_path / "hall", vectors[row])
    assert gallery.verify() == (len(kept), (), 0, (), ())


def test_the_log_says_who_asked_for_what(gallery, record, tmp_path):
    other = LanceGallery.open(tmp_path / "hall", who="bob")
    other.search_many(record.take([0, 1]), 3, where={"cameras": [2]})
    other.delete({"ids": ["t5"]})
    other.export_parquet(tmp_path / "x.parquet")
    gallery.compact()
    lines = list(gallery.log)
    assert [(line["who"], line["action"]) for line in lines] == [
        *[("ann", "add")] * 3,
        *(("bob", action) for action in ("search", "delete", "export")),
        ("ann", "compact"),
    ]
    assert lines[3]["ids"] == record.ids[:2].tolist() and lines[3]["where"] == {"cameras": [2]}
    assert (lines[4]["where"], lines[4]["tracklets"]) == ({"ids": ["t5"]}, 1)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"]) for line in lines)
    assert LanceGallery.open(tmp_path / "hall").log  # The default is somebody.
    with open(tmp_path / "hall" / "audit.jsonl", "a") as file:
        file.write('{"time": "cut o')
    assert list(gallery.log) == lines
    gallery.compact()
    assert [line["action"] for line in gallery.log] == [line["action"] for line in lines] + ["compact"]


def test_nothing_is_done_that_cannot_be_logged(gallery, record, tmp_path):
    (tmp_path / "hall" / "audit.jsonl").unlink()
    (tmp_path / "hall" / "audit.jsonl").mkdir()
    for call in (
        lambda: gallery.search(record.take([0])),
        lambda: gallery.delete({"ids": ["t1"]}),
        lambda: gallery.add(samples.people(2, dimension=64, prefix="n")),
        lambda: gallery.export_parquet(tmp_path / "x.parquet"),
    ):
        with pytest.raises(OSError, match="Nothing was done, because the gallery's log cannot be written"):
            call()
    assert gallery.count() == 300 and not (tmp_path / "x.parquet").exists()


def test_a_second_process_sees_each_change(gallery, record, tmp_path):
    reader = LanceGallery.open(tmp_path / "hall")
    assert reader.count() == 300
    gallery.delete({"ids": ["t1"]})
    assert reader.count() == 299
    gallery.compact()
    assert len(reader.search(record.take([0]), 400, threshold=None)) in (298, 299)
    assert finish(start("print(gallery.count())", tmp_path / "hall")) == "299\n"


def test_readers_while_others_write_and_compact(gallery, record, tmp_path):
    code = """
query = samples.people(300, dimension=64).take([0])
counts = set()
print("ready", flush=True)
while "stay" in gallery.read({"ids": ["stay", "stop"]}).ids.tolist() or not counts:
    counts.add(len(gallery.search(query, 1000, threshold=None)))
print(*sorted(counts))
"""
    gallery.add(samples.people(1, dimension=64, ids=["stay"]))
    readers = [start(code, tmp_path / "hall") for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n", reader.stderr.read()
    more = samples.people(20, seed=4, dimension=64, prefix="n")
    own = int("t" in record.ids[0])  # The query is a tracklet of the gallery, and left out.
    for _ in range(8):
        gallery.add(more)
        gallery.compact()
        gallery.delete({"ids": more.ids.tolist()})
        gallery.compact()
    gallery.delete({"ids": ["stay"]})
    allowed = {301 - own, 321 - own, 300 - own}
    for reader in readers:
        assert set(map(int, finish(reader).split())) <= allowed


def test_two_writers_take_turns(gallery, tmp_path):
    code = """
import numpy as np
more = samples.people(12, seed=int(sys.argv[2]), dimension=64, prefix=sys.argv[2] + "-")
for row in range(12):
    assert gallery.add(more.take([row])).added == 1
    gallery.add(samples.people(300, dimension=64).take([row]))
"""
    for writer in [start(code, tmp_path / "hall", number) for number in (1, 2)]:
        finish(writer)
    assert gallery.count() == 324
    assert gallery.verify().intact == 324


def test_threads_share_a_gallery(gallery):
    more = samples.people(24, seed=4, dimension=64, prefix="n")
    failed = []

    def work(rows):
        try:
            for row in rows:
                gallery.add(more.take([row]))
                gallery.search(more.take([row]))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in np.array_split(np.arange(24), 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert gallery.count() == 324


def test_a_writer_that_waits_too_long_says_so(gallery, tmp_path):
    other = LanceGallery.open(tmp_path / "hall", wait=0.05)
    with (
        gallery._writing(),
        pytest.raises(OSError, match=r"writing to this gallery for 0.05 seconds.*path="),
    ):
        other.add(samples.people(1, dimension=64, prefix="n"))
    assert other.add(samples.people(1, dimension=64, prefix="n")).added == 1


def test_many_small_adds_stay_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(lance_gallery, "_SMALL_FILES", 6)
    record = samples.people(20, dimension=8)
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(record))
    for row in range(20):
        gallery.add(record.take([row]))
        assert len(data_files(tmp_path)) <= 7
    assert gallery.verify().intact == 20
    gallery.compact()
    assert len(data_files(tmp_path)) == 1
    assert len(list((tmp_path / "hall" / "tracklets.lance" / "_versions").glob("*.manifest"))) == 1


def test_small_files_that_fill_one_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(lance_gallery, "_FILE_ROWS", 16)
    record = samples.people(40, dimension=8)
    gallery = LanceGallery.create(tmp_path / "hall", GalleryModel.of(record))
    sizes = []
    for rows in np.split(np.arange(40), 8):
        gallery.add(record.take(rows))
        sizes.append([fragment.count_rows() for fragment in gallery._dataset().get_fragments()])
    # Files of less than 8 tracklets never have 16 together.
    assert [len(one) for one in sizes[:3]] == [1, 2, 3]
    assert all(sum(size for size in one if size < 8) < 16 for one in sizes)
    assert max(map(len, sizes)) <= 5
    assert gallery.verify().intact == 40


def test_deleted_embeddings_leave_the_memory(gallery, record, tmp_path):
    reader = LanceGallery.open(tmp_path / "hall")
    for own, other in ((reader, gallery), (gallery, reader)):
        for one in (own, other):
            one.search(record.take([0]))
        gone = own.read().ids[0]
        assert gone in names_in_memory(own) and gone in names_in_memory(other)
        assert own.delete({"ids": [gone]}) == 1
        assert gone not in names_in_memory(own)
        other.count()  # Another process drops it with its next request.
        assert gone not in names_in_memory(other)


def names_in_memory(gallery):
    parts = [part for kept in gallery._memory.values() for part in kept]
    return {name for part in parts for name in part.take(np.arange(len(part.persons))).ids.tolist()}


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def blank(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [cut, blank, Path.unlink])
def test_a_damaged_file_costs_its_tracklets_alone(gallery, record, tmp_path, damage):
    third = gallery.read()
    lost = None
    for file in data_files(tmp_path):
        content = file.read_bytes()
        ids = {name for name in record.ids.tolist() if record.embeddings[record.ids == name][0].tobytes() in content}
        if len(ids) >= 100:
            lost = file, ids
    file, ids = lost
    damage(file)
    again = LanceGallery.open(tmp_path / "hall")
    with pytest.warns(UserWarning, match=rf"100 tracklets of the gallery are damaged.*{file.name}"):
        left = again.read()
    assert len(left) == 200
    with warnings.catch_warnings(action="error"):  # Once.
        found = again.search(record.take([0]), 400, threshold=None)
    assert {match.id for match in found} == set(left.ids) - {record.ids[0]}
    state = again.verify()
    assert (state.intact, state.lost, state.damaged, state.is_whole) == (200, 100, (), False)
    assert state.files == (f"tracklets.lance/data/{file.name}",)
    # What is in other files can be forgotten nevertheless.
    gone = left.take([row for row, name in enumerate(left.ids) if name in record.ids[[40, 120, 220]]])
    with pytest.warns(UserWarning, match=rf"may still have what was to be deleted.*verify --drop.*{file.name}"):
        assert again.delete({"ids": gone.ids.tolist()}) == 2
    assert list(again.log)[-1] | {"files": [f"tracklets.lance/data/{file.name}"]} == list(again.log)[-1]
    assert all(files_with(tmp_path, vector) for vector in gone.embeddings)
    for _ in range(2):  # The second time there is nothing to do.
        again.compact()
        assert not any(files_with(tmp_path, vector) for vector in gone.embeddings)
    with pytest.warns(UserWarning, match="may still have what was to be deleted"):
        assert again.delete({"ids": gone.ids.tolist()}) == 0
    state = again.verify()
    assert (state.intact, state.lost, state.is_whole) == (198, 100, False)
    assert again.verify(drop=True) == state
    assert again.verify().is_whole and again.count() == 198
    assert again.add(third).added == 102
    assert again.delete({"ids": [left.ids[0]]}) == 1
    assert list(again.log)[-3]["action"] == "drop_damaged"


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_damaged_file_that_has_deleted_tracklets_says_so(gallery, record, tmp_path, damage, capsys):
    path = str(tmp_path / "hall")
    broken, other, third = (record.take([row]) for row in (40, 120, 220))
    assert gallery.delete({"ids": [broken.ids[0], other.ids[0]]}) == 2
    (first,) = set(files_with(tmp_path, broken.embeddings[0])) & set(data_files(tmp_path))
    damage(first)
    again = LanceGallery.open(path)
    with pytest.warns(UserWarning, match=rf"may still have bytes of deleted embeddings.*{first.name}"):
        again.compact()
    assert files_with(tmp_path, other.embeddings[0]) == []
    assert list(again.log)[-1]["action"] == "left_in_damaged"
    assert main(["gallery", "delete", path, "--id", third.ids[0]]) == 1
    said = capsys.readouterr()
    assert "1 tracklets deleted" in said.out and "may still have what was to be deleted" in said.err
    assert files_with(tmp_path, third.embeddings[0]) == []
    assert main(["gallery", "verify", path, "--drop"]) == 0
    assert main(["gallery", "delete", path, "--person", "1"]) == 0


def test_a_changed_value_is_found(gallery, record, tmp_path):
    row = record.ids.tolist().index("t42")
    vector = record.embeddings[row].tobytes()
    (file,) = [file for file in data_files(tmp_path) if vector in file.read_bytes()]
    changed = bytearray(vector)
    changed[17] ^= 1
    file.write_bytes(file.read_bytes().replace(vector, bytes(changed)))
    state = LanceGallery.open(tmp_path / "hall").verify()
    equal = record.ids[(record.embeddings == record.embeddings[row]).all(axis=1)]
    assert "t42" in state.damaged and set(state.damaged) <= set(equal)
    assert state.intact == 300 - len(state.damaged) and state.files == (f"tracklets.lance/data/{file.name}",)
    assert gallery.verify(drop=True) == state
    assert gallery.add(record).added == len(state.damaged)
    assert gallery.verify().intact == 300


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_random_damage_never_ends_in_a_crash_or_a_wrong_answer(gallery, record, tmp_path, cache_bytes):
    # Whatever `verify` calls intact is as it was added.
    draws = random.Random(5)
    whole = {file: file.read_bytes() for file in data_files(tmp_path)}
    for _ in range(12):
        for file, content in whole.items():
            damaged = bytearray(content)
            for _ in range(draws.choice([0, 1, 5, 200])):
                damaged[draws.randrange(len(damaged))] = draws.randrange(256)
            file.write_bytes(damaged)
        again = LanceGallery.open(tmp_path / "hall", cache_bytes=cache_bytes)
        with warnings.catch_warnings(action="ignore"):
            state = again.verify()
            found = again.search(record.take([0]), 1000, threshold=None)
            again.read()
        assert state.intact + len(state.damaged) + state.lost == 300
        embeddings = dict(zip(record.ids.tolist(), record.embeddings, strict=True))
        for match in found:
            distance = np.linalg.norm(embeddings[match.id].astype(float) - record.embeddings[0].astype(float))
            assert abs(match.distance - distance) < 1e-12
        # Its own tracklet is left out, and a changed one may be too far away to be a candidate.
        assert len(found) >= state.intact - 1
    for file, content in whole.items():
        file.write_bytes(content)
    assert LanceGallery.open(tmp_path / "hall").verify().intact == 300


def test_a_full_disk_changes_nothing(gallery, record, tmp_path):
    code = """
import resource
more = samples.people(3000, seed=4, dimension=64, prefix="n")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
for change in (lambda: gallery.add(more), lambda: gallery.export_parquet(sys.argv[2])):
    try:
        change()
    except OSError as error:
        print(error)
gallery.add(more.take([0]))
"""
    gallery.add(samples.people(1000, seed=9, dimension=64, prefix="m"))
    before = len(data_files(tmp_path))
    out = finish(start(code, tmp_path / "hall", tmp_path / "x.parquet")).splitlines()
    assert "The disk is full, so the gallery is unchanged; free some space" in out[0]
    assert len(out) == 2 and not list(tmp_path.glob("*parquet*"))
    assert len(data_files(tmp_path)) == before + 1  # Of the last add alone.
    assert gallery.verify().intact == 1301
    gallery.compact()


def racing_creation(path, model):
    """Make a gallery while another one is made in the same place."""

    class Racing(GalleryModel):
        def to_dict(self):
            LanceGallery.create(path, model)
            return super().to_dict()

    LanceGallery.create(path, Racing(**model.to_dict()))


def test_places_that_are_no_gallery(gallery, record, tmp_path):
    model = GalleryModel.of(record)
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    for place in ("none", "file"):
        with pytest.raises(FileNotFoundError, match=f"no gallery in this place. Received: path='.*{place}'"):
            LanceGallery.open(tmp_path / place)
    with pytest.raises(ValueError, match=r"is no gallery: it has no gallery\.json"):
        LanceGallery.open(tmp_path / "empty")
    for place in ("hall", "file"):
        with pytest.raises(FileExistsError, match="A new gallery is a new folder"):
            LanceGallery.create(tmp_path / place, model)
    (tmp_path / "made").mkdir()
    with pytest.raises(FileExistsError, match="A new gallery is a new folder"):
        racing_creation(tmp_path / "made" / "g", model)
    assert LanceGallery.open(tmp_path / "made" / "g").count() == 0
    with pytest.raises(FileNotFoundError, match="folder of the gallery's folder"):
        LanceGallery.create(tmp_path / "none" / "g", model)
    assert LanceGallery.create(tmp_path / "empty", model).count() == 0
    about = tmp_path / "hall" / "gallery.json"
    text = about.read_text()
    about.write_text(json.dumps({**json.loads(text), "format": 2}))
    with pytest.raises(ValueError, match=r"newer kreid made this gallery: upgrade.*format=2"):
        LanceGallery.open(tmp_path / "hall")
    for wrong in ("", "[]", "{}", text.replace('"euclidean"', '"l1"'), text[:40]):
        about.write_text(wrong)
        with pytest.raises(ValueError, match=r"gallery\.json is damaged"):
            LanceGallery.open(tmp_path / "hall")
    about.write_text(text)
    for manifest in (tmp_path / "hall" / "tracklets.lance" / "_versions").glob("*.manifest"):
        manifest.write_bytes(b"")
    with pytest.raises(ValueError, match="list of files is damaged; make a new gallery, and import an export"):
        LanceGallery.open(tmp_path / "hall")


def test_only_the_owner_may_read(gallery, tmp_path):
    assert os.stat(tmp_path / "hall").st_mode & 0o777 == 0o700


def test_keep_days_can_be_changed(gallery, tmp_path):
    gallery.set_keep_days(3)
    assert gallery.keep_days == LanceGallery.open(tmp_path / "hall").keep_days == 3
    with pytest.raises(ValueError, match="keep_days=0"):
        gallery.set_keep_days(0)
    gallery.set_keep_days(None)
    assert LanceGallery.open(tmp_path / "hall").keep_days is None


@pytest.mark.slow
def test_a_killed_writer_leaves_all_or_nothing(record, tmp_path):
    code = """
first = int(sys.argv[2])
for number in range(first, first + 400):
    print("adding", number, flush=True)
    gallery.add(samples.people(5, seed=number, dimension=64, prefix=f"{number}-"))
    print("added", number, flush=True)
    if number % 7 == 6:
        gallery.delete({"ids": [f"{number - 3}-{row}" for row in range(5)]})
        print("deleted", number - 3, flush=True)
    if number % 5 == 4:
        gallery.compact()
"""
    LanceGallery.create(tmp_path / "hall", GalleryModel.of(record))
    draws = random.Random(1)
    added, deleted = set(), set()
    for kill in range(20):
        writer = start(code, tmp_path / "hall", kill * 1000)
        lines = [writer.stdout.readline() for _ in range(1 + draws.randrange(30))]
        # In the middle of the next steps.
        threading.Event().wait(draws.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.wait()
        asked = {int(line.split()[1]) for line in lines if line.startswith("adding")}
        done = {int(line.split()[1]) for line in lines if line.startswith("added")}
        deleted |= {int(line.split()[1]) for line in lines if line.startswith("deleted")}
        added |= done
        gallery = LanceGallery.open(tmp_path / "hall")
        assert gallery.verify().is_whole
        counts = {}
        for name in gallery.read().ids.tolist():
            number = int(name.split("-")[0])
            counts[number] = counts.get(number, 0) + 1
        assert set(counts.values()) <= {5}
        missing = added - deleted - set(counts)
        # Deleted, but killed before it said so.
        assert len(missing) <= 1 and all(number % 7 == 3 for number in missing)
        deleted |= missing
        assert not deleted & set(counts)
        added |= set(counts) & asked
        assert set(counts) <= added
    gallery.compact()
    assert len(data_files(tmp_path)) == 1  # What killed writers left is gone.
    assert sorted({int(name.split("-")[0]) for name in gallery.read().ids.tolist()}) == sorted(added - deleted)
