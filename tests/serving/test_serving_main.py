"""The command that serves an export, as `python serving/serve.py` and as `python -m kreid.serving`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from serving_samples import encode, random_tracklet

from kreid.serving import EmbeddingClient
from kreid.serving.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("program", "number"),
    [(["serving/serve.py"], signal.SIGTERM), (["-m", "kreid.serving"], signal.SIGINT)],
    ids=["script", "module"],
)
def test_serves_until_a_signal(base_path, program, number):
    process = subprocess.Popen(
        [sys.executable, *program, str(base_path), "--port", "0", "--name", "people"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
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


# A host by name counts as one that other machines reach.
@pytest.mark.filterwarnings("ignore:The server is reachable from other machines:UserWarning")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "`port` must be from 0 (any free port) to 65535. Received: port=70000"),
        (["--max-message-mib", "4096"], "(2047 MiB), the limit of protobuf. Received: max_message_bytes=4294967296"),
        (["--workers", "0"], "`workers` must be from 1 to 1024. Received: workers=0"),
        (["--name", ""], "`name` must not be empty. Received: name=''"),
        (["--host", "no-such-host.invalid", "--port", "0"], "Received: target=no-such-host.invalid:0"),
    ],
)
def test_wrong_usage_is_one_sentence(base_path, capsys, arguments, message):
    assert main([str(base_path), *arguments]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("serve: ")
    assert errors.endswith(f"{message}\n")
    assert errors.count("\n") == 1


def test_a_folder_without_versions_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("serve: The folder has no version")
    assert errors.endswith(f"Received: base_path={tmp_path}\n")


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "kreid serve runs/sta_mars/export" in capsys.readouterr().out
