"""Encryption, tokens, retries, and errors that name the cause."""

import asyncio
import socket
import subprocess
import threading

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("cryptography")

from scripted_server import Model, Refused, ScriptedServer  # noqa: E402

from kreid.serving import AsyncEmbeddingClient, EmbeddingClient, Retry, ServingError, Tls  # noqa: E402

FRAMES = np.zeros((2, 8, 4, 3), np.uint8)
MODELS = {3: Model("a1" * 32)}
ONCE = Retry(attempts=1)


def credentials(certificates, name="server", mutual=False):
    pair = certificates[name].key_pem, certificates[name].pem
    return grpc.ssl_server_credentials([pair], certificates["authority"].pem if mutual else None, mutual)


@pytest.fixture(scope="module")
def servers(certificates):
    with (
        ScriptedServer(MODELS) as plain,
        ScriptedServer(MODELS, credentials=credentials(certificates)) as tls,
        ScriptedServer(MODELS, credentials=credentials(certificates, "elsewhere")) as elsewhere,
        ScriptedServer(MODELS, credentials=credentials(certificates, mutual=True)) as mutual,
    ):
        yield {"plain": plain, "tls": tls, "elsewhere": elsewhere, "mutual": mutual}


def embed(target, **settings):
    """Embed with both clients and return the answer of the first; both must agree, also on an error."""

    async def run():
        async with AsyncEmbeddingClient(target, **settings) as client:
            return await client.embed_frames([FRAMES])

    try:
        with EmbeddingClient(target, **settings) as client:
            embeddings = client.embed_frames([FRAMES])
    except ServingError as error:
        with pytest.raises(ServingError) as caught:
            asyncio.run(run())
        assert (caught.value.code, caught.value.hint) == (error.code, error.hint)
        raise
    np.testing.assert_array_equal(asyncio.run(run()), embeddings)
    return embeddings


def test_encrypted_connections(servers, certificates):
    ca = certificates["authority"].path
    certificate, key = certificates["client"].path, certificates["client"].key_path
    assert embed(servers["tls"].target, tls=Tls(ca=ca)).version == 3
    assert embed(f"localhost:{servers['tls'].port}", tls=Tls(ca=str(ca))).version == 3
    assert embed(servers["elsewhere"].target, tls=Tls(ca=ca, server_name="gpu7.example")).version == 3
    assert embed(servers["mutual"].target, tls=Tls(ca=ca, certificate=certificate, key=key)).version == 3


@pytest.mark.parametrize(
    ("server", "tls", "hint"),
    [
        ("tls", None, "it may demand TLS"),
        ("plain", {"ca": "authority"}, "the server does not speak TLS on this port"),
        ("tls", {"ca": "stranger"}, "the client does not trust the server's certificate"),
        ("tls", {}, "give the authority that signed it as Tls(ca=...)"),
        ("elsewhere", {"ca": "authority"}, "the server's certificate is for another host name"),
        ("mutual", {"ca": "authority"}, "it may demand a client's certificate"),
        ("mutual", {"ca": "authority", "client": "strange client"}, "it may not trust the client's certificate"),
    ],
)
def test_errors_of_encryption_name_the_cause(servers, certificates, server, tls, hint):
    if tls is not None:
        files = {"ca": certificates[tls["ca"]].path} if "ca" in tls else {}
        if "client" in tls:
            files |= {"certificate": certificates[tls["client"]].path, "key": certificates[tls["client"]].key_path}
        tls = Tls(**files)
    with pytest.raises(ServingError) as caught:
        embed(servers[server].target, tls=tls, retry=ONCE)
    assert caught.value.code == "UNAVAILABLE"
    assert hint in caught.value.hint


def test_wrong_files_are_named_before_connecting(certificates, tmp_path):
    ca, key = certificates["authority"].path, certificates["client"].key_path
    (tmp_path / "empty.pem").write_bytes(b"")
    locked = tmp_path / "locked.key"
    encrypt = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:secret"]
    subprocess.run(list(map(str, encrypt)), check=True)
    for files, kind, message in (
        ({"ca": tmp_path / "none.pem"}, FileNotFoundError, "no such file; correct its path. Received: ca="),
        ({"ca": tmp_path / "empty.pem"}, ValueError, "`ca` must be a PEM file of certificates"),
        ({"ca": key}, ValueError, "`ca` must be a PEM file of certificates"),
        ({"certificate": ca, "key": key}, ValueError, "must be PEM files that belong together"),
        ({"certificate": certificates["client"].path, "key": locked}, ValueError, "the key must have no password"),
        ({"key": key}, ValueError, "Give `certificate` and `key` together"),
    ):
        with pytest.raises(kind, match=message):
            Tls(**files)


