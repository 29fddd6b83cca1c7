import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from kreid.serving import EmbeddingClient

SCRIPT = Path(__file__).resolve().parents[2] / "serving" / "query.py"
COLOURS = {"alice": (200, 40, 40), "bob": (40, 200, 40), "0003": (40, 40, 200)}


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory):
    """The user's cache folder, also of the programs that the tests start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "kreid" / "galleries"


@pytest.fixture(scope="module")
def query(cache_folder):
    before = dict(os.environ)
    from kreid.serving import query

    assert dict(os.environ) == before
    return query


def write_tracklet(folder, colour, frames=3, seed=0):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for number in range(frames):
        noise = generator.integers(-15, 16, (70, 30, 3))
        pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number + 8}.jpg")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    for seed, (person, colour) in enumerate(COLOURS.items()):
        write_tracklet(root / "gallery" / person / "c1", colour, seed=seed)
        write_tracklet(root / "gallery" / person / "c2" / "t1", colour, frames=2, seed=10 + seed)
    (root / "gallery" / "bob" / "c3").mkdir()
    (root / "gallery" / "bob" / "c3" / "1.jpg").write_bytes(b"no picture")
    write_tracklet(root / "query", COLOURS["bob"], seed=20)
    return root


def rows(text):
    return [line.split() for line in text.splitlines() if re.match(r" +\d+  ", line)]


def test_ranked_list_and_picture(query, data, server, capsys, tmp_path):
    picture = tmp_path / "out.png"
    arguments = [str(data / "query"), "--gallery", str(data / "gallery"), "--server", server.target]
    status = query.main([*arguments, "--top", "4", "--picture", str(picture), "--query-person", "bob"])
    output = capsys.readouterr()
    assert status == 0
    assert "skipped, no readable frame: bob/c3" in output.err
    assert "6 gallery tracklets, cosine distance" in output.out
    listed = rows(output.out)
    assert [row[0] for row in listed] == ["1", "2", "3", "4"]
    assert {row[3] for row in listed[:2]} == {"bob/c1", "bob/c2/t1"}
    assert [row[5:] for row in listed] == [["same", "person"], ["same", "person"], [], []]
    distances = [float(row[4]) for row in listed]
    assert distances == sorted(distances)
    with Image.open(picture) as image:
        colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert {(0, 140, 70), (200, 50, 30), (30, 80, 180)} <= colours


def test_the_program_needs_neither_keras_nor_a_backend_nor_scipy(data, server, tmp_path):
    code = (
        "import runpy, sys\n"
        "missing = ('keras', 'tensorflow', 'tensorflow_serving', 'jax', 'torch', 'scipy', 'h5py')\n"
        "sys.modules.update(dict.fromkeys(missing))  # importing them now fails\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    picture = tmp_path / "out.png"
    arguments = [SCRIPT, data / "query", "--gallery", data / "gallery", "--server", server.target, "--picture", picture]
    ran = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert len(rows(ran.stdout)) == 6
    assert picture.is_file()


def test_a_data_folder_gives_its_gallery_and_the_querys_camera_is_skipped(query, data, server, capsys):
    arguments = [str(data / "query"), "--gallery", str(data), "--server", server.target]
    assert query.main([*arguments, "--query-person", "bob", "--query-camera", "c1"]) == 0
    listed = rows(capsys.readouterr().out)
    assert {row[3] for row in listed} == {"alice/c1", "alice/c2/t1", "bob/c2/t1", "0003/c1", "0003/c2/t1"}


def test_person_numbers_match_with_and_without_zeros(query, data, server, capsys):
    arguments = [str(data / "query"), "--gallery", str(data), "--server", server.target, "--query-person", "3"]
    assert query.main(arguments) == 0
    marked = [row[3] for row in rows(capsys.readouterr().out) if row[5:]]
    assert sorted(marked) == ["0003/c1", "0003/c2/t1"]


def test_wrong_arguments_are_one_sentence(query, data, server, capsys, tmp_path):
    for arguments, message in (
        ([str(tmp_path / "none"), "--gallery", str(data)], "must be a folder of JPEG or PNG frames"),
        ([str(data / "query"), "--gallery", str(tmp_path / "none")], "gallery must be a folder"),
        ([str(data / "query"), "--gallery", str(tmp_path)], "No image was found"),
        ([str(data / "gallery" / "bob" / "c3"), "--gallery", str(data)], "The server could read no frame of the query"),
    ):
        assert query.main([*arguments, "--server", server.target]) == 2
        assert message in capsys.readouterr().err


def test_no_server_is_status_1(query, data, capsys):
    assert query.main([str(data / "query"), "--gallery", str(data), "--server", "127.0.0.1:1"]) == 1
    assert "start the server" in capsys.readouterr().err


def test_a_gallery_of_which_nothing_is_left_is_a_sentence(query, data, server, capsys, tmp_path):
    write_tracklet(tmp_path / "own" / "bob" / "c1", COLOURS["bob"])
    arguments = [str(data / "query"), "--gallery", str(tmp_path / "own"), "--server", server.target]
    assert query.main([*arguments, "--query-person", "bob", "--query-camera", "c1"]) == 2
    assert "give a larger gallery, or no --query-camera. Received: --query-person=bob" in capsys.readouterr().err

    (tmp_path / "damaged" / "bob" / "c1").mkdir(parents=True)
    (tmp_path / "damaged" / "bob" / "c1" / "1.jpg").write_bytes(b"no picture")
    arguments = [str(data / "query"), "--gallery", str(tmp_path / "damaged"), "--server", server.target]
    assert query.main(arguments) == 2
    assert "The server could read no frame of the gallery" in capsys.readouterr().err


def test_images_next_to_folders_are_refused_as_by_the_reader(query, data, capsys, tmp_path):
    write_tracklet(tmp_path / "bob" / "c1", COLOURS["bob"])
    write_tracklet(tmp_path / "bob" / "c1" / "t1", COLOURS["bob"])
    assert query.main([str(data / "query"), "--gallery", str(tmp_path)]) == 2
    assert "not both. Received: folder=" in capsys.readouterr().err


def test_without_grpcio_the_pip_command_is_named(query, data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)  # importing it now fails
    assert query.main([str(data / "query"), "--gallery", str(data)]) == 2
    assert "pip install grpcio protobuf" in capsys.readouterr().err


def test_tracklets_above_the_frame_limit_are_thinned_evenly(query, server, tmp_path):
    write_tracklet(tmp_path / "long", COLOURS["bob"], frames=10)
    paths = query.read_query(tmp_path / "long")
    with EmbeddingClient(server.target, timeout=None) as client:
        client.card()["frame_limit"] = 5
        embeddings, valid = query.embed_files(client, [paths], "test")
        chosen = [[Path(paths[place]).read_bytes() for place in (1, 3, 5, 7, 9)]]
        np.testing.assert_allclose(embeddings, client.embed_images(chosen)[0], rtol=1e-4, atol=1e-5)
    assert valid.tolist() == [5]


@pytest.fixture(scope="module")
def deciding(model, tmp_path_factory):
    """A server whose model has a verification threshold."""
    from kreid.serving import EmbeddingServer, export_model

    path = tmp_path_factory.mktemp("deciding")
    calibration = {"offset": 4.0, "scale": 2000.0, "prior": 0.5}
    verification = {"metric": model.metric, "threshold": 0.002, "calibration": calibration}
    export_model(model, path, warmup=False, verification=verification)
    with EmbeddingServer(path, port=0) as server:
        yield server


def test_the_models_threshold_decides(query, data, deciding, capsys, tmp_path):
    arguments = ["--gallery", str(data), "--server", deciding.target]
    assert query.main([str(data / "gallery" / "bob" / "c1"), *arguments]) == 0
    output = capsys.readouterr().out
    assert re.search(r"; by the threshold 0\.0020: same person as bob \(\d+% probable at even odds\)\n", output)
    for row in rows(output):
        assert (row[5:] == ["below", "the", "threshold"]) == (float(row[4]) < 0.002)

    write_tracklet(tmp_path / "other", (0, 0, 0), seed=30)
    assert query.main([str(tmp_path / "other"), *arguments]) == 0
    output = capsys.readouterr().out
    assert "; by the threshold 0.0020: unknown person (0% probable at even odds)\n" in output
    assert not any(row[5:] for row in rows(output))


def test_server_and_query_decide_alike(query, data, deciding):
    with EmbeddingClient(deciding.target, timeout=None) as client:
        gallery = query.read_gallery(data / "gallery")
        ranking = query.rank(client, query.read_query(data / "query"), gallery)
        files = [match.tracklet.frames for match in ranking.matches]
        embeddings, _ = query.embed_files(client, [query.read_query(data / "query"), *files], "test")
        decided = client.same_person(np.repeat(embeddings[:1], len(files), 0), embeddings[1:])
        odds = 4.0 - 2000.0 * decided.distance
    np.testing.assert_allclose(decided.distance, [match.distance for match in ranking.matches], atol=1e-6)
    np.testing.assert_allclose(decided.probability, (1 + np.tanh(odds / 2)) / 2, atol=1e-4)
    assert decided.same_person.tolist() == (decided.distance < 0.002).tolist()
    assert set(decided.same_person.tolist()) == {True, False}


def test_the_probability_is_printed(query):
    from kreid.data.readers import FolderTracklet

    tracklet = FolderTracklet("bob/c1", "bob", "c1", ("1.jpg",))
    for threshold, offset, words in (
        (1.0, 3.0, "same person as bob (73% probable at even odds)"),
        (0.1, 3.0, "unknown person (73% probable at even odds)"),
        (1.0, 1e6, "same person as bob (100% probable at even odds)"),
        (1.0, -1e6, "same person as bob (0% probable at even odds)"),
    ):
        matches, calibration = [query.Match(tracklet, 0.5, None)], {"offset": offset, "scale": 4.0}
        ranking = query.Ranking(matches, "cosine", threshold, calibration, [], "kreid version 1", 0, None)
        first = query.ranked_table(ranking, 1).splitlines()[0]
        assert first == f"1 gallery tracklets, cosine distance; by the threshold {threshold:.4f}: {words}"


def test_files_of_another_format_are_skipped_and_named(query, data, server, capsys, tmp_path):
    write_tracklet(tmp_path / "gallery" / "bob" / "c1", COLOURS["bob"])
    (tmp_path / "gallery" / "eve" / "c1").mkdir(parents=True)
    Image.new("RGB", (30, 70)).save(tmp_path / "gallery" / "eve" / "c1" / "1.jpg", "WEBP")
    arguments = ["--gallery", str(tmp_path / "gallery"), "--server", server.target]
    assert query.main([str(data / "query"), *arguments]) == 0
    output = capsys.readouterr()
    assert [row[3] for row in rows(output.out)] == ["bob/c1"]
    assert "skipped, no readable frame (the first is WebP): eve/c1" in output.err
    assert query.main([str(tmp_path / "gallery" / "eve" / "c1"), *arguments]) == 2
    assert "no frame of the query (the first is WebP); give JPEG or PNG files" in capsys.readouterr().err


def test_names_that_are_no_utf8_are_printed(data, server, tmp_path):
    gallery = os.fsencode(tmp_path / "gallery")
    write_tracklet(Path(os.fsdecode(gallery + b"/Jos\xe9/c1")), COLOURS["bob"])
    picture = tmp_path / "out.png"
    command = [sys.executable, SCRIPT, data / "query", "--gallery", tmp_path / "gallery", "--server", server.target]
    ran = subprocess.run(
        [*map(str, command), "--picture", str(picture)],
        capture_output=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    assert b"Jos\\udce9/c1" in ran.stdout
    assert picture.is_file()


def test_help_shows_an_example_and_the_layouts(query, capsys):
    with pytest.raises(SystemExit) as caught:
        query.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--picture ranked.png" in text
    assert "<person>/<camera>/<frames>" in text


def test_fewer_than_one_row_is_refused(query, data, capsys):
    assert query.main([str(data / "query"), "--gallery", str(data), "--top", "0"]) == 2
    assert capsys.readouterr().err == "query: --top must be at least 1. Received: --top=0\n"


@pytest.fixture
def gallery(data, tmp_path):
    shutil.copytree(data / "gallery", tmp_path / "gallery")
    return tmp_path / "gallery"


def kept(text):
    return re.search(r"embeddings of (\d+) of (\d+) tracklets were kept in (.*)", text).groups()


def test_the_gallery_is_embedded_once(query, data, gallery, server, capsys, tmp_path):
    """A second query embeds only what changed since the first, and finds the same."""
    arguments = [str(data / "query"), "--gallery", str(gallery), "--server", server.target]
    arguments += ["--cache", str(tmp_path / "cache")]

    def ask(*more):
        assert query.main([*arguments, *more]) == 0
        output = capsys.readouterr()
        assert ("skipped, no readable frame: bob/c3" in output.err) == ("--query-camera" not in more)
        return output.out

    first = ask()
    assert kept(first)[:2] == ("0", "7")
    again = ask()
    assert kept(again)[:2] == ("7", "7")
    assert rows(again) == rows(first)
    # Embeddings tell persons apart: other users must not read them.
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700

    # The query's camera is skipped, not forgotten.
    assert kept(ask("--query-person", "bob", "--query-camera", "c3"))[:2] == ("7", "7")
    assert kept(ask())[:2] == ("7", "7")

    write_tracklet(gallery / "carol" / "c1", COLOURS["alice"], seed=3)
    shutil.rmtree(gallery / "0003")
    os.utime(gallery / "alice" / "c1" / "8.jpg", ns=(0, 0))
    changed = ask()
    assert kept(changed)[:2] == ("4", "6")  # carol is new, 0003 gone, and a frame of alice another
    assert {row[3] for row in rows(changed)} == {"alice/c1", "alice/c2/t1", "bob/c1", "bob/c2/t1", "carol/c1"}
    assert kept(ask())[:2] == ("6", "6")

    files = list((tmp_path / "cache").iterdir())
    assert [str(file) for file in files] == [kept(changed)[2]]
    files[0].write_bytes(files[0].read_bytes()[:100])
    assert query.main(arguments) == 0
    output = capsys.readouterr()
    assert "The file of kept embeddings is damaged" in output.err
    assert rows(output.out) == rows(changed)
    assert kept(ask())[:2] == ("6", "6")


def test_each_model_has_embeddings_of_its_own(query, data, gallery, server, deciding, capsys, cache_folder):
    """`deciding` serves the same weights, so its query finds the file; another model's does not."""
    from scripted_server import Model, ScriptedServer

    def ask(target, *more):
        assert query.main([str(data / "query"), "--gallery", str(gallery), "--server", target, *more]) == 0
        return capsys.readouterr().out

    with ScriptedServer({3: Model("c3" * 32)}) as another:
        assert "kept" not in ask(another.target, "--no-cache")
        assert kept(ask(server.target))[0] == "0"
        assert kept(ask(deciding.target))[0] == "7"
        fresh = ask(another.target)
        assert kept(fresh)[0] == "0"
        assert {row[4] for row in rows(fresh)} == {"0.0000"}  # this server embeds all alike
        assert kept(ask(server.target))[0] == kept(ask(another.target))[0] == "7"
    assert len([file for file in cache_folder.iterdir() if file.name[:16] == Path(kept(fresh)[2]).name[:16]]) == 2


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(query, data, server, capsys, tmp_path):
    (tmp_path / "file").write_text("no folder")
    arguments = [str(data / "query"), "--gallery", str(data), "--server", server.target]
    assert query.main([*arguments, "--cache", str(tmp_path / "file")]) == 0
    output = capsys.readouterr()
    assert "the gallery's embeddings are not kept" in output.err
    assert len(rows(output.out)) == 6
    assert query.main([*arguments, "--cache", str(tmp_path), "--no-cache"]) == 2
    assert "not both" in capsys.readouterr().err


