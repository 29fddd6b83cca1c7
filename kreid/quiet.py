"""TensorFlow without its notices for developers, for programs that talk to people."""

import contextlib
import os
import sys


def import_tensorflow():
    """Imports TensorFlow without what it writes meanwhile.

    TensorFlow writes notices for its developers before its own log level counts. An import that fails still raises.
    Libraries do not call this; the recipes and the server do, first of all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with native_errors_held_back():
        import tensorflow  # noqa: F401


@contextlib.contextmanager
def native_errors_held_back():
    """What is not Python and writes to the standard error stream of the process is not heard; Python's stream is.

    For work in which native libraries complain of every bad file on the way to a report that names them all.
    """
    kept, nowhere, stream = os.dup(2), os.open(os.devnull, os.O_WRONLY), sys.stderr
    stream.flush()
    os.dup2(nowhere, 2)
    try:
        if stream is sys.__stderr__:
            sys.stderr = os.fdopen(os.dup(kept), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
        yield
    finally:
        if sys.stderr is not stream:
            sys.stderr.close()
            sys.stderr = stream
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
