"""`python -m kreid.synthetic ROOT [--train-persons 200 ...]`."""

import argparse
from dataclasses import fields

from kreid.synthetic import SyntheticConfig, render_mars


def main(arguments=None):
    """Parses the command line and renders."""
    parser = argparse.ArgumentParser("python -m kreid.synthetic", description="Renders walkers as a MARS tree.")
    parser.add_argument("root", help="folder to make")
    for field in fields(SyntheticConfig):
        pair = isinstance(field.default, tuple)
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=int,
            nargs=2 if pair else None,
            default=field.default,
            help="default: " + (" ".join(map(str, field.default)) if pair else str(field.default)),
        )
    parser.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    parser.add_argument("--quiet", action="store_true", help="show no progress bar")
    settings = vars(parser.parse_args(arguments))
    quiet = settings.pop("quiet")
    try:
        render_mars(**settings, progress=not quiet)
    except (ValueError, FileExistsError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
