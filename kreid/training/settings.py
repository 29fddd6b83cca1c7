"""Resolve a recipe's settings: a system's file, then a data set's, then overlays, then `key=value`, phase by phase."""

import dataclasses
import difflib
import functools
import inspect
import os
import pathlib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from kreid.training.config import CHOICES, Config
from kreid.training.folder import recipe_file

# Two keys for the same thing: the one that is set later holds.
_REPLACES = {"decay_every": "decay_epochs", "decay_epochs": "decay_every"}


def load_config(
    system: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    data: str | None = None,
    overlays: Iterable[str | os.PathLike[str]] = (),
    settings: Iterable[str] = (),
) -> Config:
    """Resolve a recipe's settings for its last phase.

    Args:
        system: see `load_phases`.
        folder: see `load_phases`.
        data: see `load_phases`.
        overlays: see `load_phases`.
        settings: see `load_phases`.

    Returns:
        A `Config`.

    Raises:
        ValueError: see `load_phases`.

    Example:

    >>> config = kreid.training.load_config("sta", data="mars", settings=["epochs=10", "num_stripes=2"])
    >>> config.epochs, config.model["num_stripes"]
    (10, 2)
    """
    return list(load_phases(system, folder, data, overlays, settings).values())[-1]


def load_phases(
    system: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    data: str | None = None,
    overlays: Iterable[str | os.PathLike[str]] = (),
    settings: Iterable[str] = (),
) -> dict[str, Config]:
    """Resolve a recipe's settings, phase by phase.

    A system's file may hold `phases`: their names in order, each with the settings that differ; other files and
    `--set NAME.key=value` may change them. Settings outside `phases` hold for all phases, but a phase's own settings
    win. A system without phases has one, named `main`. Data and overlay files may hold `systems`: names of systems,
    each with settings for that system alone.

    Args:
        system: name of a file in `folder/systems`, such as `"sta"` or `"best_small"`, or a path that ends in `.yaml`;
            the file's key `system` names one of `kreid.models.SYSTEMS`. Or one of `kreid.models.SYSTEMS` that has no
            file, which has the defaults of `Config`.
        folder: the folder of the recipes, `None` for `kreid.training.recipe_folder()`.
        data: name of a file in `folder/data`, such as `"mars"`, or `None`.
        overlays: further settings, later ones win: names of files in `folder/overlays`, such as `"small"`, or paths.
        settings: `"key=value"` texts, which win over all files. Values are YAML.

    Returns:
        A dict from the phase's name to its `Config`, in order.

    Raises:
        ValueError: for an unknown system, key or phase, with the nearest known one, or a value of the wrong kind.

    Example:

    >>> list(kreid.training.load_phases("rtf", data="mars", settings=["target_images.epochs=5"]))
    ['images', 'target_images', 'video']
    """
    system, first = _system_layer(str(system), folder)
    layers = [first]
    files = [] if data is None else [recipe_file("data", data, folder)]
    files += [recipe_file("overlays", overlay, folder) for overlay in overlays]
    layers += [layer for file in files for layer in _layers_of(file, system)]
    layers += [(f"--set {text}", _parse_setting(text)) for text in settings]
    known = {**_common_keys(), **_model_keys(system)}
    shared: dict[str, object] = {}
    phases: dict[str, dict[str, object]] = {}
    for number, (origin, values) in enumerate(layers):
        values = dict(values)
        blocks = values.pop("phases", {})
        _merge(shared, values, origin, known)
        if not isinstance(blocks, dict) or not all(isinstance(block or {}, dict) for block in blocks.values()):
            raise ValueError(f"`phases` in {origin} holds names with settings below each. Received: phases={blocks!r}")
        for name, block in blocks.items():
            if number == 0:
                phases[name] = {}
            elif name not in phases:
                raise ValueError(f"Unknown phase in {origin}.{_hint(name, phases)} Received: phase={name!r}")
            _merge(phases[name], block or {}, origin, known)
    configs = {}
    for name, block in (phases or {"main": {}}).items():
        merged = dict(shared)
        for key, value in block.items():
            _set(merged, key, value)
        configs[name] = _config(system, merged)
    return configs


def _system_layer(system: str, folder: str | os.PathLike[str] | None) -> tuple[str, tuple[str, dict]]:
    """Return the system's name, and the origin and values of its file."""
    from kreid.models import SYSTEMS

    if system.endswith((".yaml", ".yml")):
        values = _read(pathlib.Path(system))
        if "system" not in values:
            raise ValueError(
                f"A system's file names its system, as in `system: {next(iter(SYSTEMS))}`. Received: system={system!r}"
            )
        return str(values["system"]), (system, values)
    try:
        file = recipe_file("systems", system, folder)
    except ValueError:
        if system not in SYSTEMS:
            raise
        return system, (f"no file of {system}", {})
    values = _read(file)
    return str(values.get("system", system)), (str(file), values)


