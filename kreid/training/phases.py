"""Which runs a command line asks for: each phase of a recipe, and each split of a data set that has splits."""

import argparse
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from kreid.training.config import Config, load_phases
from kreid.training.run_folder import RunFolder
from kreid.training.split_runs import check_splits, split_folder


class Plan(NamedTuple):
    """What a command line trains.

    Args:
        runs: a list of `RunFolder`, in order; each has its settings as `config`.
        folder: the run's folder, which holds those of phases and splits.
        splits: numbers of the splits, empty for data without.
    """

    runs: list[RunFolder]
    folder: pathlib.Path
    splits: list[int]


def plan_runs(options: argparse.Namespace) -> Plan:
    """Resolve a command line into the runs to train; those that are complete are named and skipped.

    Args:
        options: of `kreid.training.command_line`.

    Returns:
        A `Plan`.

    Raises:
        FileNotFoundError: if the data set is not there.
        ValueError: for settings, phases or a run's folder that are refused.
    """
    overlays = options.overlay
    if options.synthetic and not overlays:
        overlays = ["small"]
        print("The synthetic set is small, so the settings of --overlay small are used.")
    phases = load_phases(options.system, data=options.benchmark, overlays=overlays, settings=options.set)
    phases = phases_to_run(phases, options)
    for config in phases.values():
        if config.data not in ("images", "synthetic"):
            require_data(config, options.program)
    last = list(phases.values())[-1]
    folder = pathlib.Path(options.run or f"runs/{last.system}_{last.data}")
    splits = [] if options.synthetic else options.splits
    if not splits:
        return Plan(_incomplete(phase_folders(phases, folder)), folder, [])
    check_splits(folder, last)
    runs: dict[pathlib.Path, RunFolder] = {}
    for split in splits:
        own = {name: dataclasses.replace(config, split=split) for name, config in phases.items()}
        # Splits share their image phases.
        runs |= {run.path: run for run in phase_folders(own, split_folder(folder, split), shared=folder)}
    return Plan(_incomplete(list(runs.values())), folder, splits)


def phases_to_run(phases: Mapping[str, Config], options: argparse.Namespace) -> dict[str, Config]:
    """Choose among a recipe's phases, and set the data's folder.

    Phases on images are skipped where no folder of images is given.

    Args:
        phases: a dict from the phase's name to its `Config`, see `load_phases`.
        options: `phase`, `data` and `synthetic` of the command line.

    Returns:
        A dict like `phases`.

    Raises:
        ValueError: if `options.phase` is none of them, or it trains on images and none are named.
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


def require_data(config: Config, program: str = "kreid train") -> None:
    """Stop with one sentence if the data set is not there.

    Args:
        config: a `kreid.training.Config`.
        program: the command that the sentence proposes with a synthetic set.

    Raises:
        FileNotFoundError: naming the folder and a command that works without it.
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
            f"there; to start without it: {program} --system {config.system} --synthetic "
            f"Received: data_dir={config.data_dir!r}"
        )


def phase_folders(
    phases: Mapping[str, Config], path: str | os.PathLike[str], shared: str | os.PathLike[str] | None = None
) -> list[RunFolder]:
    """Return the run folders of phases: the last one's is `path`, the others' are inside, in `phases/NAME`.

    Args:
        phases: a dict from the phase's name to its `Config`; each but the first starts from the model before.
        path: of the run.
        shared: the folder that holds the runs of several splits. Phases on images before any other are the same for
            every split: they are trained there, once.

    Returns:
        A list of `RunFolder`.

    Raises:
        ValueError: if a folder holds another run, or something that is no run.
    """
    *earlier, last = phases
    runs: list[RunFolder] = []
    for name in (*earlier, last):
        config = phases[name]
        place = pathlib.Path(path) if name == last else RunFolder.phase_path(path, name)
        if shared and name != last and config.data == "images" and all(run.config.data == "images" for run in runs):
            place, config = RunFolder.phase_path(shared, name), dataclasses.replace(config, split=None)
        if runs:
            config = dataclasses.replace(config, init=str(runs[-1].model))
        runs.append(RunFolder(place, config))
    return runs


def _incomplete(runs: list[RunFolder]) -> list[RunFolder]:
    for run in runs:
        if run.is_complete:
            print(f"{run.path} is complete; its results are in {run.results}. Choose another --run to train again.")
    return [run for run in runs if not run.is_complete]
