"""`python -m kreid`: the same as the command `kreid`."""

import sys

from kreid.cli import main

if __name__ == "__main__":
    sys.exit(main())
