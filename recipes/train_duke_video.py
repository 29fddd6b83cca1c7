"""Train a system on DukeMTMC-VideoReID, evaluate it and export it.

    python recipes/train_duke_video.py --system sta --data DIR
    python recipes/train_duke_video.py --system sta --synthetic

DukeMTMC was withdrawn by its authors and must not be used in new work; this script is for holders of a copy with the
right to use it. The same command continues an interrupted run. `recipes/train_mars.py` shows the experiment step by
step.
"""

import sys
from collections.abc import Sequence

from kreid.training import command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the experiment."""
    return command.main(argv, __doc__, "duke_video")


if __name__ == "__main__":
    sys.exit(main())
