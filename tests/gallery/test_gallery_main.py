"""The command `kreid gallery`."""

import json

import gallery_samples as samples
import numpy as np
import pytest

from kreid.cli import main
from kreid.gallery import LanceGallery, TrackletEmbeddings


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = samples.people(40)
    record.save("all.npz")
    samples.people(5, seed=3, prefix="q", query_rows=[2, 4]).save("q.npz")
    return tmp_path


@pytest.fixture
def call(place, capsys):
    def call(line, status=0):
        assert main(["gallery", *line.split()]) == status
        out = capsys.readouterr()
        return out.err if status == 2 else out.out

    return call


def test_from_adding_to_forgetting(call, place):
    record = samples.people(40)
    out = call("add halls all.npz --source hall.mp4 --tag door=north --keep-days 30 --who ann")
    assert out == "all.npz: 40 tracklets added, 0 there already, 0 junk left out\n"
    assert "0 tracklets added, 40 there already" in call("add halls all.npz --source hall.mp4 --tag door=north")
    gallery = LanceGallery.open("halls")
    assert gallery.keep_days == 30
    assert set(gallery.read().sources) == {"hall.mp4"}
    assert all(tags["door"] == "north" for tags in gallery.read().tags)

    queries = samples.people(5, seed=3, prefix="q").take([2, 4])
    answers = json.loads(call("search halls q.npz --json --count 3 --other-cameras --not-camera 1"))
    expected = gallery.search_many(queries, 3, where={"not_cameras": [1]}, other_cameras=True)
    assert [answer["query"] for answer in answers] == queries.ids.tolist()
    for answer, matches in zip(answers, expected, strict=True):
        assert [one["id"] for one in answer["matches"]] == [match.id for match in matches]
        assert [one["distance"] for one in answer["matches"]] == [match.distance for match in matches]
    text = call(f"search halls q.npz --id {queries.ids[1]} --threshold none --by-person --count 4")
    lines = text.splitlines()
    assert len(lines) == 5 and lines[0] == f"{queries.ids[1]}:" and lines[1].split()[0] == "1"
    assert call("search halls q.npz --threshold 0.000001") == "".join(f"{name}: nobody\n" for name in queries.ids)

    listed = call("list halls")
    unknown = int((record.persons == 0).sum())
    assert f"40 tracklets: {unknown} of unknown persons" in listed and "kept: 30 days" in listed
    assert len(call("list halls --tracklets --camera 2").splitlines()) == 1 + (record.cameras == 2).sum()

    assert call("export halls all.parquet") == "40 tracklets written to all.parquet\n"
    call("export halls some.npz --person 3 --person 4")
    some = TrackletEmbeddings.load("some.npz")
    assert set(some.persons) == {3, 4} and some.model == record.model

    count = (record.persons == 4).sum()
    assert call("delete halls --person 4") == f"{count} tracklets deleted, {40 - count} left\n"
    gone = record.embeddings[record.persons == 4]
    for file in (place / "halls").rglob("*"):
        if file.is_file():
            assert not any(vector[:2].tobytes() in file.read_bytes() for vector in gone)
    assert call("verify halls") == f"{40 - count} tracklets intact, 0 damaged, 0 lost\n"
    assert "kept: any time" in call("compact halls --keep-days 0")
    assert "kept: any time" in call("compact halls")
    assert f"all.parquet: 40 tracklets added, {0} there" in call("import again all.parquet")
    assert LanceGallery.open("again").model.threshold == 0.8
    assert next(iter(gallery.log))["who"] == "ann"


def test_times_and_unknown_persons(call):
    call("add halls all.npz --unknown")
    gallery = LanceGallery.open("halls")
    assert gallery.persons() == {0: 40}
    expected = gallery.count({"since": 20.0, "until": 50.0})
    assert 0 < expected < 40
    since, until = "1970-01-01T00:00:20+00:00", "1970-01-01T00:00:50Z"
    assert call(f"delete halls --since {since} --until {until}").startswith(f"{expected} tracklets deleted")


def test_a_damaged_gallery(call, place, capsys):
    call("add halls all.npz")
    (file,) = (place / "halls" / "tracklets.lance" / "data").iterdir()
    file.write_bytes(b"")
    state = call("verify halls", status=1)
    assert "0 tracklets intact, 0 damaged, 40 lost" in state and f"file: tracklets.lance/data/{file.name}" in state
    assert main(["gallery", "search", "halls", "q.npz"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("nobody") == 2
    assert printed.err.startswith("warning: 40 tracklets of the gallery are damaged and left out")
    assert "add them again" in call("verify halls --drop")
    assert "0 tracklets intact" in call("verify halls")
    assert "40 tracklets added" in call("add halls all.npz")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("list none", "no gallery in this place. Received: path='none'"),
        ("list .", "it has no gallery.json. Received: path='.'"),
        ("list all.npz", "no gallery in this place"),
        ("add halls none.npz", "no file of embeddings. Received: path='none.npz'"),
        ("add halls other.npz", "Embed these tracklets again"),
        ("add halls all.npz other.npz", "Embed these tracklets again"),
        ("add new nan.npz", "norm=nan"),
        ("add halls q.npz --keep-days 3", "`kreid gallery compact --keep-days` changes"),
        ("add new q.npz --keep-days -3", "Received: keep_days=-3.0"),
        ("add halls q.npz --tag coat", "Received: tag='coat'"),
        ("add none/new q.npz", "folder of the gallery's folder"),
        ("search halls q.npz --id x", "no tracklet of this id. Received: id='x'"),
        ("search halls q.npz --threshold low", "threshold='low'"),
        ("search halls q.npz --count 0", "count=0"),
        ("search halls q.npz --tag coat=red --tag coat=blue", "one value of a tag"),
        ("search halls q.npz --since today", "since='today'"),
        ("search halls q.npz --since 5 --until 4", "`until` is after `since`"),
        ("delete halls", "at least one condition"),
        ("export halls x.txt", "file='x.txt'"),
        ("export halls none/x.npz", "Make the folder of the file first"),
        ("import halls all.npz", "was not written by a gallery's export"),
        ("import halls none.parquet", "no Parquet file"),
    ],
)
def test_wrong_usage(call, place, line, complaint):
    call("add halls all.npz")
    samples.people(3, model="cd" * 32).save("other.npz")
    samples.people(3, embeddings=np.full((3, 6), np.nan)).save("nan.npz")
    assert complaint in call(line, status=2)
    assert LanceGallery.open("halls").count() == 40
    assert not (place / "new").exists() and not (place / "x.txt").exists()
