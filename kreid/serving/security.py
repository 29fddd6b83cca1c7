"""Who may use the server: TLS, mutual TLS and bearer tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import ipaddress
import logging
import os
import ssl
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kreid.serving.refusal import RequestRefused

_LOG = logging.getLogger(__name__)
_MIN_TOKEN = 16


class TokenFile:
    """Bearer tokens from a file, one per line; the file is read again when it changes.

    A file that becomes unreadable or empty leaves the old tokens valid, and the log says so.

    Args:
        path: of the file. Empty lines and lines that begin with `#` are skipped.

    Raises:
        ValueError: if the file cannot be read, has no token, or a token that is shorter than 16 characters or has
            characters other than visible ASCII.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._seen = _stamp(self.path)
        self._digests = self._read()

    def check(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Check a request's metadata.

        Args:
            metadata: of the call.

        Returns:
            The first 8 digits of the SHA-256 of the token, which name it in logs.

        Raises:
            RequestRefused: without `authorization: Bearer TOKEN` of a token in the file.
        """
        sent = [value for key, value in metadata if key == "authorization"]
        if len(sent) != 1 or not isinstance(sent[0], str) or not sent[0].startswith("Bearer "):
            raise RequestRefused("UNAUTHENTICATED", "This server needs the metadata `authorization: Bearer TOKEN`.")
        digest = _digest(sent[0].removeprefix("Bearer ").strip())
        # Against every token, and of equal length, so that the time tells nothing.
        matches = [hmac.compare_digest(digest, known) for known in self._current()]
        if not any(matches):
            raise RequestRefused("UNAUTHENTICATED", "The token is not valid.")
        return digest.hex()[:8]

    def _current(self) -> list[bytes]:
        with self._lock:
            stamp = _stamp(self.path)
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._digests = self._read()
                except ValueError as error:
                    _LOG.error("The old tokens stay valid: %s", error)
            return self._digests

    def _read(self) -> list[bytes]:
        received = f"Received: token_file={str(self.path)!r}"
        try:
            lines = self.path.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"The file of tokens must be readable ASCII text ({type(error).__name__}). {received}"
            ) from error
        tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not tokens:
            raise ValueError(f"The file of tokens has no token; write one per line. {received}")
        for place, token in enumerate(tokens, 1):
            # Not shown: a token is a secret.
            if len(token) < _MIN_TOKEN or not token.isprintable() or " " in token:
                raise ValueError(
                    f"A token needs at least {_MIN_TOKEN} visible characters without a space; "
                    f"`openssl rand -hex 32` makes one. {received}, token={place} of {len(tokens)}"
                )
        return [_digest(token) for token in tokens]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _stamp(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """Return numbers that change with a file, `None` for no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclasses.dataclass(frozen=True)
class TlsFiles:
    """The files of a server's TLS; none of them for a server without.

    Args:
        cert: PEM file of the server's certificate and the chain above it.
        key: PEM file of its private key.
        client_ca: PEM file of the authorities that sign clients' certificates; then every client needs one.

    Raises:
        ValueError: if a file is missing or damaged, or the key belongs to another certificate.
    """

    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    client_ca: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self:
            self.check()

    def check(self) -> None:
        """Read the files.

        Raises:
            ValueError: if a file is missing or damaged, or the key belongs to another certificate.
        """
        if self.cert is None or self.key is None:
            raise ValueError(
                "TLS needs both a certificate and its key (--tls-cert and --tls-key). "
                f"Received: tls_cert={self.cert}, tls_key={self.key}, tls_client_ca={self.client_ca}"
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password here, OpenSSL would ask for it on the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ValueError(
                "The certificate and key must be PEM files that belong together, the key without a password "
                f"({_reason(error)}). Received: tls_cert={self.cert}, tls_key={self.key}"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise ValueError(
                    f"The clients' authorities must be a PEM file of certificates ({_reason(error)}). "
                    f"Received: tls_client_ca={self.client_ca}"
                ) from error

    def __bool__(self) -> bool:
        """Whether there is any file."""
        return any(file is not None for file in (self.cert, self.key, self.client_ca))

    def credentials(self) -> Any:
        """Return `grpc.ServerCredentials` that read the files again when they change.

        A renewed certificate serves the connections that begin after it; the others keep theirs. Damaged files, and
        files that do not belong together, as while they are being replaced, leave the old ones in use, and the log
        says so.
        """
        import grpc

        renewal = _Renewal(self)
        return grpc.dynamic_ssl_server_credentials(
            renewal.first, renewal.changed, require_client_authentication=self.client_ca is not None
        )


class _Renewal:
    """What the TLS files hold now, for gRPC, which asks before each handshake.

    Args:
        files: a `TlsFiles`.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self.first = self._read()

    def changed(self) -> Any:
        """Return the `grpc.ServerCertificateConfiguration` of changed files; `None` if the last one holds."""
        with self._lock:
            stamps = self._stamps()
            if stamps == self._seen:
                return None
            self._seen = stamps
            try:
                self._files.check()
                configuration = self._read()
            except (OSError, ValueError) as error:
                _LOG.error("The old certificate stays in use: %s", error)
                return None
            if self._stamps() != stamps:  # Replaced while they were read: the next handshake reads them.
                return None
            _LOG.info("New certificate read from %s", self._files.cert)
            return configuration

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        files = self._files
        return [_stamp(file) for file in (files.cert, files.key, files.client_ca) if file is not None]

    def _read(self) -> Any:
        import grpc

        files = self._files
        assert files.cert is not None and files.key is not None
        return grpc.ssl_server_certificate_configuration(
            [(Path(files.key).read_bytes(), Path(files.cert).read_bytes())],
            root_certificates=None if files.client_ca is None else Path(files.client_ca).read_bytes(),
        )


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address; a name other than `localhost` counts as reachable."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def warn_beyond_loopback(host: str, encrypted: bool, authenticated: bool) -> None:
    """Warn about an address that other machines reach without encryption or authentication.

    Args:
        host: address to listen on.
        encrypted: whether the server has a certificate.
        authenticated: whether clients need a token or a certificate.
    """
    if is_loopback(host) or (encrypted and authenticated):
        return
    missing = [word for word, has in (("authentication", authenticated), ("encryption", encrypted)) if not has]
    warnings.warn(
        f"The server is reachable from other machines without {' or '.join(missing)}: give --tls-cert and --tls-key, "
        f"and --token-file or --tls-client-ca, or use a proxy with both. Received: host={host}",
        stacklevel=3,
    )
