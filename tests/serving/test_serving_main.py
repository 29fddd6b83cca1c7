"""The command that serves an export, as `python serving/serve.py` and as `python -m kreid.serving`."""

import concurrent.futures
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from served_galleries import people
from server_process import ServerProcess
from serving_samples import encode, random_tracklet

from kreid.serving import EmbeddingClient, GalleryClient, Retry, read_card
from kreid.serving.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("program", "number"),
    [
        pytest.param(["serving/serve.py"], signal.SIGTERM, id="script"),
        pytest.param(["-m", "kreid.serving"], signal.SIGINT, id="module", marks=pytest.mark.slow),
    ],
)
def test_serves_until_a_signal(base_path, program, number):
    process = subprocess.Popen(
        [sys.executable, *program, str(base_path), "--port", "0", "--name", "people"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("serving people version 3 on 127.0.0.1:")
        with EmbeddingClient(line.rsplit(" ", 1)[1].strip(), model="people", timeout=None) as client:
            whole = encode(random_tracklet(0, 1, size=(400, 200))[0])
            # libjpeg writes a warning to standard error about each damaged file.
            _, valid = client.embed_images([[whole, whole[:4000], whole[:300] + b"x" * 50 + whole[400:]]])
            assert valid.tolist() == [2]
        process.send_signal(number)
        assert process.wait() == 0
    finally:
        process.kill()
        _, errors = process.communicate()
    lines = [json.loads(line) for line in errors.splitlines()]
    (answered,) = [line for line in lines if line.get("signature") == "embed_jpeg"]
    assert (answered["unreadable_images"], answered["shapes"]) == (1, {"images": [1, 3], "lengths": [1]})
    assert {line["level"] for line in lines if line is not answered} == {"INFO"}


def test_a_signal_while_tensorflow_is_imported_ends_the_process(small_path):
    with ServerProcess(small_path, wait=False) as server:
        assert server.stop() == 0
        assert [line["message"] for line in server.log] == ["starting"]


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(small_path):
    import grpc

    from kreid.serving import wire

    request = wire.messages()["PredictRequest"]()
    request.model_spec.name, request.model_spec.signature_name = "kreid", "work"
    wire.fill_tensor(request.inputs["rounds"], np.array([2**31 - 1], np.int32))
    with ServerProcess(small_path, "--grace", "3600") as server, grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(wire.PREDICT).future(request.SerializeToString())
        status = channel.unary_unary(wire.GET_MODEL_STATUS)
        server.process.send_signal(signal.SIGTERM)
        while True:  # until the server refuses new calls
            try:
                status(b"\x0a\x07\x0a\x05kreid")
            except grpc.RpcError as error:
                assert error.code().name == "UNAVAILABLE"
                break
        assert server.process.poll() is None
        assert server.stop(signal.SIGINT) == 128 + signal.SIGINT
        assert call.exception().code().name == "UNAVAILABLE"


@pytest.mark.slow
def test_a_log_that_nobody_reads_holds_up_neither_answers_nor_the_end(small_path):
    import grpc

    from kreid.serving import wire

    process = subprocess.Popen(
        [sys.executable, "-m", "kreid.serving", str(small_path), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        with grpc.insecure_channel(process.stdout.readline().rsplit(" ", 1)[1].strip()) as channel:
            status = channel.unary_unary(wire.GET_MODEL_STATUS)
            for _ in range(2000):  # lines for several pipes of 64 KiB
                status(b"\x0a\x07\x0a\x05kreid")
        process.terminate()
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def gallery(tmp_path):
    pytest.importorskip("lance", reason="galleries on the disk need pylance")
    from kreid.gallery import GalleryModel, LanceGallery

    return LanceGallery.create(tmp_path / "hall", GalleryModel.of(people(1)))


def test_serves_a_gallery_alone_without_tensorflow(gallery, tmp_path):
    with ServerProcess(f"--gallery={tmp_path / 'hall'}") as server:
        assert server.line.startswith(f"serving the gallery {tmp_path}/hall on 127.0.0.1:")
        with GalleryClient(server.target) as client:
            assert client.add(people(5)).added == 5
            assert client.search(people(1, prefix="q"))[0].id == "t0"
        libraries = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "lance" in libraries
        assert "tensorflow" not in libraries
        assert server.stop() == 0
    start, added, searched = server.log
    assert (start["gallery"], "base_path" in start) == (f"{tmp_path}/hall", False)
    assert (added["method"], added["shapes"], added["added"]) == ("Add", {"embeddings": [5, 4]}, 5)
    assert (searched["method"], searched["matches"]) == ("Search", 1)
    assert gallery.count() == 5


def test_a_gallery_is_made_for_the_served_model(base_path, tmp_path, capsys):
    pytest.importorskip("lance", reason="galleries on the disk need pylance")
    from kreid.gallery import GalleryModel, LanceGallery

    path = str(tmp_path / "hall")
    # With a wrong option, so that nothing is served.
    arguments = ["--gallery-create", "--tls-cert", "cert.pem"]
    for _ in range(2):  # the second time it is there
        assert main([str(base_path), "--gallery", path, *arguments]) == 2
        assert LanceGallery.open(path).model == GalleryModel.from_card(read_card(base_path / "3"), "3")
    assert main(["--gallery", path, *arguments]) == 2
    assert main([str(base_path), *arguments]) == 2
    assert "A gallery is made for the model that is served" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_killed_server_has_all_that_it_answered_and_no_part_of_anything_else(gallery, tmp_path, seed):
    answered, sent = [], []

    def add(prefix):
        with GalleryClient(server.target, retry=Retry(attempts=1)) as client:
            for number in itertools.count():
                record = people(7, prefix=f"{prefix}-{number}-")
                sent.append(record)
                client.add(record)
                answered.append(record)

    with ServerProcess(f"--gallery={tmp_path / 'hall'}") as server, concurrent.futures.ThreadPoolExecutor(2) as threads:
        adding = [threads.submit(add, f"client{number}") for number in range(2)]
        while len(answered) < 5 + 3 * seed:
            time.sleep(0.001)
        server.stop(signal.SIGKILL)
        assert {future.exception().code for future in adding} == {"UNAVAILABLE"}
    found = {str(name): row for row, name in enumerate(gallery.read().ids)}
    for record in sent:
        present = [name in found for name in record.ids.tolist()]
        assert all(present) or not any(present)
    for record in answered:
        np.testing.assert_array_equal(gallery.get(record.ids.tolist()).embeddings, record.embeddings)
    assert gallery.verify().is_whole
    with ServerProcess(f"--gallery={tmp_path / 'hall'}") as server, GalleryClient(server.target) as client:
        for record in sent:  # repeating what was not answered is right
            client.add(record)
        assert client.stats().tracklets == 7 * len(sent)


# A host by name counts as one that other machines reach.
@pytest.mark.filterwarnings("ignore:The server is reachable from other machines:UserWarning")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "`port` must be from 0 (any free port) to 65535. Received: port=70000"),
        (["--max-message-mib", "4096"], "(2047 MiB), the limit of protobuf. Received: max_message_bytes=4294967296"),
        (["--workers", "0"], "`workers` must be from 1 to 1024. Received: workers=0"),
        (["--grace", "-1"], "`grace` must be from 0 to 3600 seconds. Received: grace=-1.0"),
        (["--grace", "nan"], "Received: grace=nan"),
        (["--max-calls", "7"], "`max_calls` must be at least `workers`. Received: max_calls=7, workers=8"),
        (["--http-port", "65536"], "`http_port` must be from 0 (any free port) to 65535. Received: http_port=65536"),
        (["--port", "8501", "--http-port", "8501"], "a port each. Received: port=8501, http_port=8501"),
        (["--label", "stable"], "`label` must be LABEL=VERSION, such as stable=3. Received: label='stable'"),
        (["--label", "=3"], "Received: label='=3'"),
        (["--label", "a=3", "--label", "a=3"], "A label may name one version. Received: label='a=3' beside a=3"),
        (["--versions", "newest"], "Received: versions='newest'"),
        (["--tls-cert", "cert.pem"], "Received: tls_cert=cert.pem, tls_key=None, tls_client_ca=None"),
        (["--token-file", "/nowhere"], "Received: token_file='/nowhere'"),
        (["--name", ""], "`name` must not be empty. Received: name=''"),
        (["--gallery", "/nowhere"], "There is no gallery in this place. Received: path='/nowhere'"),
        (["--gallery-read-only"], "There is no gallery to read; give --gallery. Received: gallery_read_only=True"),
        (["--host", "no-such-host.invalid", "--port", "0"], "Received: target=no-such-host.invalid:0"),
    ],
)
def test_wrong_usage_is_one_sentence(base_path, capsys, arguments, message):
    assert main([str(base_path), *arguments]) == 2
    *log, error = capsys.readouterr().err.splitlines()
    assert error.startswith("serve: ")
    assert error.endswith(message)
    # A name is looked up after the start of the log.
    assert [json.loads(line)["message"] for line in log] == (["starting"] if "--host" in arguments else [])


def test_a_folder_without_versions_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("serve: The folder has no version")
    assert errors.endswith(f"Received: base_path={tmp_path}\n")


def test_without_an_export_and_a_gallery_nothing_is_served(capsys):
    assert main([]) == 2
    assert "Name the folder of an export, a gallery (--gallery), or both." in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "kreid serve runs/sta_mars/export" in capsys.readouterr().out
