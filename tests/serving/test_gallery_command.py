"""The command `kreid gallery`, on a folder and on a server."""

import json

import numpy as np
import pytest
from served_galleries import people

pytest.importorskip("grpc")
pytest.importorskip("lance", reason="galleries on the disk need pylance")

from kreid.cli import main
from kreid.gallery import GalleryModel, LanceGallery, TrackletEmbeddings
from kreid.serving import EmbeddingServer


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = people(40)
    record.save("all.npz")
    people(5, seed=3, prefix="q", query_rows=[2, 4]).save("q.npz")
    return tmp_path


@pytest.fixture
def call(place, capsys):
    def call(line, status=0):
        assert main(["gallery", *line.split()]) == status
        out = capsys.readouterr()
        return out.err if status == 2 else out.out

    return call


def test_from_adding_to_forgetting(call, place):
    record = people(40)
    out = call("add halls all.npz --source hall.mp4 --tag door=north --keep-days 30 --who ann")
    assert out == "all.npz: 40 tracklets added, 0 there already, 0 junk left out\n"
    assert "0 tracklets added, 40 there already" in call("add halls all.npz --source hall.mp4 --tag door=north")
    gallery = LanceGallery.open("halls")
    assert gallery.keep_days == 30
    assert set(gallery.read().sources) == {"hall.mp4"}
    assert all(tags["door"] == "north" for tags in gallery.read().tags)

    queries = people(5, seed=3, prefix="q").take([2, 4])
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
    assert LanceGallery.open("again").model.threshold == 0.7
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
    people(3, model="cd" * 32).save("other.npz")
    people(3, embeddings=np.full((3, 4), np.nan)).save("nan.npz")
    assert complaint in call(line, status=2)
    assert LanceGallery.open("halls").count() == 40
    assert not (place / "new").exists() and not (place / "x.txt").exists()


@pytest.fixture
def served(place):
    record = people(40)
    for name in ("halls", "remote"):
        LanceGallery.create(name, GalleryModel.of(record), keep_days=30).add(record)
    with EmbeddingServer(gallery="remote", port=0) as server:
        yield f"--address {server.target}"


def test_a_server_is_asked_as_a_folder_is(call, served):
    people(3, seed=5, prefix="n").save("new.npz")
    for line in [
        "search {} q.npz",
        "search {} q.npz --json --count 3 --other-cameras --tag coat=red --since 50",
        "search {} q.npz --by-person --threshold none --id q2",
        "search {} q.npz --threshold 0.000001",
        "add {} new.npz q.npz --source yard.mp4 --tag door=north --unknown",
        "add {} new.npz --source yard.mp4 --tag door=north --unknown",
        "search {} q.npz --json --from-source yard.mp4 --tag door=north --threshold none",
        "delete {} --person 4 --camera 2",
        "delete {} --person 77",
        "stats {}",
    ]:
        own = call(line.format("halls"))
        assert own
        extra = "server: takes embeddings\n" if line.startswith("stats") else ""
        assert call(line.format(served)) == own + extra
    assert LanceGallery.open("remote").read().ids.tolist() == LanceGallery.open("halls").read().ids.tolist()


def test_a_server_s_deletion_leaves_no_bytes(call, place, served):
    gone = people(40).take([7])
    files = [file for file in (place / "remote").rglob("*") if file.is_file()]
    assert any(gone.embeddings.tobytes() in file.read_bytes() for file in files)
    assert call(f"delete {served} --id t7") == "1 tracklets deleted, 39 left\n"
    files = [file for file in (place / "remote").rglob("*") if file.is_file()]
    assert files and not any(gone.embeddings.tobytes() in file.read_bytes() for file in files)


