"""Envoy with the configuration in serving/, in front of the embedded server: TLS, tokens, readiness."""

import http.client
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

pytest.importorskip("envoy")
pytest.importorskip("grpc")

from envoy_samples import envoy_path, write_clients, write_envoy_config
from serving_samples import random_tracklet

from kreid.serving import EmbeddingClient, ServingError, Tls

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proxy(repository, certificates, server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("envoy")
    tokens = {"cameras": "token-of-the-cameras", "search": "token-of-the-search"}
    config = write_envoy_config(repository / "serving", folder, certificates["server"], tokens, server.target)
    address = folder / "admin"
    command = [envoy_path(), "-c", config, "--admin-address-path", str(address), "--concurrency", "1"]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield {
            "folder": folder,
            "port": _listener_port(process, address),
            "tls": Tls(ca=certificates["authority"].path),
        }
    finally:
        process.terminate()
        process.wait()


def _listener_port(process, address):
    """Ask Envoy for the port that it chose, once it answers."""
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection(address.read_text())
            connection.request("GET", "/listeners?format=json")
            listeners = json.load(connection.getresponse())["listener_statuses"]
            return listeners[0]["local_address"]["socket_address"]["port_value"]
        except (OSError, LookupError, ValueError):
            time.sleep(0.1)
    raise AssertionError(f"Envoy ended with status {process.returncode}")


def connect(proxy, **settings):
    return EmbeddingClient(f"127.0.0.1:{proxy['port']}", **settings)


def test_a_known_token_is_answered(proxy, server):
    tracklets = [random_tracklet(seed, 1 + seed) for seed in range(3)]
    with EmbeddingClient(server.target) as client:
        expected = client.embed_frames(tracklets)
    for token in ("token-of-the-cameras", "token-of-the-search"):
        with connect(proxy, tls=proxy["tls"], token=token) as client:
            client.wait_until_ready()
            embeddings = client.embed_frames(tracklets)
            np.testing.assert_array_equal(embeddings, expected)
            # The version and fingerprint come through, in the message and in the answer's metadata.
            assert embeddings.model == expected.model
            assert client.status() == [{"version": 3, "state": "AVAILABLE", "error": ""}]


@pytest.mark.parametrize("token", [None, "token-of-nobody"])
def test_others_are_refused(proxy, token):
    with connect(proxy, tls=proxy["tls"], token=token) as client, pytest.raises(ServingError) as caught:
        client.card()
    assert caught.value.code == "UNAUTHENTICATED"


def test_a_plain_connection_is_refused(proxy):
    with connect(proxy) as client, pytest.raises(ServingError) as caught:
        client.card()
    assert caught.value.code == "UNAVAILABLE"
    assert "it may demand TLS" in caught.value.hint, caught.value


def test_the_proxy_changes_no_answer(proxy, repository):
    (proxy["folder"] / "token").write_text("token-of-the-search\n")
    command = [sys.executable, "-m", "pytest", "tests/serving/test_conformance.py", "-q", "-m", "conformance"]
    command += ["-p", "no:cacheprovider", "--address", f"127.0.0.1:{proxy['port']}", "--label", "stable"]
    command += ["--tls-ca", str(proxy["tls"].ca), "--token-file", str(proxy["folder"] / "token")]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    ran = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_the_log_names_the_client_and_no_token(proxy):
    with connect(proxy, tls=proxy["tls"], token="token-of-the-cameras") as client:
        client.card()
    text = ""
    while '"client":"cameras"' not in text:  # Envoy writes its log once a second
        text = (proxy["folder"] / "log").read_text()
    assert "token-of" not in text


def test_new_tokens_need_no_restart(proxy):
    clients = yaml.safe_load((proxy["folder"] / "clients.yaml").read_text())
    with connect(proxy, tls=proxy["tls"], token="token-of-the-newcomer") as client:
        with pytest.raises(ServingError, match="UNAUTHENTICATED"):
            client.card()
        write_clients(proxy["folder"], clients, {"newcomer": "token-of-the-newcomer"})
        while True:
            try:
                assert client.card()["metric"]
                break
            except ServingError as error:
                assert error.code == "UNAUTHENTICATED"
    with (
        connect(proxy, tls=proxy["tls"], token="token-of-the-cameras") as client,
        pytest.raises(ServingError, match="UNAUTHENTICATED"),
    ):
        client.card()
