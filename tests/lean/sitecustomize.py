"""In processes that tests start: without the packages that Keras and TensorFlow import only where they are installed.

They take half of the start, and most users of kreid have none of them.
"""

import os
import sys
from importlib.machinery import PathFinder

ABSENT = {"matplotlib", "pandas", "sklearn", "jax"} - {os.environ.get("KERAS_BACKEND")}


class LeanFinder(PathFinder):
    """Finds no such package, as if it were not installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname in ABSENT else super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = LeanFinder
