"""The command line that recipes share."""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import sys
import traceback

from kreid._quiet import import_tensorflow


def command_line(argv, description, system, data_dir, num_splits=0):
    """Parses a recipe's arguments.

    Args:
        argv: arguments, `None` for the program's own.
        description: the recipe's docstring.
        system: name of the default system.
        data_dir: where the data is looked for by default, for the help text.
        num_splits: splits that the data set has, for recipes that run several.

    Returns:
        A namespace of `system`, `data`, `synthetic`, `overlay`, `set`, `phase`, `run`, `quiet`, and with `num_splits`
        also `splits`, a list of numbers from 1.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", default=system, help="a file in recipes/systems (default: %(default)s)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help=f"the data set's folder (default: {data_dir})")
    source.add_argument("--synthetic", action="store_true", help="render a synthetic set in data/synthetic, use that")
    parser.add_argument("--overlay", action="append", default=[], metavar="FILE", help="further settings (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, over all files")
    parser.add_argument("--phase", metavar="NAME", help="run this phase alone, from the setting `init`")
    parser.add_argument("--run", metavar="DIR", help="the run's folder (default: runs/SYSTEM_DATA)")
    parser.add_argument("--quiet", action="store_true", help="one line per epoch instead of a progress bar")
    if num_splits:
        parser.add_argument(
            "--splits",
            type=lambda text: _split_numbers(text, num_splits),
            default=list(range(1, num_splits + 1)),
            metavar="1,2,...",
            help="run these splits (default: all); the mean is over all that are complete",
        )
    return parser.parse_args(argv)


def use_synthetic(config, root="data/synthetic"):
    """Renders the default synthetic set, or finds it rendered, and points a `Config` at it.

    Args:
        config: a `kreid.training.Config`.
        root: folder to render into.

    Returns:
        The `Config` with another `data` and `data_dir`.
    """
    from kreid.synthetic import render_mars

    root = render_mars(root, workers=os.cpu_count() or 1)
    return dataclasses.replace(config, data="synthetic", data_dir=str(root))


def _split_numbers(text, count):
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= number <= count for number in numbers):
        raise argparse.ArgumentTypeError(f"give numbers from 1 to {count}, as in 1,2,3; received {text!r}")
    return sorted(set(numbers))


def require_data(config, layout, expected, recipes):
    """Stops with one sentence if the data set is not there.

    Args:
        config: a `kreid.training.Config`.
        layout: what the folder must hold, as `kreid.data.readers.layout_of` names it.
        expected: what is expected, for the sentence.
        recipes: the folder of the recipes, for the command.

    Raises:
        FileNotFoundError: naming the folder and a command that works without it.
    """
    from kreid.data.readers import layout_of

    try:
        found = layout_of(config.data_dir)
    except FileNotFoundError:
        found = None
    if found != layout:
        overlay = os.path.relpath(pathlib.Path(recipes) / "overlays" / "small.yaml")
        raise FileNotFoundError(
            f"{expected} is expected in {config.data_dir} (or in --data DIR) and is not there; to start without it: "
            f"{pathlib.Path(sys.executable).name} {sys.argv[0]} --system {config.system} --overlay {overlay} "
            f"--synthetic Received: data_dir={config.data_dir!r}"
        )


@contextlib.contextmanager
def plain_errors():
    """Turns kreid's own refusals into one sentence and exit status 2, and an interruption into 130.

    Errors from anywhere else keep their traceback.
    """
    package = str(pathlib.Path(__file__).resolve().parents[1])
    try:
        import_tensorflow()
        yield
    except (ValueError, OSError, RuntimeError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not frames[-1].filename.startswith(package):
            raise
        sys.exit(_print_error(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_print_error("interrupted; the same command continues after the last whole epoch or part", 130))


def _print_error(text, status):
    sys.stderr.write(f"{text}\n")
    return status
