"""Tables of rows: their files, at the size of the paper or small."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from kreid.data.bad_frames import check_kinds
from kreid.data.readers import LAYOUTS
from kreid.training.folder import recipe_folder

# Keys of a file, and of its block `small`.
_KEYS = (
    "title",
    "printed_on",
    "data",
    "size",
    "seeds",
    "overlays",
    "system",
    "shared",
    "settings",
    "image_phase",
    "bad_frames_test",
    "small",
    "rows",
)
# As in the paper, for 2 CPU cores, or as the table's file alone says.
SIZES = ("paper", "small", "own")
_ROW_KEYS = ("system", "settings", "small", "image_phase", "phase", "test", "printed")
# Keys of the mappings in a table and in a row; `None` for any.
_INNER_KEYS: dict[str, tuple[str, ...] | None] = {
    "shared": None,
    "settings": None,
    "image_phase": ("system", "settings"),
    "bad_frames_test": ("kinds", "share"),
}
_INNER_ROW_KEYS: dict[str, tuple[str, ...] | None] = {
    "settings": None,
    "small": None,
    "test": ("test_selection", "test_frames"),
    "printed": ("rank1", "map"),
}
# What an image model and the rows that start from it must share.
_BACKBONE_KEYS = (
    "backbone",
    "backbone_width",
    "stem_stride",
    "last_stride",
    "weights",
    "weights_preprocessing",
    "weights_licence",
    "image_size",
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        name: of the row.
        system: name of a file in `recipes/systems`, or of a registered system.
        settings: of its training: the table's for all rows, and its own.
        backbone: its own settings of the backbone, which its image model shares.
        phase: the phase of the system's recipe whose model the row is; `None` for the last one.
        test: `test_selection` and `test_frames` to evaluate with, where they are not those of `settings`.
        printed: `rank1` and `map` in the paper, in per cent; empty if it prints none.
        run: name of the first row with the same training, whose run this row shares.
        image_phase: settings of its image model, where they are not those of the table's.
    """

    name: str
    system: str
    settings: Mapping[str, Any]
    backbone: Mapping[str, Any]
    phase: str | None
    test: Mapping[str, Any]
    printed: Mapping[str, float]
    run: str
    image_phase: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of rows that are trained alike and compared, query by query, with the first.

    Args:
        title: of the table.
        printed_on: the data set of the paper's figures.
        data: name of a file in `recipes/data`.
        seeds: of the runs; each row is trained with each.
        overlays: names or paths, see `load_phases`.
        shared: settings of all image models and rows.
        image_phase: `system` and `settings` of each seed's image model that the rows start from; `None` where a row
            starts as its recipe does, from the recipe's earlier phases or its starting weights.
        bad_frames_test: `kinds` and `share` of the evaluation with bad frames; empty for none.
        rows: by name.
    """

    title: str
    printed_on: str
    data: str
    seeds: Sequence[int]
    overlays: Sequence[str]
    shared: Mapping[str, Any]
    image_phase: Mapping[str, Any] | None
    bad_frames_test: Mapping[str, Any]
    rows: Mapping[str, Row]

    def chosen(self, names: Sequence[str] | None = None, seeds: Sequence[int] | None = None) -> "Table":
        """Return the table with some of its rows and seeds.

        Args:
            names: of rows, `None` for all.
            seeds: to train with, `None` for the table's.

        Raises:
            ValueError: if a row is unknown, or a seed is below 0 or repeated.

        Example:

        >>> table = kreid.training.load_table(kreid.training.recipe_file("tables", "sta3"))
        >>> list(table.chosen(["K=8"], seeds=[5]).rows)
        ['K=8']
        """
        for name in names or ():
            if name not in self.rows:
                raise ValueError(f"The rows are {', '.join(self.rows)}. Received: row={name!r}")
        if seeds is not None:
            _check_seeds(seeds)
        rows = {name: row for name, row in self.rows.items() if names is None or name in names}
        return dataclasses.replace(self, rows=rows, seeds=self.seeds if seeds is None else seeds)


def load_table(path: str | os.PathLike[str], small: bool = False, weights: str | None = None) -> Table:
    """Read a table's file, such as `recipes/tables/sta1.yaml`.

    The file holds `title` and `rows`, and where needed the other keys of `Table`, the `system` and the `settings` of
    all rows, and `small`, keys that are added for the small size. A table with a `size`, `"small"` or `"own"`, always
    has it. A row holds what differs: the keys of `Row`, and `small`, settings for the small size alone.

    Args:
        path: of the file.
        small: for 2 CPU cores, with what `tables/sizes/small.yaml` says; else as in the paper, by the systems' recipes.
        weights: starting weights of the table's backbone, see `Config`; a row with another backbone keeps its own.

    Returns:
        A `Table`.

    Raises:
        ValueError: if the file is not a table.

    Example:

    >>> table = kreid.training.load_table(kreid.training.recipe_file("tables", "sta3"))
    >>> table.rows["K=8"].settings, table.rows["K=8"].printed
    ({'num_stripes': 8}, {'rank1': 85.5, 'map': 80.4})
    """
    path = pathlib.Path(path)
    table = _read(path)
    _check(table, path)
    layers = [table]
    size = table.get("size", "small" if small else "paper")
    if size not in SIZES:
        raise ValueError(f"The size of a table is one of {', '.join(SIZES)}. Received: size={size!r}, {path}")
    small = size == "small"
    if small:
        layers = [_read(recipe_folder() / "tables" / "sizes" / "small.yaml"), table, table.get("small", {})]
    given = {} if weights is None else {"weights": weights}
    shared = {**_merged(layers, "shared"), **given}
    common = {**shared, **_merged(layers, "settings")}
    image_phase = _image_phase(layers)
    if image_phase and "system" not in image_phase:
        raise ValueError(
            f"The image_phase of this table names no system. Received: {image_phase!r}, table={str(path)!r}"
        )
    rows: dict[str, Row] = {}
    runs: dict[str, str] = {}
    for name, values in table["rows"].items():
        values = values or {}
        own = {**values.get("settings", {}), **(values.get("small", {}) if small else {})}
        row = Row(
            name=str(name),
            system={**table, **values}["system"],
            settings={**common, **own},
            backbone={key: value for key, value in own.items() if key in _BACKBONE_KEYS},
            # At the small size every row is trained with the same steps.
            phase=None if small else values.get("phase"),
            test=values.get("test", {}),
            printed=values.get("printed", {}),
            run=str(name),
            image_phase=values.get("image_phase", {}).get("settings", {}) if image_phase else {},
        )
        training = yaml.safe_dump([row.system, row.phase, dict(row.settings), dict(row.image_phase)])
        rows[row.name] = dataclasses.replace(row, run=runs.setdefault(training, row.name))
    return Table(
        title=table["title"],
        printed_on=table.get("printed_on", "full MARS"),
        data=_last(layers, "data", "mars"),
        seeds=_last(layers, "seeds", [0]),
        overlays=[_overlay(path.parent, name) for name in _last(layers, "overlays", [])],
        shared=shared,
        image_phase=image_phase,
        bad_frames_test=_last(layers, "bad_frames_test", {}),
        rows=rows,
    )


def row_folder(folder: pathlib.Path, seed: int, name: str) -> pathlib.Path:
    """Return the run folder of a row and a seed.

    Args:
        folder: folder of the table's runs.
        seed: of the run.
        name: of the row; characters other than letters and digits become underscores.

    Example:

    >>> kreid.training.row_folder(pathlib.Path("runs/small"), 0, "TACAN +TA").as_posix()
    'runs/small/seed_0/TACAN__TA'
    """
    return folder / f"seed_{seed}" / "".join(c if c.isalnum() else "_" for c in name)


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"This is no table of rows ({error}). Received: table={str(path)!r}") from None
    return table if isinstance(table, dict) else {}


def _check(table: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raise if a file is not a table."""
    rows = table.get("rows")
    if "title" not in table or not isinstance(rows, dict) or not rows:
        raise ValueError(f"A table holds a title and rows. Received: table={str(path)!r}")
    small = table.get("small", {})
    if not isinstance(small, dict):
        raise ValueError(f"The block `small` holds keys of the table. Received: small={small!r}, table={str(path)!r}")
    unknown = [f"{key} of the table" for key in {**table, **small} if key not in _KEYS]
    unkeyed = [name for name, row in rows.items() if row is not None and not isinstance(row, dict)]
    if unkeyed:
        raise ValueError(
            f"A row holds keys and values. Received: {unkeyed[0]}: {rows[unkeyed[0]]!r}, table={str(path)!r}"
        )
    unknown += [f"{key} of row {name}" for name, row in rows.items() for key in row or {} if key not in _ROW_KEYS]
    if unknown:
        raise ValueError(
            f"A table's keys are {', '.join(_KEYS)}, a row's {', '.join(_ROW_KEYS)}. Received: {unknown[0]}, "
            f"table={str(path)!r}"
        )
    for layer in (table, small):
        _check_values(layer, path)
    for name, row in rows.items():
        _check_mappings(row or {}, _INNER_ROW_KEYS, f" of row {name}", path)
        phase = (row or {}).get("image_phase", {"settings": {}})
        if not isinstance(phase, dict) or set(phase) != {"settings"}:
            raise ValueError(
                "A row's image_phase holds `settings` alone, which change those of the table's image_phase. "
                f"Received: image_phase={phase!r} of row {name}, table={str(path)!r}"
            )
        if "image_phase" in (row or {}) and table.get("size") == "own" and not table.get("image_phase"):
            raise ValueError(
                "A row's image_phase changes that of the table; give the table one. "
                f"Received: image_phase={phase!r} of row {name}, table={str(path)!r}"
            )
    homeless = [name for name, row in rows.items() if "system" not in {**table, **(row or {})}]
    if homeless:
        raise ValueError(f"Each row, or the table, names a system. Received: row={homeless[0]!r}, table={str(path)!r}")
    folders = [row_folder(path, 0, str(name)) for name in rows]
    if len(set(folders)) < len(folders):
        raise ValueError(
            "The names of two rows differ by more than spaces and signs, as their folders are named by letters and "
            f"digits. Received: rows={list(rows)!r}, table={str(path)!r}"
        )


