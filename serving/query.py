"""Find a tracklet's person in a gallery through a running server; see `python serving/query.py --help`."""

import sys

from kreid.serving.query import main

if __name__ == "__main__":
    sys.exit(main())