def test_the_connections_options(query, data, certificates, capsys, tmp_path):
    """The scripted server gives all tracklets one embedding, so the list has the gallery's order."""
    import grpc
    from scripted_server import Model, ScriptedServer

    authority, own, person = (certificates[name] for name in ("authority", "elsewhere", "client"))
    (tmp_path / "token").write_text("secret\n")
    credentials = grpc.ssl_server_credentials([(own.key_pem, own.pem)], authority.pem, True)
    with ScriptedServer({3: Model("a1" * 32), 4: Model("b2" * 32)}, token="secret", credentials=credentials) as server:
        server.labels = {"stable": 3}
        arguments = [
            str(data / "query"),
            "--gallery",
            str(data),
            "--server",
            server.target,
            "--tls-name",
            "gpu7.example",
        ]
        arguments += [
            "--tls-ca",
            str(authority.path),
            "--tls-cert",
            str(person.path),
            "--tls-key",
            str(person.key_path),
        ]
        token = ["--token-file", str(tmp_path / "token")]
        for pin, version in (
            ([], 4),
            (["--version", "3"], 3),
            (["--label", "stable"], 3),
            (["--fingerprint", "a1" * 4], 3),
        ):
            assert query.main([*arguments, *token, *pin]) == 0
            assert f"model: kreid version {version} (fingerprint" in capsys.readouterr().out
        assert query.main(arguments) == 1
        assert "the server demands a token" in capsys.readouterr().err
        assert query.main([*arguments, *token, "--fingerprint", "abcdefab"]) == 1
        assert "no version that the server offers has fingerprint abcdefab" in capsys.readouterr().err
        assert query.main([*arguments, "--token-file", str(tmp_path / "none")]) == 2
        assert "none" in capsys.readouterr().err


def test_a_model_exchanged_during_the_query_is_an_error(query, data, capsys):
    from scripted_server import Model, ScriptedServer

    with ScriptedServer({3: Model("a1" * 32), 4: Model("b2" * 32)}) as server:
        server.latest = 3

        def exchange(signature, number):
            if (signature, number) == ("embed_jpeg", 2):
                server.latest = 4

        server.before = exchange
        assert query.main([str(data / "query"), "--gallery", str(data), "--server", server.target, "--no-cache"]) == 1
    assert "ABORTED: the server exchanged its model during the query, from kreid version 3" in capsys.readouterr().err