def test_a_server_s_index_is_named(call, place, capsys):
    record = people(400)
    with EmbeddingServer(gallery=LanceGallery.create("indexed", GalleryModel.of(record)), port=0) as server:
        gallery = LanceGallery.open("indexed")
        gallery.add(record)
        pytest.importorskip("faiss")
        recall = gallery.make_index(0.5).recall
        said = {}
        for option in ("", "--exact", "--camera 1"):
            assert main(["gallery", "search", "--address", server.target, "q.npz", *option.split()]) == 0
            said[option] = capsys.readouterr().err
        assert said == {"": f"By an index of recall {recall:.3f}; --exact compares all tracklets.\n"} | dict.fromkeys(
            ("--exact", "--camera 1"), ""
        )
        shown = call(f"stats --address {server.target}")
        assert f"searches: without conditions by an index of recall {recall:.3f} of the 10 nearest\n" in shown


def test_a_server_that_needs_a_token_over_tls(call, place, certificates, capsys):
    (place / "tokens").write_text("a-secret-of-ann-and-eve\n")
    (place / "wrong").write_text("a-secret-of-bob-and-eve\n")
    record = people(10)
    LanceGallery.create("remote", GalleryModel.of(record)).add(record)
    server, authority = certificates["server"], certificates["authority"]
    with EmbeddingServer(
        gallery="remote",
        gallery_read_only=True,
        port=0,
        tls_cert=server.path,
        tls_key=server.key_path,
        token_file="tokens",
    ) as running:
        there = f"--address={running.target} --tls-ca {authority.path}"
        shown = call(f"stats {there} --token-file tokens")
        assert "10 tracklets: 2 of unknown persons, 8 of 4 persons" in shown
        assert shown.endswith("server: takes embeddings to search for, and changes nothing\n")
        for line, complaint in [
            (f"stats {there}", "the server demands a token"),
            (f"stats {there} --token-file wrong", "UNAUTHENTICATED"),
            (f"stats --address {running.target}", "UNAVAILABLE"),
            (f"delete {there} --token-file tokens --person 1", "only searches its gallery"),
        ]:
            assert main(["gallery", *line.split(), "--timeout", "5"]) == 1
            assert complaint in capsys.readouterr().err
    assert LanceGallery.open("remote").count() == 10


def test_a_server_s_damaged_files(call, place, served, capsys):
    (file,) = (place / "remote" / "tracklets.lance" / "data").iterdir()
    file.write_bytes(b"")
    assert main(["gallery", "delete", *served.split(), "--person", "1"]) == 1
    assert "DATA_LOSS" in (said := capsys.readouterr().err) and file.name in said
    assert main(["gallery", "stats", *served.split()]) == 0
    assert file.name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("verify {}", "`kreid gallery verify` needs the gallery's folder: run it on the server's machine"),
        ("list {}", "(a server does add, search, delete, stats). Received: address='"),
        ("export {} x.parquet", "needs the gallery's folder"),
        ("import {} x.parquet", "needs the gallery's folder"),
        ("compact {} --keep-days 3", "needs the gallery's folder"),
        ("index {}", "needs the gallery's folder"),
        ("stats {} --who ann", "leave out --who. Received: who='ann'"),
        ("add {} q.npz --keep-days 3", "leave out --keep-days. Received: keep_days=3.0"),
        ("delete {}", "at least one condition"),
        ("add {} other.npz", "Embeddings of two models are not comparable"),
        ("search {} q.npz --count 0", "count=0"),
        ("stats --address nowhere", "`target` must be host:port"),
        ("stats {} --token-file none", "none"),
        ("stats halls --token-file q.npz", "--token-file is of a server's client: give --address too"),
        ("stats halls --tls", "--tls is of a server's client"),
    ],
)
def test_wrong_usage_of_a_server(call, place, served, line, complaint):
    people(3, model="cd" * 32).save("other.npz")
    assert complaint in call(line.format(served), status=2)
    assert LanceGallery.open("remote").count() == 40 and not (place / "x.parquet").exists()


@pytest.mark.parametrize("address", ["--address h:1", "--address=h:1", "--addr h:1"])
def test_a_folder_and_an_address_are_one_too_many(place, address, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["gallery", "search", "halls", "q.npz", *address.split()])
    assert caught.value.code == 2
    assert "leave out the gallery's folder. Received: 'q.npz'" in capsys.readouterr().err
