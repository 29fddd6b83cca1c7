"""Train a system on a data set, evaluate it and export it.

    kreid train --system sta --data data/mars
    kreid train --system sta --synthetic
    kreid train --system sta --data data/mars --dry-run
    kreid train --system tacan --data data/prid2011 --splits 1,2,3
    kreid train --system mine.yaml --import my_module --data data/mars

--data takes a folder in any layout that kreid reads; the settings of the data set are those of its file, such as
recipes/data/mars.yaml. The same command continues an interrupted run; with a larger --set epochs, a finished one.
Ctrl-C and SIGTERM stop after the training step, with a checkpoint; a second one stops at once.

Exit status: 0 trained, 2 wrong usage or data, 130 interrupted, 143 stopped by SIGTERM.
"""

import argparse
import contextlib
import pathlib
import sys
import traceback
from collections.abc import Iterator, Sequence

from kreid._quiet import import_tensorflow, on_a_terminal
from kreid.training.config import CHOICES
from kreid.training.stop_signals import Stopped


def add_arguments(parser: argparse.ArgumentParser, benchmark: str | None = None) -> None:
    """Add the arguments of `kreid train`, or of the script of one data set.

    Args:
        parser: to add to.
        benchmark: a name of `kreid.data.readers.LAYOUTS`; `None` adds an argument to choose it.
    """
    from kreid.data.readers import LAYOUTS

    names = [name for name in LAYOUTS if name != "images"]
    splits = LAYOUTS[benchmark].splits if benchmark else max(LAYOUTS[name].splits for name in names)
    parser.add_argument("--system", default="sta", help="a file in recipes/systems, or a path (default: %(default)s)")
    if benchmark is None:
        parser.add_argument(
            "--benchmark",
            choices=names,
            metavar="NAME",
            help=f"the data set: {', '.join(names)} (default: the layout of --data, or mars)",
        )
    else:
        parser.set_defaults(benchmark=benchmark)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", metavar="DIR", help=f"the data set's folder (default: data/{benchmark or 'mars'})")
    source.add_argument(
        "--synthetic",
        action="store_true",
        help="render a synthetic set into data/synthetic and use it, with --overlay small if none is given",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        metavar="FILE",
        help="further settings: a name, such as small, or a path",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, which wins over all files"
    )
    parser.add_argument(
        "--strategy",
        choices=CHOICES["strategy"],
        help="the devices of a training step: mirrored is TensorFlow's, data_parallel JAX's; as --set strategy=...",
    )
    parser.add_argument("--phase", metavar="NAME", help="train only this phase, starting from the setting `init`")
    parser.add_argument("--run", metavar="DIR", help="the run's folder (default: runs/SYSTEM_DATA)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train a few steps of each phase, print steps, hours, memory and size of a checkpoint, and keep nothing",
    )
    parser.add_argument("--quiet", action="store_true", help="one line per epoch instead of a progress bar")
    parser.set_defaults(program=parser.prog, splits=[])
    if splits:
        parser.add_argument(
            "--splits",
            type=lambda text: _split_numbers(text, splits),
            default=list(range(1, splits + 1)),
            metavar="1,2,...",
            help="the splits to run, for a data set with splits (default: all); the mean is over all complete splits",
        )


def command_line(argv: Sequence[str] | None, description: str | None, benchmark: str) -> argparse.Namespace:
    """Parse the arguments of a data set's script.

    Args:
        argv: arguments, `None` for the program's.
        description: the script's docstring.
        benchmark: a name of `kreid.data.readers.LAYOUTS`.

    Returns:
        A namespace of `system`, `benchmark`, `data`, `synthetic`, `overlay`, `set`, `phase`, `run`, `dry_run`,
        `quiet`, `strategy`, `splits` (numbers from 1, empty for data sets without splits) and `program`, the command
        for messages.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, benchmark)
    parser.set_defaults(program=f"{pathlib.Path(sys.executable).name} {sys.argv[0]}")
    return parser.parse_args(argv)


def run(options: argparse.Namespace) -> int:
    """Train the runs that the command line names; return the exit status."""
    with plain_errors():
        from kreid.data.readers import LAYOUTS, layout_of
        from kreid.training.experiment import train

        if options.benchmark is None:
            options.benchmark = layout_of(options.data) if options.data else "mars"
        if not LAYOUTS[options.benchmark].splits:
            options.splits = []
        if options.benchmark == "images":
            raise ValueError(
                "Single images train the image phases of a system; name their folders with --set 'image_dirs=[DIR]', "
                f"and the folder of the tracklets with --data. Received: data={options.data!r}"
            )
        train(options)
    return 0


def main(argv: Sequence[str] | None, description: str | None, benchmark: str) -> int:
    """Run the script of one data set; return the exit status. The arguments are those of `command_line`."""
    return run(command_line(argv, description, benchmark))


def fit_verbosity(quiet: bool = False) -> int:
    """Return `verbose` of Keras: 1, a progress bar, on a terminal; 2, a line per epoch, elsewhere or if `quiet`."""
    return 1 if on_a_terminal(sys.stdout) and not quiet else 2


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Print kreid's own errors as one sentence, with exit status 2, and an interruption with 130 (SIGTERM: 143).

    Errors of other packages keep their traceback.
    """
    package = str(pathlib.Path(__file__).resolve().parents[1])
    try:
        import_tensorflow()
        yield
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        if not frames[-1].filename.startswith(package):
            raise
        sys.exit(_print_error(f"error: {error}", 2))
    except Stopped as stopped:
        sys.exit(_print_error(str(stopped), stopped.status))
    except KeyboardInterrupt:
        sys.exit(_print_error("interrupted; the same command continues after the last whole epoch or part", 130))


def _split_numbers(text: str, count: int) -> list[int]:
    numbers = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if not all(1 <= number <= count for number in numbers):
        raise argparse.ArgumentTypeError(f"give numbers from 1 to {count}, as in 1,2,3; received {text!r}")
    return sorted(set(numbers))


def _print_error(text: str, status: int) -> int:
    sys.stderr.write(f"{text}\n")
    return status
