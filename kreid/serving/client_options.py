"""Options of commands that are clients of a server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kreid.serving.connection import Tls

_TLS_FILES = ("tls_ca", "tls_cert", "tls_key", "tls_name")


def add_client_options(parser: argparse._ActionsContainer) -> None:
    """Add the options of a client's connection to a parser or one of its groups."""
    parser.add_argument("--timeout", type=float, default=300, help="seconds per request (default: %(default)s)")
    parser.add_argument("--tls", action="store_true", help="encrypt, with the system's authorities")
    parser.add_argument("--tls-ca", type=Path, metavar="FILE", help="encrypt; PEM file of the authorities to trust")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="encrypt; PEM file of this client's certificate")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="PEM file of the key of --tls-cert")
    parser.add_argument("--tls-name", metavar="NAME", help="encrypt; the name in the server's certificate")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file whose first line is a bearer token")


def tls_of(options: argparse.Namespace) -> Tls | None:
    """Return the encryption that a command's options ask for.

    Raises:
        ValueError: if a file is no certificate or key, or they do not fit.
        FileNotFoundError: if a file is missing.
    """
    from kreid.serving.connection import Tls

    values = [getattr(options, name) for name in _TLS_FILES]
    return Tls(*values) if options.tls or any(value is not None for value in values) else None


def check_no_client_options(options: argparse.Namespace) -> None:
    """Refuse options of a connection where a command asks no server.

    Raises:
        ValueError: if one is given.
    """
    for name in ("tls", *_TLS_FILES, "token_file"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is of a server's client: give --address too. Received: {option}")