def test_a_token_is_sent(servers, certificates, tmp_path):
    path = tmp_path / "token"
    with ScriptedServer(MODELS, token="secret-1") as server:
        path.write_text("secret-1\n")
        assert embed(server.target, token="secret-1").version == 3
        assert embed(server.target, token_file=path).version == 3
        with EmbeddingClient(server.target, token_file=path) as client:
            client.embed_frames([FRAMES])
            server.token = "secret-22"
            with pytest.raises(ServingError, match="UNAUTHENTICATED"):
                client.embed_frames([FRAMES])
            path.write_text("# of this camera\n\nsecret-22\nanother\n")
            assert client.embed_frames([FRAMES]).version == 3
    with ScriptedServer(MODELS, token="secret", credentials=credentials(certificates)) as server:
        assert embed(server.target, token="secret", tls=Tls(ca=certificates["authority"].path)).version == 3


@pytest.mark.parametrize(
    ("settings", "hint"),
    [({}, "the server demands a token: give token or token_file"), ({"token": "x"}, "does not accept this token")],
)
def test_a_wrong_token_is_named(settings, hint):
    with ScriptedServer(MODELS, token="secret") as server, pytest.raises(ServingError) as caught:
        embed(server.target, **settings)
    assert (caught.value.code, hint in caught.value.hint) == ("UNAUTHENTICATED", True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token": "", "target": "127.0.0.1:1"}, "A token is one line"),
        ({"token": "ä", "target": "127.0.0.1:1"}, "Received: token with 1 characters"),
        ({"token": b"secret", "target": "127.0.0.1:1"}, "A token must be a str. Received: token of type bytes"),
        ({"token": "two words", "target": "127.0.0.1:1"}, "without spaces"),
        ({"token": "x", "token_file": "y", "target": "127.0.0.1:1"}, "not both"),
        ({"token": "secret", "target": "gpu7:8500"}, "A token may leave this machine only encrypted: connect by TLS"),
    ],
)
def test_tokens_that_cannot_be_sent_are_refused(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        EmbeddingClient(**settings)
    assert "secret" not in str(caught.value)


def test_a_missing_token_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_token"):
        EmbeddingClient(token_file=tmp_path / "no_token")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attempts": 0}, "Received: attempts=0"),
        ({"attempts": 6}, "from 1 to 5"),
        ({"first_wait": 2}, "0.1 <= first_wait <= longest_wait. Received: first_wait=2, longest_wait=1.0"),
        ({"first_wait": 0}, "first_wait=0"),
        ({"longest_wait": float("inf")}, "longest_wait=inf"),
    ],
)
def test_retries_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Retry(**settings)


def test_a_request_is_repeated_while_the_server_is_unavailable():
    """Also one that is larger than the buffer that gRPC keeps for repetitions by default."""
    large = np.zeros((60, 64, 64, 3), np.uint8)
    with ScriptedServer({3: Model("a1" * 32, image_size=(64, 64))}) as server:

        def fail_twice(signature, number):
            if signature == "embed_padded" and number <= 2:
                raise Refused("UNAVAILABLE", "busy")

        server.before = fail_twice
        with EmbeddingClient(server.target, retry=Retry(first_wait=0.1)) as client:
            assert client.embed_frames([large]).version == 3
            assert server.asked == ["describe"] + ["embed_padded"] * 3
        server.asked.clear()
        with (
            EmbeddingClient(server.target, retry=ONCE) as client,
            pytest.raises(ServingError, match="UNAVAILABLE: busy"),
        ):
            client.embed_frames([large])
        assert server.asked == ["describe", "embed_padded"]


def test_other_errors_are_not_repeated():
    with ScriptedServer(MODELS) as server:

        def refuse(signature, number):
            raise Refused("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!")

        server.before = refuse
        with pytest.raises(ServingError) as caught, EmbeddingClient(server.target) as client:
            client.card()
        assert server.asked == ["describe"]
    assert caught.value.hint.startswith("the server is busy: try again later, or with fewer clients")


def test_a_client_finds_a_restarted_server():
    """The client keeps asking while nobody listens; with gRPC's own settings its waits grow to two minutes."""
    with ScriptedServer(MODELS) as server:
        port = server.port
        client = EmbeddingClient(server.target, retry=Retry(attempts=1, first_wait=0.1, longest_wait=0.3))
        client.card()
    with client:
        for _ in range(20):
            with pytest.raises(ServingError):
                client.embed_frames([FRAMES])
            threading.Event().wait(0.05)
        with ScriptedServer(MODELS, address=f"127.0.0.1:{port}"):
            assert client.wait_until_ready(timeout=30).version == 3
            assert client.embed_frames([FRAMES]).version == 3


