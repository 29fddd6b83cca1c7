"""Plan the runs of a command line: each phase of a recipe, for each split of a data set."""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from kreid.training.config import Config
from kreid.training.run_folder import RunFolder
from kreid.training.settings import load_phases
from kreid.training.split_runs import check_splits, split_folder


class Plan(NamedTuple):
    """The runs that a command line trains.

    Args:
        runs: a list of `RunFolder`, in order; each has its settings as `config`.
        folder: the run's folder, with the folders of phases and splits inside.
        splits: numbers of the splits, empty for a data set without splits.
    """

    runs: list[RunFolder]
    folder: pathlib.Path
    splits: list[int]


def plan_runs(options: argparse.Namespace) -> Plan:
    """Resolve a command line into the runs to train; complete runs are reported and skipped.

    Args:
        options: result of `kreid.training.command_line`.

    Returns:
        A `Plan`.

    Raises:
        FileNotFoundError: if the data set does not exist.
        ValueError: if the settings, the phase or the run's folder are refused.
    """
    overlays = options.overlay
    if options.synthetic and not overlays:
        overlays = ["small"]
        print("The synthetic set is small, so the settings of --overlay small are used.")
    settings = [*options.set, *([f"strategy={options.strategy}"] if options.strategy else [])]
    phases = load_phases(options.system, data=options.benchmark, overlays=overlays, settings=settings)
    phases = phases_to_run(phases, options)
    for config in phases.values():
        if config.data not in ("images", "synthetic"):
            require_data(config, f"{options.program} --system {options.system}")
    last = list(phases.values())[-1]
    folder = pathlib.Path(options.run or f"runs/{pathlib.Path(options.system).stem}_{last.data}")
    splits = [] if options.synthetic else options.splits
    if not splits:
        return Plan(_incomplete(phase_folders(phases, folder)), folder, [])
    check_splits(folder, last, splits)
    runs: dict[pathlib.Path, RunFolder] = {}
    for split in splits:
        split_phases = {name: dataclasses.replace(config, split=split) for name, config in phases.items()}
        # Splits share their image phases.
        runs |= {run.path: run for run in phase_folders(split_phases, split_folder(folder, split), shared=folder)}
    return Plan(_incomplete(list(runs.values())), folder, splits)


def phases_to_run(phases: Mapping[str, Config], options: argparse.Namespace) -> dict[str, Config]:
    """Choose among a recipe's phases, and set the folder of the data.

    Phases on images are skipped if no folder of images is given.

    Args:
        phases: a dict from the phase's name to its `Config`, see `load_phases`.
        options: `phase`, `data` and `synthetic` of the command line.

    Returns:
        A dict like `phases`.

    Raises:
        ValueError: if `options.phase` is unknown, or trains on images and no folder of images is given.
    """
    if options.phase is not None and options.phase not in phases:
        raise ValueError(f"This recipe's phases are {', '.join(phases)}. Received: phase={options.phase!r}")
    chosen = {}
    for name, config in phases.items():
        if options.phase not in (None, name):
            continue
        if config.data == "images":
            if config.image_dirs:
                chosen[name] = config
            elif options.phase is None:
                print(f"Phase {name} is skipped: there are no image_dirs to train on.")
            else:
                raise ValueError(
                    f"Phase {name} trains on folders of images; name them, as in --set 'image_dirs=[DIR]'. "
                    f"Received: image_dirs={config.image_dirs!r}"
                )
        elif options.synthetic:
            chosen[name] = use_synthetic(config)
        else:
            chosen[name] = dataclasses.replace(config, data_dir=options.data) if options.data else config
    return chosen


def use_synthetic(config: Config, root: str | os.PathLike[str] = "data/synthetic") -> Config:
    """Render the default synthetic set unless it is there already, and make it the data of a `Config`.

    Args:
        config: a `kreid.training.Config`.
        root: folder to render into.

    Returns:
        The `Config` with another `data` and `data_dir`.
    """
    from kreid.synthetic import render_mars

    root = render_mars(root, workers=os.cpu_count() or 1)
    return dataclasses.replace(config, data="synthetic", data_dir=str(root))


def require_data(config: Config, command: str | None = None) -> None:
    """Raise if the data set does not exist.

    Args:
        config: a `kreid.training.Config`.
        command: the command that the error proposes with `--synthetic`; by default `kreid train` with the system.

    Raises:
        FileNotFoundError: if the folder does not hold the data set.
    """
    from kreid.data.readers import LAYOUTS, layout_of

    try:
        layout = layout_of(config.data_dir)
    except FileNotFoundError:
        layout = None
    if layout != config.data:
        expected = LAYOUTS[config.data]
        raise FileNotFoundError(
            f"{expected.title} ({expected.holds}) is expected in {config.data_dir} (or in --data DIR) and is not "
            f"there; to start without it: {command or f'kreid train --system {config.system}'} --synthetic "
            f"Received: data_dir={config.data_dir!r}"
        )


def phase_folders(
    phases: Mapping[str, Config], path: str | os.PathLike[str], shared: str | os.PathLike[str] | None = None
) -> list[RunFolder]:
    """Return the run folders of phases: `path` for the last phase, `phases/NAME` inside it for the others.

    Args:
        phases: a dict from the phase's name to its `Config`; each phase but the first starts from the previous model.
        path: of the run.
        shared: folder of the runs of several splits, or `None`. Leading phases on images are the same for every split,
            so they are trained once, in this folder.

    Returns:
        A list of `RunFolder`.

    Raises:
        ValueError: if a folder holds another run, or other files; or if a phase would be trained further though the
            next one has started from it.
    """
    *earlier, last = phases
    runs: list[RunFolder] = []
    for name in (*earlier, last):
        config = phases[name]
        folder = pathlib.Path(path) if name == last else RunFolder.phase_path(path, name)
        if shared and name != last and config.data == "images" and all(run.config.data == "images" for run in runs):
            folder, config = RunFolder.phase_path(shared, name), dataclasses.replace(config, split=None)
        if runs:
            config = dataclasses.replace(config, init=str(runs[-1].model))
        runs.append(RunFolder(folder, config))
    for name, run, following in zip(earlier, runs, runs[1:], strict=False):
        if run.is_trained_further and following.is_run:
            raise ValueError(
                f"Phase {name} is complete and the next phase has started from it; leave its epochs, and set those of "
                f"the last phase, as in --set {last}.epochs={run.config.epochs}. Received: epochs={run.config.epochs!r}"
            )
    return runs


def _incomplete(runs: list[RunFolder]) -> list[RunFolder]:
    for run in runs:
        if run.is_complete:
            print(
                f"{run.path} is complete; its results are in {run.results}. Choose another --run to train again, or "
                f"more epochs to train it further."
            )
    return [run for run in runs if not run.is_complete]
