"""TLS, mutual TLS and bearer tokens."""

import os
import threading
import warnings

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("tensorflow_serving.apis")

from certificates import Certificate  # noqa: E402
from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: E402
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc  # noqa: E402

from kreid.serving import EmbeddingServer, wire  # noqa: E402
from kreid.serving.refusal import RequestRefused  # noqa: E402
from kreid.serving.security import TokenFile, warn_beyond_loopback  # noqa: E402

TOKEN, OTHER = "a-token-of-32-visible-characters", "another-token-of-38-visible-characters"


def describe(channel, **options):
    types = wire.messages()
    request = types["PredictRequest"]()
    request.model_spec.name, request.model_spec.signature_name = "kreid", "describe"
    wire.fill_tensor(request.inputs["rows"], np.zeros(1, np.int32))
    call = channel.unary_unary(
        wire.PREDICT, types["PredictRequest"].SerializeToString, types["PredictResponse"].FromString
    )
    return call(request, timeout=30, **options)


def code_of(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder):
    return Certificate(folder, "authority")


@pytest.fixture(scope="module")
def tokens(folder):
    path = folder / "tokens"
    path.write_text(f"# of the cameras\n{TOKEN}\n\n")
    return path


@pytest.fixture(scope="module")
def secure(small_path, folder, authority, tokens):
    """A server that demands certificates and tokens."""
    own = Certificate(folder, "server", issuer=authority, hosts=["127.0.0.1"])
    with EmbeddingServer(
        small_path,
        port=0,
        tls_cert=own.path,
        tls_key=own.key_path,
        tls_client_ca=authority.path,
        token_file=tokens,
        poll_seconds=0,
    ) as server:
        yield server


@pytest.fixture(scope="module")
def channel(secure, folder, authority):
    client = Certificate(folder, "client", issuer=authority)
    credentials = grpc.ssl_channel_credentials(authority.pem, client.key_pem, client.pem)
    with grpc.secure_channel(secure.target, credentials) as channel:
        yield channel


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def test_a_client_with_certificate_and_token_is_answered(channel):
    assert describe(channel, metadata=bearer(TOKEN)).model_spec.version.value == 3


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer("# of the cameras"),
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        bearer(TOKEN) * 2,
        [("authorization-bin", TOKEN.encode())],
    ],
)
def test_without_the_token_every_service_but_health_refuses(channel, metadata):
    assert code_of(describe, channel, metadata=metadata) == "UNAUTHENTICATED"
    reload = channel.unary_unary("/tensorflow.serving.ModelService/HandleReloadConfigRequest")
    assert code_of(reload, b"", metadata=metadata) == "UNAUTHENTICATED"
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    assert code_of(lambda: list(reflection(iter([request]), metadata=metadata))) == "UNAUTHENTICATED"
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_the_token_is_checked_before_the_request_arrives(channel):
    def never():
        threading.Event().wait(60)
        yield b""

    call = channel.stream_unary(wire.PREDICT).future(never())
    assert call.exception().code().name == "UNAUTHENTICATED"


def test_a_client_without_a_certificate_of_the_authority_is_not_connected(secure, folder, authority):
    stranger = Certificate(folder, "stranger", issuer=Certificate(folder, "other-authority"))
    for credentials in (
        grpc.ssl_channel_credentials(authority.pem),
        grpc.ssl_channel_credentials(authority.pem, stranger.key_pem, stranger.pem),
    ):
        with grpc.secure_channel(secure.target, credentials) as channel:
            assert code_of(describe, channel, metadata=bearer(TOKEN)) == "UNAVAILABLE"
    with grpc.insecure_channel(secure.target) as channel:
        assert code_of(describe, channel, metadata=bearer(TOKEN)) == "UNAVAILABLE"