def test_waiting_for_a_server_that_starts_later():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = threading.Event()

    def start():
        server = ScriptedServer(MODELS, address=f"127.0.0.1:{port}")
        loading = iter([True, True])

        def load(signature, number):
            if next(loading, False):
                raise Refused("NOT_FOUND", "Servable not found for request: Latest(kreid)")

        server.before = load
        with server:
            started.wait()

    thread = threading.Timer(0.5, start)
    thread.start()
    try:
        with EmbeddingClient(f"127.0.0.1:{port}", retry=ONCE) as client:
            assert client.wait_until_ready(timeout=60).version == 3
    finally:
        started.set()
        thread.join()


def test_waiting_ends_in_time_at_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with EmbeddingClient(target, timeout=None) as client, pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
            client.wait_until_ready(timeout=0.5)
        with EmbeddingClient(target) as client, pytest.raises(ValueError, match="Received: timeout=0"):
            client.wait_until_ready(timeout=0)


def test_waiting_ends_with_the_last_error():
    with EmbeddingClient("127.0.0.1:1", retry=ONCE) as client, pytest.raises(ServingError, match="UNAVAILABLE"):
        client.wait_until_ready(timeout=0.3)
    with (
        ScriptedServer(MODELS, token="secret") as server,
        EmbeddingClient(server.target) as client,
        pytest.raises(ServingError, match="UNAUTHENTICATED"),
    ):
        client.wait_until_ready(timeout=3600)


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (2000 vs. 1000)", "--max-message-mib"),
        ("RESOURCE_EXHAUSTED", "The server already runs and queues 64 calls", "the server is busy"),
        ("INVALID_ARGUMENT", "a request may hold at most 64 frames (B * T)", "thin the tracklet to the frame_limit"),
        ("INVALID_ARGUMENT", "Unrecognized servable version label: x", "correct the label"),
        ("PERMISSION_DENIED", "", "this token may not use the model"),
        ("UNAVAILABLE", "The batch scheduling queue to which this task was submitted is full", "the server is busy"),
        ("DATA_LOSS", "", "look at the server's log"),
    ],
)
def test_hints_fit_the_cause(code, message, hint):
    def refuse(signature, number):
        raise Refused(code, message)

    with ScriptedServer(MODELS) as server:
        server.before = refuse
        with pytest.raises(ServingError) as caught, EmbeddingClient(server.target, retry=ONCE) as client:
            client.card()
    assert (caught.value.code, caught.value.message) == (code, message)
    assert hint in caught.value.hint


def test_the_clients_own_limit_is_named():
    large = np.zeros((60, 64, 64, 3), np.uint8)
    with (
        ScriptedServer({3: Model("a1" * 32, image_size=(64, 64))}) as server,
        EmbeddingClient(server.target, max_message_bytes=100_000) as client,
        pytest.raises(ServingError) as caught,
    ):
        client.embed_frames([large])
    assert (caught.value.code, "raise the client's max_message_bytes" in caught.value.hint) == (
        "RESOURCE_EXHAUSTED",
        True,
    )


def test_a_port_of_another_protocol_is_named():
    """As TensorFlow Serving's REST port, which users mistake for the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            with pytest.raises(ServingError) as caught:
                embed(f"127.0.0.1:{listening.getsockname()[1]}", retry=ONCE)
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert "the target is no gRPC server; correct the port" in caught.value.hint


def test_a_cancelled_call_leaves_the_client_usable():
    async def run():
        with ScriptedServer(MODELS) as server:
            asked, go_on = threading.Event(), threading.Event()

            def wait(signature, number):
                if (signature, number) == ("embed_padded", 1):
                    asked.set()
                    go_on.wait()

            server.before = wait
            async with AsyncEmbeddingClient(server.target) as client:
                call = asyncio.create_task(client.embed_frames([FRAMES]))
                await asyncio.to_thread(asked.wait)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                go_on.set()
                return await client.embed_frames([FRAMES])

    assert asyncio.run(run()).version == 3


def test_the_connection_is_opened_in_the_loop_that_uses_it():
    client = AsyncEmbeddingClient("127.0.0.1:1", retry=ONCE)  # no event loop runs here

    async def run():
        async with client:
            with pytest.raises(ServingError, match="UNAVAILABLE"):
                await client.card()

    asyncio.run(run())
