"""A recipe's settings: a system's file, overlaid by a data set's, by others, and by `key=value`, phase by phase."""

import dataclasses
import difflib
import inspect
import math
import os
import pathlib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from kreid.training.folder import recipe_file

CHOICES = {
    "clips": ("random", "chunks", "adjacent", "adjacent_clips"),
    "sampler": ("persons", "sequences", "frames"),
    "augment_per": ("tracklet", "frame"),
    "flip_per": ("tracklet", "frame"),
    "init_layers": ("backbone", "matching"),
    "loss_reduction": ("mean", "sum"),
    "optimizer": ("adam", "sgd"),
    "weight_decay_kind": ("l2", "decoupled"),
    "schedule": ("constant", "step", "cosine"),
    "precision": ("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    "select": ("last", "best"),
}
# Settings that change neither a batch nor a weight: a run continues with others.
_FREE_TO_CHANGE = ("max_damaged", "cache", "holdout_every", "evaluate_untrained")
# Of two keys for one thing the later one counts.
_INSTEAD_OF = {"decay_every": "decay_epochs", "decay_epochs": "decay_every"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on. Files hold these keys flat, and the system's own arguments beside them.

    Args:
        system: one of `kreid.models.SYSTEMS`.
        backbone: see `kreid.backbones.build`, like the four keys that follow.
        backbone_width: channels of conv2, or null.
        stem_stride: 4, or 2 for a stem without pooling.
        last_stride: 1 or 2.
        weights: null, "imagenet" or a file.
        init: a `.keras` model of any system to start from, or null; see `kreid.training.start_from`.
        init_layers: what is copied of it: "backbone", or all layers "matching" by name and shape.
        image_size: `[height, width]` in pixels.
        clips: how training frames are drawn: "random", "chunks" (one in each of equal parts), "adjacent" or
            "adjacent_clips" (several runs of `clip_length`).
        clip_length: frames of a clip, for systems of clips.
        num_frames: training frames per tracklet.
        sampler: what meets in a batch: "persons" (P of them with K tracklets each), "sequences" (shuffled tracklets) or
            "frames" (shuffled single frames, with `num_frames` 1).
        persons_per_batch: P, for "persons".
        tracklets_per_person: K, for "persons".
        batch_size: tracklets or frames of a batch, for "sequences" and "frames".
        steps_per_epoch: null for an epoch in which each person comes once, or each tracklet, or each frame.
        flip: probability of a horizontal flip.
        flip_per: "tracklet" (all its frames are flipped alike) or "frame".
        crop_padding: pixels of padding before a crop back to size, 0 for none.
        erase: probability of random erasing, per tracklet.
        augment_per: "tracklet" (all its frames are cropped and erased alike) or "frame".
        smoothing: of the identity labels.
        triplet_weight: of the batch-hard triplet loss, 0 for none.
        triplet_margin: a number, or "soft".
        triplet_distance: "euclidean" or "squared_euclidean".
        min_max_weight: of the min-max loss, 0 for none.
        loss_reduction: "mean" or "sum" over the batch.
        optimizer: "adam" or "sgd".
        learning_rate: at the start (after warming up).
        momentum: of SGD.
        weight_decay: its coefficient.
        weight_decay_kind: "l2" (in the gradient, PyTorch's `weight_decay` of Adam and SGD) or "decoupled" (AdamW).
        schedule: "constant", "step" (times `decay_factor` after each of `decay_epochs`, or every `decay_every` epochs)
            or "cosine" (to zero).
        decay_epochs: for "step".
        decay_every: for "step", in the place of `decay_epochs`.
        decay_factor: for "step".
        warmup_epochs: rising linearly from a tenth, with "cosine" only.
        epochs: to train.
        precision: "auto" (bfloat16 or float16 on a GPU, by its age; float32 on a CPU) or a Keras dtype policy.
        seed: of everything drawn.
        holdout: share of train persons kept aside for choosing, 0 for none. A data set with a validation set keeps
            no person aside and chooses on that.
        holdout_every: epochs between evaluations on them.
        select: result and export come from the "last" checkpoint or the "best" by held-out mAP.
        false_match_rate: of different persons taken for the same; the verification threshold is fitted to it on the
            held-out persons.
        evaluate_untrained: also evaluate before training.
        also_test_frames: numbers of frames with which the result is evaluated besides, in the place of `test_frames`.
        max_damaged: share of unreadable frames above which the run stops.
        cache: where the train frames are kept decoded: null, "memory", or a folder; see `kreid.data.FrameCache`.
        data: name of the data set.
        data_dir: its folder.
        split: number of the split, from 1, of data sets with several; recipes set it.
        persons: null, or which persons count, for data sets where that is chosen: 178 or 200 of PRID2011.
        image_dirs: folders of single images, see `kreid.data.readers.read_images`; trained on where `data` is "images".
        model: the system's own arguments.

    Raises:
        ValueError: for numbers out of their range, the best checkpoint without held-out persons, batches in which a
            metric loss is always 0, and a step schedule with both kinds of steps.
    """

    system: str
    backbone: str = "resnet50"
    backbone_width: int | None = None
    stem_stride: int = 4
    last_stride: int = 2
    weights: str | None = None
    init: str | None = None
    init_layers: str = "matching"
    image_size: list[int] = dataclasses.field(default_factory=lambda: [256, 128])
    clips: str = "random"
    num_frames: int = 4
    clip_length: int = 4
    sampler: str = "persons"
    persons_per_batch: int = 16
    tracklets_per_person: int = 4
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    flip: float = 0.5
    flip_per: str = "tracklet"
    crop_padding: int = 0
    erase: float = 0.0
    augment_per: str = "tracklet"
    smoothing: float = 0.0
    triplet_weight: float = 1.0
    triplet_margin: float | str = 0.3
    triplet_distance: str = "euclidean"
    min_max_weight: float = 0.0
    loss_reduction: str = "mean"
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_decay_kind: str = "l2"
    schedule: str = "constant"
    decay_epochs: list[int] = dataclasses.field(default_factory=list)
    decay_every: int | None = None
    decay_factor: float = 0.1
    warmup_epochs: int = 0
    epochs: int = 100
    precision: str = "auto"
    seed: int = 0
    holdout: float = 0.1
    holdout_every: int = 10
    select: str = "last"
    false_match_rate: float = 0.001
    evaluate_untrained: bool = False
    also_test_frames: list[int] = dataclasses.field(default_factory=list)
    max_damaged: float = 0.05
    cache: str | None = None
    data: str = "mars"
    data_dir: str = "data/mars"
    split: int | None = None
    persons: int | None = None
    image_dirs: list[str] = dataclasses.field(default_factory=list)
    model: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"Training takes at least one epoch. Received: epochs={self.epochs!r}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"The learning rate is a positive number. Received: learning_rate={self.learning_rate!r}")
        for name in ("seed", "weight_decay", "triplet_weight", "min_max_weight", "momentum"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a number of at least 0. Received: {name}={getattr(self, name)!r}")
        if not 0 < self.false_match_rate < 1:
            raise ValueError(
                f"A false-match rate is above 0 and below 1. Received: false_match_rate={self.false_match_rate!r}"
            )
        if self.also_test_frames and (self.model.get("test_frames") is None or min(self.also_test_frames) < 1):
            raise ValueError(
                "Other numbers of test frames are positive, and in the place of a test_frames that is not null. "
                f"Received: also_test_frames={self.also_test_frames!r}, test_frames={self.model.get('test_frames')!r}"
            )
        if self.select == "best" and not self.holdout:
            raise ValueError(
                f"The best checkpoint is chosen on held-out persons; set holdout above 0, or select=last. "
                f"Received: select={self.select!r}, holdout={self.holdout!r}"
            )

        if self.decay_every is not None and (self.decay_every < 1 or self.decay_epochs):
            raise ValueError(
                "A step schedule decays after each of decay_epochs or every decay_every epochs, a positive number; set "
                f"one, and decay_epochs=[] or decay_every=null. Received: decay_every={self.decay_every!r}, "
                f"decay_epochs={self.decay_epochs!r}"
            )
        self._check_batch()

    def _check_batch(self) -> None:
        """Refuse batches in which a metric loss finds no two tracklets of one person, or no two persons."""
        weights = [name for name in ("triplet_weight", "min_max_weight") if getattr(self, name)]
        if not weights:
            return
        names, off = " and ".join(weights), " ".join(f"{name}=0" for name in weights)
        if self.sampler == "persons":
            for name, pair in (("persons_per_batch", "two persons"), ("tracklets_per_person", "two of a person")):
                if getattr(self, name) < 2:
                    raise ValueError(
                        f"The losses of {names} are always 0 without {pair} in a batch: set {name} to 2 or more, or "
                        f"{off}. Received: {name}={getattr(self, name)!r}"
                    )
        elif self.batch_size is not None and self.batch_size < 3:
            raise ValueError(
                f"The losses of {names} are always 0 without two of a person and another person's in a batch: set "
                f"batch_size to 3 or more, or {off}. Received: batch_size={self.batch_size!r}"
            )

    def to_yaml(self) -> str:
        """Return the resolved settings as flat YAML text."""
        flat = dataclasses.asdict(self)
        flat.update(flat.pop("model"))
        return yaml.safe_dump(flat, sort_keys=False)


def changed_settings(old: Any, new: Config, free: Collection[str] = ()) -> str:
    """Compare the settings that a run was made with and those requested now.

    Settings that change neither a batch nor a weight may differ: `max_damaged`, `cache`, `evaluate_untrained`,
    `holdout_every` if no checkpoint is chosen by it, and `data_dir` if the old folder is gone. A setting that an older
    run does not name had its default's meaning.

    Args:
        old: the data of the run's `config.yaml`.
        new: the requested `Config`.
        free: further settings that may differ.

    Returns:
        The differences in words, empty if there are none.
    """
    settings = yaml.safe_load(new.to_yaml())
    ignored = {*free, *_FREE_TO_CHANGE}
    if not isinstance(old, dict) or not old:
        old = {}
    else:
        old = {**yaml.safe_load(Config(system=new.system).to_yaml()), **old}
        if new.select == "best":  # The best of the epochs that were evaluated.
            ignored.discard("holdout_every")
        if not pathlib.Path(old["data_dir"]).exists():  # The data was moved; two folders that exist are two data sets.
            ignored.add("data_dir")
    keys = sorted(key for key in {**old, **settings} if settings.get(key) != old.get(key) and key not in ignored)
    return ", ".join(f"{key}={old.get(key)!r} there and {settings.get(key)!r} here" for key in keys)


def load_config(
    system: str | os.PathLike[str],
    folder: str | os.PathLike[str] | None = None,
    data: str | None = None,
    overlays: Iterable[str | os.PathLike[str]] = (),
    settings: Iterable[str] = (),
) -> Config:
    """Resolve a recipe's settings: those of its last phase, where it has several.

    Takes what `load_phases` takes.

    Returns:
        A `Config`.

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

    A system's file may hold `phases`: names in their order, each with the settings in which it differs; other files and
    `--set NAME.key=value` may change those. What is set outside `phases` holds for all of them, and a phase's own
    settings win over it. A system without phases has one, named `main`. Data and overlay files may hold `systems`:
    names of systems, each with settings for it alone.

    Args:
        system: name of a file in `folder/systems`, such as `"sta"`; a path that ends in `.yaml`, whose key `system`
            names one of `kreid.models.SYSTEMS`; or one of `kreid.models.SYSTEMS` that has no file, which takes the
            defaults of `Config`.
        folder: the folder of the recipes, `None` for kreid's own (`kreid.training.recipe_folder()`).
        data: name of a file in `folder/data`, such as `"mars"`, or `None`.
        overlays: further settings, later ones win: names of files in `folder/overlays`, such as `"small"`, or paths.
        settings: `"key=value"` texts, which win over all files. Values are YAML.

    Returns:
        A dict from the phase's name to its `Config`, in order.

    Raises:
        ValueError: for an unknown system, key or phase (naming the nearest known one), or a value of the wrong kind.

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
        own = values.pop("phases", {})
        _merge(shared, values, origin, known)
        if not isinstance(own, dict) or not all(isinstance(block or {}, dict) for block in own.values()):
            raise ValueError(f"`phases` in {origin} holds names with settings below each. Received: phases={own!r}")
        for name, block in own.items():
            if number == 0:
                phases[name] = {}
            elif name not in phases:
                raise ValueError(f"Unknown phase in {origin}.{_hint(name, phases)} Received: phase={name!r}")
            _merge(phases[name], block or {}, origin, known)
    resolved = {}
    for name, block in (phases or {"main": {}}).items():
        merged = dict(shared)
        for key, value in block.items():
            _set(merged, key, value)
        resolved[name] = _config(system, merged)
    return resolved


def _system_layer(system: str, folder: str | os.PathLike[str] | None) -> tuple[str, tuple[str, dict]]:
    """The system's name, and the origin and values of its file."""
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
    return system, (str(file), _read(file))


def _layers_of(file: pathlib.Path, system: str) -> list[tuple[str, dict]]:
    """Return a file's settings for all systems, and those for this one."""
    values = _read(file)
    own = values.pop("systems", {})
    if not isinstance(own, dict) or not all(isinstance(block, dict) for block in own.values()):
        raise ValueError(f"`systems` in {file} holds names with settings below each. Received: systems={own!r}")
    return [(str(file), values), (f"{file}, systems.{system}", own.get(system, {}))]


def _merge(merged: dict, values: Mapping, origin: str, known: Mapping) -> None:
    for key, value in values.items():
        if key not in known:
            raise ValueError(f"Unknown setting in {origin}.{_hint(key, known)} Received: {key}={value!r}")
        _set(merged, key, _checked(origin, key, value, known[key]))


def _set(merged: dict, key: str, value: object) -> None:
    """Set a key, and drop the earlier one that it takes the place of."""
    if value and key in _INSTEAD_OF:
        merged.pop(_INSTEAD_OF[key], None)
    merged[key] = value


def _hint(name: object, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" The known ones are {', '.join(sorted(known)) or 'none'}."


def _config(system: str, merged: Mapping) -> Config:
    if merged.get("system", system) != system:
        raise ValueError(
            f"The settings are of another system than --system {system}. Received: system={merged['system']!r}"
        )
    model = {key: value for key, value in merged.items() if key not in _common_keys()}
    common = {key: value for key, value in merged.items() if key in _common_keys()}
    return Config(**{**common, "system": system}, model=model)


def _read(path: pathlib.Path) -> dict:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no settings file at this path. Received: {str(path)!r}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"A settings file is YAML text; this is not: {error}. Received: {str(path)!r}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
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


def _common_keys() -> dict[str, typing.Any]:
    kinds = typing.get_type_hints(Config)
    return {field.name: kinds[field.name] for field in dataclasses.fields(Config) if field.name != "model"}


def _model_keys(system: str) -> dict[str, typing.Any]:
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


def _kind_of(defaults: set) -> typing.Any:
    """The kind of an argument by its defaults in base and system; `None` among them lets it be null."""
    kinds = {type(default) for default in defaults if default is not None}
    if not kinds:
        return None
    kind = kinds.pop()
    return kind | None if None in defaults else kind


def _checked(origin: str, key: str, value: typing.Any, kind: typing.Any) -> typing.Any:
    """Return the value as the kind its key needs; the model itself checks values whose `kind` is `None`."""
    if key in CHOICES and value not in CHOICES[key]:
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
