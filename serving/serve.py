"""Serve an export over gRPC; see `python serving/serve.py --help`."""

import sys

from kreid.serving.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
