"""Render walkers as a data set in the layout of MARS, without an image of a real person.

Example: kreid synthetic data/synthetic --train-persons 200 --test-persons 100
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    from kreid.synthetic.tree import SyntheticConfig

    parser.add_argument("root", help="new or empty folder")
    for field in fields(SyntheticConfig):
        default: Any = field.default
        pair = isinstance(default, tuple)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=int,
            nargs=2 if pair else None,
            default=default,
            help="default: " + (" ".join(map(str, default)) if pair else str(default)),
        )
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")


def run(options: argparse.Namespace) -> int:
    """Render the data set; return the exit status: 0, or 2 for wrong usage."""
    from kreid.synthetic.tree import SyntheticConfig, render_mars

    names = ["root", "workers", *(field.name for field in fields(SyntheticConfig))]
    try:
        render_mars(**{name: getattr(options, name) for name in names}, progress=not options.quiet)
    except (ValueError, OSError) as error:
        print(f"kreid synthetic: {error}", file=sys.stderr)
        return 2
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        "python -m kreid.synthetic", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
