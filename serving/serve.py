"""Serves an export over gRPC: python serving/serve.py EXPORT_DIR [--host 127.0.0.1 --port 8500 --name kreid]."""

import sys

from kreid.serving.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
