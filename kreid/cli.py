"""Video person re-identification: train, evaluate, export and serve the papers' systems.

    kreid train --system sta --synthetic
    kreid evaluate runs/sta_synthetic
    kreid serve runs/sta_synthetic/export

`kreid COMMAND --help` shows a command's arguments and examples. Exit status: 0 success, 1 damaged data or a server's
error, 2 wrong usage or input, 130 interrupted.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import kreid


class Command(NamedTuple):
    """A command of `kreid`.

    Args:
        module: name of a module with `add_arguments(parser)` and `run(options)`, whose docstring is the help text. It
            is imported only for its own command, so that `kreid --help` is fast.
        summary: text for the list of commands.
        models: whether the command builds or loads models, which may be registered by your own module.
    """

    module: str
    summary: str
    models: bool = False


COMMANDS = {
    "train": Command("kreid.training.command", "train a system, evaluate it and export it", models=True),
    "selfcheck": Command("kreid.training.selfcheck", "check that this machine can train"),
    "evaluate": Command("kreid.report.__main__", "evaluate a run's model again and write a report", models=True),
    "ablate": Command("kreid.training.ablation", "train and compare the rows of a table", models=True),
    "export": Command("kreid.training.export_run", "write a model to serve, or for another runtime", models=True),
    "convert": Command("kreid.training.convert", "convert another project's checkpoint into starting weights"),
    "serve": Command("kreid.serving.__main__", "serve an export over gRPC"),
    "query": Command("kreid.serving.query", "search a gallery for a tracklet's person, through a server"),
    "gallery": Command("kreid.serving.gallery_command", "keep embeddings, search them and delete them"),
    "audit": Command("kreid.report.audit", "score anybody's embeddings under every protocol and find faults"),
    "check": Command("kreid.report.check", "check a data set for damaged files and switches", models=True),
    "tracks": Command("kreid.tracks.__main__", "cut tracklets out of a video", models=True),
    "identify": Command("kreid.identities.__main__", "find the same persons across cameras", models=True),
    "synthetic": Command("kreid.synthetic.__main__", "render a synthetic data set"),
    "cost": Command("kreid.training.variants", "count the multiplications of each variant", models=True),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments, `None` for the program's.

    Returns:
        The exit status.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = next((argument for argument in argv if not argument.startswith("-")), None)
    parser = _parser(name)
    if name is not None and name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        parser.error(f"the commands are {', '.join(COMMANDS)}.{hint} Received: command={name!r}")
    options = parser.parse_args(argv)
    if name is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        for module in getattr(options, "imports", []):
            _import_user_module(module)
        return int(options.command_run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """Make the parser; only the chosen command has its arguments."""
    parser = argparse.ArgumentParser(
        "kreid", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="kreid COMMAND ..."
    )
    parser.add_argument("--version", action="version", version=f"kreid {kreid.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", prog="kreid")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name, help=command.summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(command.module)
            subparser.description = module.__doc__
            module.add_arguments(subparser)
            if command.models:
                subparser.add_argument(
                    "--import",
                    action="append",
                    default=[],
                    dest="imports",
                    metavar="MODULE",
                    help="import this module first; it registers your own system (kreid.models.register_system)",
                )
            subparser.set_defaults(command_run=module.run)
    return parser


def _import_user_module(name: str) -> None:
    """Import a user's module, from the path or the current folder."""
    from kreid._quiet import import_tensorflow

    import_tensorflow()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.split(".")[0] and error.name != name:
            raise
        print(
            f"error: There is no module of this name; name it without .py, in this folder or on PYTHONPATH. "
            f"Received: import={name!r}",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
