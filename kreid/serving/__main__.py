"""Serve an export, a gallery or both over gRPC until SIGTERM or SIGINT.

    kreid serve runs/sta_mars/export --port 8500
    kreid serve runs/sta_mars/export --gallery halls
    kreid serve --gallery halls --gallery-read-only

The highest version in the folder is served, and replaced without a failed request when a higher one appears. The line
"serving kreid version 1 on 127.0.0.1:8500" means that the server is ready. Standard error gets the log, a JSON object a
line.

With --gallery, clients search the gallery and add and delete tracklets, by embeddings, or by images where its model is
served beside it. --gallery-create makes a gallery for the served model, --gallery-read-only lets clients search alone.

To serve other machines, encrypt and authenticate:

    kreid serve runs/sta_mars/export --host 0.0.0.0 --tls-cert server.pem --tls-key server.key --token-file tokens.txt

The first signal refuses new calls and waits for running ones, at most --grace seconds; a second one ends the process at
once. Exit status: 0 after the first signal, 2 if the server cannot start, 128 + the signal's number after the second.
"""

import argparse
import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from kreid._files import printable
from kreid._quiet import decoder_complaints_dropped, import_tensorflow

if TYPE_CHECKING:
    from kreid.serving.server import EmbeddingServer

_MAX_GRACE_S = 3600.0
# Beyond the grace: answers are flushed and sockets closed.
_LAST_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("export_dir", nargs="?", help="base path whose subfolders are versions")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="0 chooses a free port (default: %(default)s)")
    parser.add_argument("--name", default="kreid", help="model name that requests must give (default: %(default)s)")
    parser.add_argument(
        "--versions", default="latest", help="latest:N, all, or numbers such as 3,5 (default: %(default)s)"
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="LABEL=VERSION",
        help="let requests name a version, such as stable=3; may be repeated",
    )
    parser.add_argument(
        "--poll-seconds",
        type=float,
        default=1.0,
        help="time between two looks for new versions; 0 never looks again (default: %(default)s)",
    )
    parser.add_argument(
        "--max-message-mib", type=int, default=64, help="largest request and answer (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=8, help="number of requests that run at once (default: %(default)s)"
    )
    parser.add_argument(
        "--max-calls",
        type=int,
        default=64,
        help="number of requests that run and wait; further ones are refused (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=1,
        help="number of waiting requests that may run as one batch, for GPUs (default: %(default)s, none)",
    )
    parser.add_argument(
        "--grace", type=float, default=5.0, help="seconds for running calls after a signal (default: %(default)s)"
    )
    parser.add_argument("--http-port", type=int, help="serve /livez, /readyz and /metrics on this port; 0: a free one")
    parser.add_argument("--tls-cert", metavar="PEM", help="certificate of the server, with the chain above it")
    parser.add_argument("--tls-key", metavar="PEM", help="its private key")
    parser.add_argument("--tls-client-ca", metavar="PEM", help="authorities; every client then needs a certificate")
    parser.add_argument("--token-file", metavar="FILE", help="bearer tokens, one per line; every call then needs one")
    parser.add_argument("--gallery", metavar="GALLERY", help="folder of a gallery to search, add to and delete from")
    parser.add_argument(
        "--gallery-create", action="store_true", help="make the gallery, for the served model, if there is none"
    )
    parser.add_argument("--gallery-read-only", action="store_true", help="refuse to add to and delete from the gallery")
    parser.add_argument(
        "--log-level",
        choices=["info", "warning", "error"],
        default="info",
        help="info logs every call, warning those with unreadable images and worse (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT, which end the process; return the exit status of a failing start."""
    from kreid.serving.server import EmbeddingServer
    from kreid.serving.telemetry import json_log

    try:
        if not 0 <= options.grace <= _MAX_GRACE_S:
            raise ValueError(f"`grace` must be from 0 to {_MAX_GRACE_S:g} seconds. Received: grace={options.grace}")
        if options.gallery_create:
            _create_gallery(options.gallery, options.export_dir, options.versions)
        server = EmbeddingServer(
            options.export_dir,
            name=options.name,
            host=options.host,
            port=options.port,
            max_message_bytes=options.max_message_mib * 1024 * 1024,
            workers=options.workers,
            max_calls=options.max_calls,
            batch=options.batch,
            versions=options.versions,
            labels=_labels(options.label),
            poll_seconds=options.poll_seconds,
            http_port=options.http_port,
            tls_cert=options.tls_cert,
            tls_key=options.tls_key,
            tls_client_ca=options.tls_client_ca,
            token_file=options.token_file,
            gallery=options.gallery,
            gallery_read_only=options.gallery_read_only,
        )
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its notices are no JSON; errors reach the log by exceptions
        _allow_many_connections()
        # Decoders write a line about every damaged image, without its name; the server logs the number instead.
        with _Events() as events, decoder_complaints_dropped(), json_log(sys.stderr, options.log_level) as flush:
            return _serve(server, options.gallery, options.grace, events, flush)
    except (ValueError, OSError, ImportError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2


def _serve(
    server: "EmbeddingServer", gallery: str | None, grace: float, events: "_Events", flush: Callable[[], None]
) -> NoReturn:
    """Start the server, wait for a signal, stop the server and end the process; raise the error of a failing start.

    From the log's first line on, the main thread only waits for events: a signal cannot get lost, and is seen while a
    model loads.
    """
    from kreid.serving.telemetry import LOG

    def start() -> None:
        if server.base_path is not None:
            import_tensorflow()
            logging.getLogger("tensorflow").setLevel(logging.ERROR)
        server.start()

    error: list[BaseException] = []
    folders = {"base_path": server.base_path, "gallery": gallery}
    fields = {name: str(folder) for name, folder in folders.items() if folder is not None}
    LOG.info("starting", extra={"fields": {"event": "start", **fields}})
    events.call(start, error)
    signalled = events.wait()
    if not signalled:
        if error:
            raise error[0]
        http = "" if server.http_port is None else f" (HTTP on {server.host}:{server.http_port})"
        # The last words are the target, which programs read.
        model = None if server.base_path is None else f"{server.name} version {server.version}"
        content = " and ".join(filter(None, (model, gallery and f"the gallery {printable(gallery)}")))
        print(f"serving {content}{http} on {server.target}", flush=True)
        events.wait()
        events.call(lambda: server.drain(grace), error)
        events.wait(grace + _LAST_S)
    # Not by returning: a request that runs longer than the grace, or a model that loads, would hold the process up. The
    # system closes the connections, and clients take that for UNAVAILABLE.
    flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


def _create_gallery(path: str | None, export_dir: str | None, policy: str) -> None:
    """Make a gallery for the highest version that will be served, if there is none."""
    from kreid.gallery import GalleryModel, LanceGallery
    from kreid.serving.export import read_card, versions
    from kreid.serving.versions import VersionPolicy

    if path is None or export_dir is None:
        raise ValueError(
            "A gallery is made for the model that is served: give an export and --gallery. Received: "
            f"export_dir={export_dir!r}, gallery={path!r}"
        )
    chosen = VersionPolicy.parse(policy).choose(versions(export_dir))
    if os.path.isdir(path) or not chosen:  # The server says what is wrong with a folder without versions.
        return
    try:
        model = GalleryModel.from_card(read_card(os.path.join(export_dir, str(chosen[-1]))), str(chosen[-1]))
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"The export's card does not describe a model ({error}); export it again with this version of kreid. "
            f"Received: export_dir={export_dir!r}"
        ) from error
    LanceGallery.create(path, model)


class _Events:
    """Signals, and the ends of background calls, in the order in which they happen.

    Python runs signal handlers in the main thread, which may sleep in a lock when another thread gets the signal. Its C
    handler writes the signal's number to a socket at once, whatever the threads do.
    """

    def __enter__(self) -> "_Events":
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._signalled = False
        self._old_handlers = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._old_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._receiver.close()
        self._sender.close()

    def call(self, work: Callable[[], None], errors: list[BaseException]) -> None:
        """Run a function in a thread; its end is event 0, its exception is appended to a list."""

        def run() -> None:
            try:
                work()
            except BaseException as error:
                errors.append(error)
            with contextlib.suppress(OSError):
                self._sender.send(b"\0")

        threading.Thread(target=run, daemon=True).start()

    def wait(self, seconds: float | None = None) -> int:
        """Return the next event: a signal's number or 0; also 0 after a time. A second signal ends the process."""
        ready, _, _ = select.select([self._receiver], [], [], seconds)
        event = self._receiver.recv(1)[0] if ready else 0
        if event and self._signalled:
            os._exit(128 + event)
        self._signalled = self._signalled or bool(event)
        return event


def _labels(texts: Sequence[str]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for text in texts:
        label, _, number = text.partition("=")
        if not label or not (number.isascii() and number.isdigit()) or len(number) > 18:
            raise ValueError(f"`label` must be LABEL=VERSION, such as stable=3. Received: label={text!r}")
        if label in labels:
            raise ValueError(f"A label may name one version. Received: label={text!r} beside {label}={labels[label]}")
        labels[label] = int(number)
    return labels


def _allow_many_connections() -> None:
    """Raise the number of files that may be open to what the system allows."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser("serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
