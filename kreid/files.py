"""Old name of `kreid._files`, which is private."""

import warnings

from kreid._files import write_atomically

__all__ = ["write_atomically"]

warnings.warn("`kreid.files` is private now: its old name will go.", DeprecationWarning, stacklevel=2)
