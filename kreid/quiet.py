"""TensorFlow without its start-up notices, for programs that talk to people."""

import os


def import_tensorflow():
    """Imports TensorFlow with the standard error stream held back meanwhile.

    TensorFlow writes notices for its developers before its own log level counts. An import that fails still raises.
    Libraries do not call this; the recipes and the server do, first of all.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
