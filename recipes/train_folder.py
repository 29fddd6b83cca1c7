"""Train a system on your own tracklets, evaluate it and export it.

    python recipes/train_folder.py --system sta --data DIR
    python recipes/train_folder.py --system sta --synthetic

DIR holds `train/` and, to evaluate, `query/` and `gallery/`; each holds <person>/<camera>/<frame>, with one more folder
if a camera has several tracklets of a person. The same command continues an interrupted run. `recipes/train_mars.py`
shows the experiment step by step.
"""

import sys
from collections.abc import Sequence

from kreid.training import command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the experiment."""
    return command.main(argv, __doc__, "folder")


if __name__ == "__main__":
    sys.exit(main())