def _check_values(layer: Mapping[str, Any], path: pathlib.Path) -> None:
    """Raise if a value of a table, or of its block `small`, cannot be used."""
    # Without an image phase, rows start as their recipes do.
    _check_mappings(
        {key: value for key, value in layer.items() if (key, value) != ("image_phase", None)}, _INNER_KEYS, "", path
    )
    try:
        if "seeds" in layer:
            _check_seeds(layer["seeds"])
        if "data" in layer and layer["data"] not in LAYOUTS:
            raise ValueError(f"The data sets are {', '.join(LAYOUTS)}. Received: data={layer['data']!r}")
        bad_frames = layer.get("bad_frames_test")
        if bad_frames:
            share = bad_frames.get("share")
            if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share < 1:
                raise ValueError(f"The share of bad frames is from 0 and below 1. Received: share={share!r}")
            check_kinds(bad_frames.get("kinds", ()))
    except ValueError as error:
        raise ValueError(f"{error}, table={str(path)!r}") from None


def _check_mappings(
    values: Mapping[str, Any], known: Mapping[str, tuple[str, ...] | None], where: str, path: pathlib.Path
) -> None:
    """Raise if one of the known keys has no mapping, or one with other keys."""
    for key, inner in known.items():
        value = values.get(key, {})
        if not isinstance(value, dict):
            raise ValueError(f"{key} holds keys and values. Received: {key}={value!r}{where}, table={str(path)!r}")
        unknown = [name for name in value if inner is not None and name not in inner]
        if unknown:
            raise ValueError(
                f"The keys of {key} are {', '.join(inner or ())}. Received: {unknown[0]}{where}, table={str(path)!r}"
            )


def _check_seeds(seeds: Any) -> None:
    """Raise unless these are seeds."""
    if (
        not isinstance(seeds, (list, tuple))
        or not seeds
        or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in seeds)
        or len(set(seeds)) < len(seeds)
    ):
        raise ValueError(f"Seeds are different whole numbers from 0, at least one. Received: seeds={seeds!r}")


def _merged(layers: Iterable[Mapping[str, Any]], key: str) -> dict[str, Any]:
    return {name: value for layer in layers for name, value in layer.get(key, {}).items()}


def _image_phase(layers: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the last layer's image phase; one that names no system changes settings of the one before it."""
    phase: dict[str, Any] | None = None
    for layer in layers:
        own = layer.get("image_phase", phase)
        if own and phase and "system" not in own:
            own = {**phase, "settings": {**phase.get("settings", {}), **own["settings"]}}
        phase = own
    return phase


def _last(layers: Sequence[Mapping[str, Any]], key: str, default: Any) -> Any:
    return next((layer[key] for layer in reversed(layers) if key in layer), default)


def _overlay(folder: pathlib.Path, name: str) -> str:
    """Return a name as it is, and a path, which has an ending, relative to the table's file."""
    return str(folder / name) if "." in name else name
