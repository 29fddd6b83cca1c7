"""A recipe's phases, each of which starts from the one before."""

import dataclasses

from kreid.training.command import use_synthetic
from kreid.training.run_folder import RunFolder


def phases_to_run(phases, options):
    """Chooses among a recipe's phases, and points them at the data.

    Phases on images are left out where no folder of images is given.

    Args:
        phases: a dict from the phase's name to its `Config`, see `load_phases`.
        options: `phase`, `data` and `synthetic` of the command line.

    Returns:
        A dict like `phases`.

    Raises:
        ValueError: if `options.phase` is none of them, or nothing is left to run.
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
                print(f"Phase {name} is left out: there are no image_dirs to train on.")
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


def phase_folders(phases, path, shared=None):
    """The run folders of phases: the last one's is `path`, the others' are inside, in `phases/NAME`.

    Args:
        phases: a dict from the phase's name to its `Config`; each but the first starts from the model before.
        path: of the run.
        shared: where the runs of several splits lie side by side, the folder around them. Phases on images before any
            other are the same for every split: they are trained there, once.

    Returns:
        A list of `RunFolder`.

    Raises:
        ValueError: if a folder holds another run, or something that is no run.
    """
    *earlier, last = phases
    runs = []
    for name in (*earlier, last):
        config = phases[name]
        place = path if name == last else RunFolder.phase_path(path, name)
        if shared and name != last and config.data == "images" and all(run.config.data == "images" for run in runs):
            place, config = RunFolder.phase_path(shared, name), dataclasses.replace(config, split=None)
        start = {"init": str(runs[-1].model)} if runs else {}
        runs.append(RunFolder(place, dataclasses.replace(config, **start)))
    return runs
