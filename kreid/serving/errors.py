"""The client's error, with a hint that fits the cause."""

from __future__ import annotations

from typing import NamedTuple


class ServingError(RuntimeError):
    """The error of a request that the server refused, or that did not reach it.

    Args:
        code: name of the gRPC status code.
        message: the server's message.
        hint: how to fix it.

    Attributes:
        code: as given.
        message: as given.
        hint: as given.
    """

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(code, message, hint)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.code}: {self.message}; {self.hint}"


class ClientFacts(NamedTuple):
    """The settings of a client that decide which cause of an error is likely.

    Args:
        target: of the client.
        model: name of the model; `None` for a client of a gallery.
        tls: whether the connection is encrypted.
        certificate: whether the client shows a certificate.
        token: whether the client sends a token.
    """

    target: str
    model: str | None
    tls: bool = False
    certificate: bool = False
    token: bool = False


_BY_CODE = {
    "UNAVAILABLE": "start the server (kreid serve EXPORT_DIR) or correct the target",
    "DEADLINE_EXCEEDED": "give the client a longer timeout or send fewer tracklets at once",
    "NOT_FOUND": "correct the model name or version; status() lists the versions",
    "INVALID_ARGUMENT": "compare the request with metadata() and with the limits in card()",
    "FAILED_PRECONDITION": "this model has other signatures; metadata() lists them",
    "RESOURCE_EXHAUSTED": "the server is busy or short of memory: try again later, or with fewer tracklets at once",
    "PERMISSION_DENIED": "this token may not use the model: give another one (token, token_file)",
    "UNIMPLEMENTED": "the target is neither TensorFlow Serving nor a kreid server; correct it",
    "INTERNAL": "look at the server's log",
}

# Of a gallery, in place of those of a model.
_OF_GALLERY = {
    "UNAVAILABLE": "start the server (kreid serve --gallery GALLERY) or correct the target",
    "INVALID_ARGUMENT": "correct the request",
    "FAILED_PRECONDITION": "send embeddings of the gallery's model, or serve that model",
    "PERMISSION_DENIED": "this server's gallery is read only: ask one that may change it",
    "UNIMPLEMENTED": "this server has no gallery: start it with --gallery, or correct the target",
    "ABORTED": "another process changes the gallery: try again later",
    "DATA_LOSS": "kreid gallery verify names what is damaged",
}

# Parts of a message -> a hint that is better than that of the code; the first that fits counts.
_BY_MESSAGE = (
    (
        ("message larger than max", "CLIENT: Sent"),
        "send fewer tracklets at once, or raise the client's max_message_bytes",
    ),
    (
        ("message larger than max", "CLIENT: Received"),
        "ask for fewer tracklets at once, or raise the client's max_message_bytes",
    ),
    (
        ("message larger than max",),
        "send fewer tracklets at once, or raise the server's limit (--max-message-mib) and the client's "
        "max_message_bytes",
    ),
    (("at most", "frames"), "thin the tracklet to the frame_limit in card(), or export with a larger frame_limit"),
    (("oncurrent RPC limit",), "the server is busy: try again later, or with fewer clients"),
    (("batch scheduling queue",), "the server is busy: try again later, or with fewer clients"),
    (("errors resolving",), "correct the target's host name"),
    (("DNS resolution",), "correct the target's host name"),
    (("version label",), "correct the label; the server's configuration lists its labels"),
    (
        ("Hostname Verification",),
        "the server's certificate is for another host name: connect by a name in the certificate, or give that name as "
        "Tls(server_name=...)",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "the client does not trust the server's certificate, or it has expired: give the authority that signed it as "
        "Tls(ca=...)",
    ),
    (("WRONG_VERSION_NUMBER",), "the server does not speak TLS on this port: leave tls out, or correct the port"),
    (("HTTP/2",), "the target is no gRPC server; correct the port (TensorFlow Serving's is 8500, its REST port 8501)"),
)


def explain(code: str, message: str, facts: ClientFacts) -> ServingError:
    """Return the error for a gRPC status.

    Args:
        code: name of the status code.
        message: the server's or gRPC's message.
        facts: of the client.

    Returns:
        A `ServingError`.

    Example:

    >>> error = explain("NOT_FOUND", "Servable not found", ClientFacts("localhost:8500", "gltr"))
    >>> error.hint
    'correct the model name or version; status() lists the versions. Received: target=localhost:8500, model=gltr'
    """
    received = f"Received: target={facts.target}{'' if facts.model is None else f', model={facts.model}'}"
    return ServingError(code, message, f"{_hint(code, message, facts)}. {received}")


def _hint(code: str, message: str, facts: ClientFacts) -> str:
    if code == "UNAUTHENTICATED":
        if facts.token:
            return "the server does not accept this token: give another one (token, token_file)"
        return "the server demands a token: give token or token_file"
    for parts, hint in _BY_MESSAGE:
        if all(part in message for part in parts):
            return hint
    # A server closes a connection whose first bytes it does not like, without a word.
    if code == "UNAVAILABLE" and ("Socket closed" in message or "reset by peer" in message):
        if not facts.tls:
            return (
                "the server closed the connection: it may demand TLS (tls=True or tls=Tls(ca=...)), or it is stopping"
            )
        if not facts.certificate:
            return (
                "the server closed the connection: it may demand a client's certificate "
                "(Tls(certificate=..., key=...)), or it is stopping"
            )
        return "the server closed the connection: it may not trust the client's certificate, or it is stopping"
    own = _OF_GALLERY if facts.model is None else {}
    return own.get(code) or _BY_CODE.get(code, "look at the server's log")
