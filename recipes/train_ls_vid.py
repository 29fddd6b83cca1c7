"""Train a system on LS-VID, evaluate it and export it.

    python recipes/train_ls_vid.py --system gltr --data DIR
    python recipes/train_ls_vid.py --system gltr --synthetic

Where the folder has LS-VID's validation set, choices are made on it, and all train persons are trained on. The same
command continues an interrupted run. `recipes/train_mars.py` shows the experiment step by step.
"""

import sys
from collections.abc import Sequence

from kreid.training import command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the experiment."""
    return command.main(argv, __doc__, "ls_vid")


if __name__ == "__main__":
    sys.exit(main())
