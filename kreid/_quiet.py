"""TensorFlow without its notices for developers, for programs that talk to people."""

import contextlib
import os
import sys


def import_tensorflow():
    """Imports TensorFlow with the standard error stream held back meanwhile.

    TensorFlow writes notices for its developers before its own log level counts. An import that fails still raises.
    Libraries do not call this; the recipes and the server do, first of all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _stream_held_back():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def native_errors_held_back():
    """What is not Python and writes to the standard error stream of the process is not heard; Python's stream is.

    For work in which native libraries complain of every bad file on the way to a report that names them all. Not for
    imports: a log that is set up meanwhile would keep the stream, which is closed in the end.
    """
    stream = sys.stderr
    with _stream_held_back() as kept, contextlib.ExitStack() as stack:
        if stream is sys.__stderr__:
            own = stack.enter_context(
                os.fdopen(os.dup(kept), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            )
            stack.enter_context(contextlib.redirect_stderr(own))
        yield


@contextlib.contextmanager
def _stream_held_back():
    """Gives the descriptor behind which the stream still is."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield kept
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