def test_a_changed_file_of_tokens_is_read_again(tmp_path, caplog):
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    tokens = TokenFile(path)
    tokens.check(bearer(TOKEN))
    (tmp_path / "new").write_text(f"{OTHER}\n")
    os.replace(tmp_path / "new", path)
    tokens.check(bearer(OTHER))
    with pytest.raises(RequestRefused, match="not valid"):
        tokens.check(bearer(TOKEN))
    for damage in (lambda: path.write_text("short"), path.unlink):
        damage()
        tokens.check(bearer(OTHER))
        with pytest.raises(RequestRefused):
            tokens.check(bearer(TOKEN))
        assert caplog.messages[-1].startswith("The old tokens stay valid: ")
        assert "short" not in caplog.messages[-1].replace("shorter", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no token"),
        (b"# only a comment\n", "has no token"),
        (b"too-short\n", "at least 16 visible characters"),
        (TOKEN.encode() + b"\nwith a space inside it\n", "token=2 of 2"),
        (b"\xff" * 40, "readable ASCII text"),
        (None, "readable ASCII text"),
    ],
)
def test_a_wrong_file_of_tokens_is_refused_without_showing_it(small_path, tmp_path, content, message):
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        EmbeddingServer(small_path, token_file=path)
    assert str(path) in str(caught.value)
    assert "too-short" not in str(caught.value)


def test_wrong_files_of_tls_are_refused_before_loading(small_path, folder, authority, tmp_path):
    own, other = Certificate(folder, "one", issuer=authority), Certificate(folder, "two", issuer=authority)
    missing, damaged = tmp_path / "missing.pem", tmp_path / "damaged.pem"
    damaged.write_text("no certificate")
    for arguments, message in [
        ({"tls_cert": own.path}, "needs both a certificate and its key"),
        ({"tls_client_ca": authority.path}, "needs both a certificate and its key"),
        ({"tls_cert": own.path, "tls_key": other.key_path}, "belong together"),
        ({"tls_cert": missing, "tls_key": own.key_path}, "No such file"),
        ({"tls_cert": damaged, "tls_key": own.key_path}, "must be PEM files"),
        ({"tls_cert": own.path, "tls_key": own.key_path, "tls_client_ca": damaged}, "authorities must be a PEM file"),
        ({"tls_cert": own.path, "tls_key": own.key_path, "tls_client_ca": missing}, "No such file"),
    ]:
        with pytest.raises(ValueError, match=message):
            EmbeddingServer(small_path, **arguments)


def test_renewed_certificates_serve_new_connections_without_a_restart(small_path, tmp_path, caplog):
    used, new = tmp_path / "used", tmp_path / "new"
    used.mkdir()
    new.mkdir()
    before, after = Certificate(used, "authority"), Certificate(new, "authority")
    for folder, issuer in ((used, before), (new, after)):
        Certificate(folder, "server", issuer=issuer, hosts=["127.0.0.1"])

    def connect(issuer):
        """Connect as a client of an authority, who trusts this authority alone."""
        client = Certificate(tmp_path, "client", issuer=issuer)
        credentials = grpc.ssl_channel_credentials(issuer.pem, client.key_pem, client.pem)
        # Without a pool of its own, a channel would use a connection of another one.
        return grpc.secure_channel(server.target, credentials, [("grpc.use_local_subchannel_pool", 1)])

    files = {"tls_cert": used / "server.pem", "tls_key": used / "server.key", "tls_client_ca": used / "authority.pem"}
    with (
        EmbeddingServer(small_path, port=0, poll_seconds=0, **files) as server,
        connect(before) as old,
    ):
        assert code_of(describe, old) == "OK"
        # Until the key has followed, the old certificate is shown.
        os.replace(new / "server.pem", used / "server.pem")
        with connect(before) as channel:
            assert code_of(describe, channel) == "OK"
        assert "The old certificate stays in use: The certificate and key must" in caplog.messages[-1]
        os.replace(new / "server.key", used / "server.key")
        os.replace(new / "authority.pem", used / "authority.pem")
        with connect(after) as channel:
            assert code_of(describe, channel) == "OK"
        with connect(before) as channel:
            assert code_of(describe, channel) == "UNAVAILABLE"
        assert code_of(describe, old) == "OK"


@pytest.mark.parametrize(
    ("host", "encrypted", "authenticated", "missing"),
    [
        ("0.0.0.0", False, False, "without authentication or encryption"),
        ("::", True, False, "without authentication:"),
        ("192.0.2.1", False, True, "without encryption:"),
        ("serving.example", False, False, "without authentication or encryption"),
        ("0.0.0.0", True, True, None),
        ("127.0.0.1", False, False, None),
        ("[::1]", False, False, None),
        ("localhost", False, False, None),
    ],
)
def test_only_an_open_address_warns(host, encrypted, authenticated, missing):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_beyond_loopback(host, encrypted, authenticated)
    assert bool(caught) == (missing is not None)
    assert missing is None or missing in str(caught[0].message)
