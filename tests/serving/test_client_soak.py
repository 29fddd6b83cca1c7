"""A client whose server is killed and started again."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("grpc")

from serving_samples import random_tracklet

from kreid.serving import EmbeddingClient, ServingError

pytestmark = pytest.mark.soak

ROUNDS = 5
BOUND_S = 2.0


def start(base_path, port, repository):
    return subprocess.Popen(
        [sys.executable, "-m", "kreid.serving", str(base_path), "--port", str(port), "--log-level", "error"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )


def test_a_client_recovers_soon_after_its_server_is_ready_again(base_path, repository, capsys):
    """The bound is the client's own: its longest wait between tries to connect is 1.2 s."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    frames = [random_tracklet(0, 2)]
    server = start(base_path, port, repository)
    assert server.stdout.readline().startswith("serving kreid")
    recoveries = []
    try:
        with EmbeddingClient(f"127.0.0.1:{port}") as client:
            answered, stop = [], threading.Event()

            def ask():
                while not stop.is_set():
                    try:
                        client.embed_frames(frames)
                        answered.append(time.monotonic())
                    except ServingError as error:
                        assert error.code == "UNAVAILABLE"

            thread = threading.Thread(target=ask)
            thread.start()
            for _ in range(ROUNDS):
                server.send_signal(signal.SIGKILL)
                server.wait()
                time.sleep(5)  # the client's waits have grown to their longest
                server = start(base_path, port, repository)
                assert server.stdout.readline().startswith("serving kreid")
                ready = time.monotonic()
                while not answered or answered[-1] < ready:
                    assert thread.is_alive()
                    time.sleep(0.01)
                recoveries.append(next(when for when in answered if when >= ready) - ready)
            stop.set()
            thread.join()
    finally:
        server.kill()
        server.wait()
    with capsys.disabled():
        print(f"\nanswered again {', '.join(f'{seconds:.2f}' for seconds in recoveries)} s after the server was ready")
    assert max(recoveries) < BOUND_S
