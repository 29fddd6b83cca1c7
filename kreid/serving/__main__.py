"""`python -m kreid.serving EXPORT_DIR`: serve an export over gRPC."""

import argparse
import logging
import signal
import sys
import threading

from kreid._quiet import import_tensorflow


def main(argv=None) -> int:
    """Serves until SIGTERM or SIGINT.

    Args:
        argv: command line without the program, `sys.argv[1:]` when `None`.

    Returns:
        Exit status: 0 after a signal, 2 if it cannot start.
    """
    parser = argparse.ArgumentParser(prog="serve.py", description="Serve a kreid export over gRPC.")
    parser.add_argument("export_dir", help="base path whose sub-folders are versions; the highest is served")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (no authentication!)")
    parser.add_argument("--port", type=int, default=8500, help="0 chooses a free one")
    parser.add_argument("--name", default="kreid", help="model name that requests give")
    parser.add_argument("--max-message-mib", type=int, default=64, help="largest request and answer")
    parser.add_argument("--workers", type=int, default=8, help="requests that run at once")
    options = parser.parse_args(argv)

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    import_tensorflow()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)

    from kreid.serving.server import EmbeddingServer

    try:
        server = EmbeddingServer(
            options.export_dir,
            name=options.name,
            host=options.host,
            port=options.port,
            max_message_bytes=options.max_message_mib * 1024 * 1024,
            workers=options.workers,
        ).start()
    except (ValueError, OSError, ImportError) as error:
        print(f"serve.py: {error}", file=sys.stderr)
        return 2
    print(f"serving {server.name} version {server.version} on {server.target}", flush=True)
    stop.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
