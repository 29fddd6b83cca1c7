"""Train a system on each of PRID2011's ten splits, evaluate and export each, and average them.

    python recipes/train_prid2011.py --system mg_rafa --data DIR
    python recipes/train_prid2011.py --system tacan --data DIR --splits 1,2,3
    python recipes/train_prid2011.py --system sta --synthetic

Each split has its own folder inside the run's folder; the mean over the complete splits is in splits.json. The same
command continues an interrupted run. A synthetic set has no splits and is run once.
The default, persons=178, uses the persons with 27 frames or more in both cameras; persons=200, TACAN's, uses all.
`recipes/train_mars.py` shows the experiment step by step.
"""

import sys
from collections.abc import Sequence

from kreid.training import command


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line and run the experiment."""
    return command.main(argv, __doc__, "prid2011")


if __name__ == "__main__":
    sys.exit(main())
