"""Serve an export over gRPC until SIGTERM or SIGINT.

    kreid serve runs/sta_mars/export --port 8500

The highest version in the folder is served. The line "serving kreid version 1 on 127.0.0.1:8500" means that the server
is ready. There is no authentication: addresses other than loopback need a proxy.

Exit status: 0 after a signal, 2 if the server cannot start.
"""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence

from kreid._quiet import decoder_complaints_dropped, import_tensorflow


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("export_dir", help="base path whose subfolders are versions; the highest is served")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8500, help="0 chooses a free port (default: %(default)s)")
    parser.add_argument("--name", default="kreid", help="model name that requests must give (default: %(default)s)")
    parser.add_argument(
        "--max-message-mib", type=int, default=64, help="largest request and answer (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=8, help="number of requests that run at once (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    from kreid.serving.server import EmbeddingServer

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = EmbeddingServer(
            options.export_dir,
            name=options.name,
            host=options.host,
            port=options.port,
            max_message_bytes=options.max_message_mib * 1024 * 1024,
            workers=options.workers,
        )
        import_tensorflow()
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        # Decoders write a line about every damaged image, without its name; the server logs the number instead.
        with decoder_complaints_dropped(), server:
            print(f"serving {server.name} version {server.version} on {server.target}", flush=True)
            stop.wait()
    except (ValueError, OSError, ImportError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser("serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
