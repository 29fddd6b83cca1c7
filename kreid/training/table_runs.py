"""The runs of a table: image models that rows share, and the rows."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kreid.data.readers import LAYOUTS, layout_of
from kreid.runs import RunFiles
from kreid.training.config import Config, changed_settings, settings_digest
from kreid.training.phases import require_data, use_synthetic
from kreid.training.run_folder import RunFolder
from kreid.training.settings import load_phases
from kreid.training.table import Row, Table, row_folder


class TableRun(NamedTuple):
    """A run of a table.

    Args:
        folder: a `RunFolder` with the settings.
        rows: names of the rows that it is, none for a model that rows start from.
        seed: of the run.
    """

    folder: RunFolder
    rows: tuple[str, ...]
    seed: int


def plan_table(
    table: Table,
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    synthetic: bool = False,
    settings: Sequence[str] = (),
    image_models: str | os.PathLike[str] | None = None,
) -> list[TableRun]:
    """List the runs of a table, complete ones too, each after the runs that it starts from.

    A row starts from the image model of its seed, its backbone and its `image_phase`; at the size of the paper these
    are the earlier phases of its recipe, of which phases on images need `image_dirs`.

    Args:
        table: a `Table`.
        path: folder of the table's runs.
        data: folder of the data set, in any layout that kreid reads; `None` for the recipe's.
        synthetic: render and use the synthetic set.
        settings: `"key=value"` texts for all runs, which win over all files.
        image_models: folder of the image models, which tables may share: each model that is not the one of another
            table that has its run there is named by its settings, as that of a row's own `image_phase` always is.
            `None` for `path`.

    Returns:
        A list of `TableRun`.

    Raises:
        FileNotFoundError: if the data set does not exist.
        ValueError: if the data set has splits, settings are refused, a folder holds another run, or an image model
            would be trained further though rows have started from it.
    """
    if data:
        table = dataclasses.replace(table, data=layout_of(data))
    if LAYOUTS[table.data].splits:
        raise ValueError(
            f"A table has no mean over splits, which this data set is scored by; train its rows by `kreid train`. "
            f"Received: data={table.data!r}"
        )
    runs: dict[pathlib.Path, TableRun] = {}
    for seed in table.seeds:
        for row in table.rows.values():
            stages = row_stages(table, row, seed, settings)
            start: pathlib.Path | None = None
            for number, (name, config) in enumerate(stages):
                config = _with_data(config, data, synthetic)
                is_row = number == len(stages) - 1 and row.phase is None
                if is_row:
                    folder = row_folder(pathlib.Path(path), seed, row.run)
                else:
                    folder = _image_folder(pathlib.Path(image_models or path), seed, name, row)
                if start is not None:
                    config = dataclasses.replace(config, init=str(start))
                if not is_row and (row.image_phase or (image_models and not _holds(folder, config))):
                    folder = folder.with_name(f"{folder.name}_{settings_digest(config)}")
                if folder in runs and runs[folder].folder.config != config:
                    raise ValueError(
                        f"Two rows share the run {str(folder)!r} and have other settings for it; give the rows other "
                        f"names, or other backbones. Received: row={row.name!r}"
                    )
                if folder not in runs:
                    runs[folder] = TableRun(RunFolder(folder, config), (), seed)
                if number == len(stages) - 1:
                    runs[folder] = runs[folder]._replace(rows=(*runs[folder].rows, row.name))
                start = runs[folder].folder.model
    _check_starts(list(runs.values()))
    return list(runs.values())


def row_stages(table: Table, row: Row, seed: int = 0, settings: Sequence[str] = ()) -> list[tuple[str, Config]]:
    """Return names and settings of the trainings that lead to a row, the row's own last.

    Args:
        table: a `Table`.
        row: one of its rows.
        seed: of the runs.
        settings: see `plan_table`.

    Raises:
        ValueError: if settings are refused, or the recipe has no such phase.
    """

    def phases_of(system: str, *values: Mapping[str, Any]) -> dict[str, Config]:
        """Resolve a recipe with settings for its last phase, and none of its own for the others."""
        *earlier, last = _phase_names(system)
        merged = {key: value for part in values for key, value in part.items()}
        texts = [f"{key}={json.dumps(value)}" for key, value in {**merged, "seed": seed}.items()]
        texts += [text for text in settings if "." not in text.partition("=")[0]]
        if earlier:
            texts = [f"{last}.{text}" for text in texts]
        return load_phases(system, data=table.data, overlays=table.overlays, settings=[*texts, *settings])

    own = phases_of(row.system, row.settings)
    *earlier, last = own
    if table.image_phase is not None:
        system = table.image_phase["system"]
        settings_of_images = (table.shared, table.image_phase.get("settings", {}), row.image_phase, row.backbone)
        image = phases_of(system, *settings_of_images)
        return [("image_phase", list(image.values())[-1]), (last, own[last])]
    if row.phase is not None:
        if row.phase not in own:
            raise ValueError(f"This recipe's phases are {', '.join(own)}. Received: phase={row.phase!r}")
        earlier, last = earlier[: earlier.index(row.phase)], row.phase
    if not earlier and row.phase is None:
        return [(last, own[last])]
    values = {**table.shared, **row.backbone, "seed": seed}
    texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    if len(own) > 1:  # A phase's own settings win over a text that names none.
        texts += [f"{name}.{text}" for name in own for text in settings if "." not in text.partition("=")[0]]
    shared = load_phases(row.system, data=table.data, overlays=table.overlays, settings=[*texts, *settings])
    if row.phase is not None:
        _check_phase(row, shared[last])
    stages = [(name, shared[name]) for name in earlier if shared[name].data != "images" or shared[name].image_dirs]
    return [*stages, (last, shared[last] if row.phase is not None else own[last])]


def _check_phase(row: Row, config: Config) -> None:
    """Raise if a row that is a phase of its recipe, which other rows start from, has settings of its own."""
    values = {**dataclasses.asdict(config), **config.model}
    for key, value in row.settings.items():
        if values.get(key) != value:
            raise ValueError(
                f"The row {row.name!r} is the recipe's phase {row.phase}, which other rows start from, so it has no "
                f"settings besides the phase's; leave {key} out, or set it in the table's `shared`. "
                f"Received: {key}={value!r}, where the phase has {values.get(key)!r}"
            )


@functools.cache
def _phase_names(system: str) -> tuple[str, ...]:
    return tuple(load_phases(system))


def _with_data(config: Config, data: str | os.PathLike[str] | None, synthetic: bool) -> Config:
    if config.data == "images":
        return config
    if synthetic:
        return use_synthetic(config)
    config = dataclasses.replace(config, data_dir=str(data)) if data else config
    require_data(config, "kreid ablate TABLE")
    return config


def _image_folder(folder: pathlib.Path, seed: int, name: str, row: Row) -> pathlib.Path:
    """Return the folder of a model that rows with the same backbone share."""
    own = row.backbone.get("backbone")
    return folder / f"seed_{seed}" / (f"{name}_{own}" if own else name)


def _holds(folder: pathlib.Path, config: Config) -> bool:
    """Return whether a folder has a run of these settings, whose epochs may have grown."""
    run = RunFiles(folder)
    return run.is_run and not changed_settings(run.read_config(), config, {"epochs"})


def _check_starts(runs: Sequence[TableRun]) -> None:
    """Raise if an image model would be trained further though a row has started from it."""
    starts = {str(run.folder.model): run.folder for run in runs}
    for run in runs:
        start = starts.get(run.folder.config.init or "")
        if start is not None and start.is_trained_further and run.folder.is_run:
            raise ValueError(
                f"The image model {start.path} is complete and {run.folder.path} has started from it; leave its epochs "
                f"as they are, or choose another --run. Received: epochs={start.config.epochs!r}"
            )
