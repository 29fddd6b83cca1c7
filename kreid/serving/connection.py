"""How a client connects: encryption, token, retries and back-off."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_MESSAGE_BYTES = 2**31 - 1  # protobuf's limit
_MOST_ATTEMPTS = 5  # gRPC's limit
_CONNECT_S = 5  # for one try to connect, instead of gRPC's 20
_KEEPALIVE_ANSWER_S = 10


@dataclass(frozen=True)
class Tls:
    """Encryption of a connection by TLS.

    Args:
        ca: PEM file with the authorities that may have signed the server's certificate; `None` for those of the system.
        certificate: PEM file with the client's own certificate, for a server that demands one (mutual TLS).
        key: PEM file with the private key of `certificate`, without a password.
        server_name: name in the server's certificate, if it differs from the target's host.

    Raises:
        ValueError: if a file is not what it should be, or only one of `certificate` and `key` is given.
        FileNotFoundError: if a file is missing.

    Example:

    >>> Tls(certificate="client.pem")
    Traceback (most recent call last):
    ...
    ValueError: Give `certificate` and `key` together. Received: certificate='client.pem', key=None
    """

    ca: str | os.PathLike[str] | None = None
    certificate: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError(
                f"Give `certificate` and `key` together. Received: certificate={self.certificate!r}, key={self.key!r}"
            )
        self.contents()

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Read and check the files.

        gRPC itself reports a wrong file only in the log, and as a connection that fails.

        Returns:
            A tuple of the contents of `ca`, `key` and `certificate`, each `None` if it was not given.
        """
        for name in ("ca", "certificate", "key"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(
                    f"There is no such file; correct its path. Received: {name}={os.fspath(path)!r}"
                )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(cafile=self.ca)
            except ssl.SSLError as error:
                raise ValueError(
                    f"`ca` must be a PEM file of certificates ({error.reason}). Received: ca={os.fspath(self.ca)!r}"
                ) from error
        if self.certificate is not None and self.key is not None:
            try:
                # The password is asked for on the terminal unless one is given.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (ssl.SSLError, ValueError) as error:
                raise ValueError(
                    "`certificate` and `key` must be PEM files that belong together, and the key must have no password "
                    f"({getattr(error, 'reason', error)}). Received: certificate={os.fspath(self.certificate)!r}, "
                    f"key={os.fspath(self.key)!r}"
                ) from error
        read = [None if path is None else Path(path).read_bytes() for path in (self.ca, self.key, self.certificate)]
        return read[0], read[1], read[2]


@dataclass(frozen=True)
class Retry:
    """How often and after which waits a client repeats a request that did not reach the server.

    gRPC repeats a request on `UNAVAILABLE`, with a random share of 20% added to or taken from each wait; each wait is
    twice as long as the one before it. The waits bound the pauses between tries to connect too, so that a client finds
    a restarted server within about `longest_wait`. All of it happens within the request's timeout.

    Args:
        attempts: tries per request, 1 (no repetition) to 5 (gRPC's limit).
        first_wait: seconds before the second try.
        longest_wait: seconds that a wait lasts at most.

    Raises:
        ValueError: for a value out of range.

    Example:

    >>> Retry(attempts=9)
    Traceback (most recent call last):
    ...
    ValueError: `attempts` must be an integer from 1 to 5. Received: attempts=9
    """

    attempts: int = _MOST_ATTEMPTS
    first_wait: float = 0.2
    longest_wait: float = 1.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or not 1 <= self.attempts <= _MOST_ATTEMPTS:
            raise ValueError(
                f"`attempts` must be an integer from 1 to {_MOST_ATTEMPTS}. Received: attempts={self.attempts!r}"
            )
        if not 0.1 <= self.first_wait <= self.longest_wait < float("inf"):
            raise ValueError(
                "Waits are seconds, with 0.1 <= first_wait <= longest_wait. Received: "
                f"first_wait={self.first_wait!r}, longest_wait={self.longest_wait!r}"
            )


def channel_options(max_message_bytes: int, retry: Retry, keepalive: float, tls: Tls | None) -> list[tuple[str, Any]]:
    """Return the options of a gRPC channel.

    Args:
        max_message_bytes: largest request and answer.
        retry: a `Retry`.
        keepalive: seconds without an answer after which the client asks the server whether it is still there.
        tls: a `Tls`, or `None`.

    Returns:
        A list of gRPC's names and values.
    """
    config: dict[str, Any] = {"name": [{}]}
    if retry.attempts > 1:
        config["retryPolicy"] = {
            "maxAttempts": retry.attempts,
            "initialBackoff": f"{retry.first_wait:.3f}s",
            "maxBackoff": f"{retry.longest_wait:.3f}s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
    options = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.service_config", json.dumps({"methodConfig": [config]})),
        # gRPC does not repeat a request that is larger than this buffer, which is 256 KiB by default: two frames.
        ("grpc.per_rpc_retry_buffer_size", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", round(1000 * retry.first_wait)),
        ("grpc.max_reconnect_backoff_ms", round(1000 * retry.longest_wait)),
        ("grpc.min_reconnect_backoff_ms", 1000 * _CONNECT_S),
        ("grpc.keepalive_time_ms", round(1000 * keepalive)),
        ("grpc.keepalive_timeout_ms", 1000 * _KEEPALIVE_ANSWER_S),
    ]
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


class Token:
    """A bearer token, given as text or in a file that is read again when it changes.

    Args:
        text: the token.
        path: of a file whose first line is the token; empty lines and lines that begin with `#` are skipped.

    Raises:
        ValueError: if both are given, or the token is empty or no header can carry it.
        FileNotFoundError: if the file is missing.
    """

    def __init__(self, text: str | None, path: str | os.PathLike[str] | None) -> None:
        if text is not None and path is not None:
            raise ValueError(f"Give `token` or `token_file`, not both. Received: token, token_file={os.fspath(path)!r}")
        self._path = path
        self._read: tuple[tuple[int, int, int], str] | None = None
        self._text = None if text is None else _checked_token(text, "token")
        self.metadata()

    def __bool__(self) -> bool:
        return self._text is not None or self._path is not None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return a request's metadata: the token's header, or nothing without a token."""
        text = self._text if self._path is None else self._from_file(self._path)
        return () if text is None else (("authorization", f"Bearer {text}"),)

    def _from_file(self, path: str | os.PathLike[str]) -> str:
        try:
            stat = os.stat(path)
            changed = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if self._read is None or self._read[0] != changed:
                with open(path, encoding="utf-8") as file:
                    line = next((line for line in file if line.strip() and not line.startswith("#")), "")
                self._read = changed, _checked_token(line, f"token_file={os.fspath(path)!r}")
        except UnicodeDecodeError as error:
            raise ValueError(f"A token is ASCII text. Received: token_file={os.fspath(path)!r}") from error
        return self._read[1]


def _checked_token(text: str, name: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"A token must be a str. Received: {name} of type {type(text).__name__}")
    token = text.strip()
    # The token itself stays out of messages, which end up in logs.
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(
            "A token is one line of visible ASCII characters without spaces. "
            f"Received: {name} with {len(text)} characters"
        )
    return token


def check_target(target: str) -> None:
    """Check a gRPC target. gRPC itself adds port 443 where none is given, and takes 99999 for 34463.

    Args:
        target: `host:port`, or one of gRPC's URIs such as `unix:/run/kreid.sock`.

    Raises:
        ValueError: if it is no such target.

    Example:

    >>> check_target("gpu7:85000")
    Traceback (most recent call last):
    ...
    ValueError: `target` must be host:port with a port from 1 to 65535. Received: target='gpu7:85000'
    """
    received = f"Received: target={target!r}"
    if not isinstance(target, str) or target.startswith(("http://", "https://", "grpc://", "grpcs://")):
        raise ValueError(f"`target` must be host:port; `tls` says whether it is encrypted. {received}")
    if _scheme(target) in _OTHER_SCHEMES:
        return
    for address in _addresses(target):
        host, _, port = address.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError(f"`target` must be host:port with a port from 1 to 65535. {received}")
        if ":" in host and not (host.startswith("[") and host.endswith("]")):
            raise ValueError(f"`target` must have an IPv6 address in brackets, as in [::1]:8500. {received}")


def is_local(target: str) -> bool:
    """Whether a gRPC target is on this machine, so that nobody on a network can read what is sent.

    Example:

    >>> [is_local(target) for target in ("127.0.0.1:8500", "[::1]:8500", "dns:///localhost:1", "unix:/run/kreid")]
    [True, True, True, True]
    >>> is_local("gpu7:8500")
    False
    """
    if _scheme(target) in _OTHER_SCHEMES:
        return _scheme(target) in ("unix", "unix-abstract")
    return all(_is_loopback(address.rpartition(":")[0].strip("[]")) for address in _addresses(target))


_OTHER_SCHEMES = ("unix", "unix-abstract", "vsock", "xds")


def _scheme(target: str) -> str | None:
    scheme, found, _ = target.partition(":")
    return scheme if found and scheme in (*_OTHER_SCHEMES, "dns", "ipv4", "ipv6", "passthrough") else None


def _addresses(target: str) -> list[str]:
    if _scheme(target) is not None:
        target = target.partition(":")[2].rpartition("/")[2]
    return target.split(",")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