def _layers_of(file: pathlib.Path, system: str) -> list[tuple[str, dict]]:
    """Return a file's settings for all systems, and its settings for one system."""
    values = _read(file)
    blocks = values.pop("systems", {})
    if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
        raise ValueError(f"`systems` in {file} holds names with settings below each. Received: systems={blocks!r}")
    return [(str(file), values), (f"{file}, systems.{system}", blocks.get(system, {}))]


def _merge(merged: dict, values: Mapping, origin: str, known: Mapping) -> None:
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"Unknown setting in {origin}.{_hint(key, known)} Received: {key}={value!r}")
        _set(merged, key, _checked(origin, key, value, known[key]))


def _set(merged: dict, key: str, value: object) -> None:
    """Set a key, and remove the earlier key that it replaces."""
    if value and key in _REPLACES:
        merged.pop(_REPLACES[key], None)
    merged[key] = value


def _hint(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" The known ones are {', '.join(sorted(known)) or 'none'}."


def _config(system: str, merged: Mapping) -> Config:
    if merged.get("system", system) != system:
        raise ValueError(
            f"The settings belong to another system than --system {system}. Received: system={merged['system']!r}"
        )
    model = {key: value for key, value in merged.items() if key not in _common_keys()}
    common = {key: value for key, value in merged.items() if key in _common_keys()}
    return Config(**{**common, "system": system}, model=model)


def _read(path: pathlib.Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no settings file at this path. Received: path={str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"A settings file is YAML text: {error}. Received: path={str(path)!r}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"The settings file is not valid YAML: {error}. Received: path={str(path)!r}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold `key: value` lines. Received: {values!r}")
    return values


def _parse_setting(text: str) -> dict:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"Settings are written key=value. Received: --set {text!r}")
    try:
        value = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"The value is not valid YAML; quote it. Received: --set {text!r}") from None
    phase, dot, own_key = key.strip().partition(".")
    return {"phases": {phase: {own_key: value}}} if dot else {key.strip(): value}


@functools.cache  # It is asked for each key of a file.
def _common_keys() -> Mapping[str, Any]:
    kinds = typing.get_type_hints(Config)
    return {field.name: kinds[field.name] for field in dataclasses.fields(Config) if field.name != "model"}


def _model_keys(system: str) -> dict[str, Any]:
    from kreid.models import SYSTEMS, TrackletModel

    if system not in SYSTEMS:
        near = difflib.get_close_matches(system, SYSTEMS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"Unknown system; kreid has {', '.join(SYSTEMS)}, and `register_system` adds your own.{hint} "
            f"Received: system={system!r}"
        )
    defaults: dict[str, set] = {}
    for cls in (TrackletModel, SYSTEMS[system]):
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name not in ("dtype", "name", *_common_keys()):
                kinds = defaults.setdefault(name, set())
                kinds.add(parameter.default)
                if types.NoneType in typing.get_args(parameter.annotation):
                    kinds.add(None)
    return {name: _kind_of(values) for name, values in defaults.items()}


def _kind_of(defaults: set) -> Any:
    """Return the kind of an argument by its defaults in base and system; a default of `None` allows null."""
    kinds = {type(default) for default in defaults if default is not None}
    if not kinds:
        return None
    kind = kinds.pop()
    return kind | None if None in defaults else kind


def _checked(origin: str, key: str, value: Any, kind: Any) -> Any:
    """Return the value as the kind of its key; the model checks values whose `kind` is `None`."""
    if key in CHOICES and value is not None and value not in CHOICES[key]:
        raise ValueError(f"{key} in {origin} must be one of {', '.join(CHOICES[key])}. Received: {key}={value!r}")
    if kind is None:
        return value
    kinds = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    for one in kinds:
        base = typing.get_origin(one) or one
        if base is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            # YAML reads 3e-4 (no dot) as text.
            try:
                return float(value)
            except ValueError:
                continue
        if base is list and isinstance(value, (list, tuple)):
            inner = typing.get_args(one)[0]
            if all(isinstance(v, inner) and not isinstance(v, bool) for v in value):
                return list(value)
        elif isinstance(value, base) and (base is bool or not isinstance(value, bool)):
            return value
    names = " or ".join("null" if one is types.NoneType else getattr(one, "__name__", str(one)) for one in kinds)
    raise ValueError(f"{key} in {origin} must be {names}. Received: {key}={value!r}")
