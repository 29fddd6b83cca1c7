"""The settings of a run, and which of them may change when it continues."""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from kreid.data.bad_frames import BadFrames

CHOICES = {
    "weights_preprocessing": ("torch", "caffe", "tf", "none"),
    "clips": ("random", "chunks", "adjacent", "adjacent_clips"),
    "sampler": ("persons", "sequences", "frames"),
    "augment_per": ("tracklet", "frame"),
    "flip_per": ("tracklet", "frame"),
    "init_layers": ("backbone", "matching"),
    "metric_loss": (
        "batch_hard_triplet",
        "semi_hard_triplet",
        "contrastive",
        "lifted_structure",
        "n_pairs",
        "multi_similarity",
        "circle",
        # TensorFlow Addons', see `kreid.addons.losses`.
        "tfa.TripletSemiHardLoss",
        "tfa.TripletHardLoss",
        "tfa.LiftedStructLoss",
        "tfa.NpairsLoss",
        "tfa.ContrastiveLoss",
    ),
    "loss_reduction": ("mean", "sum"),
    "optimizer": ("adam", "sgd"),
    "weight_decay_kind": ("l2", "decoupled"),
    "schedule": ("constant", "step", "cosine"),
    "precision": ("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    "select": ("last", "best"),
    "strategy": ("single", "mirrored", "data_parallel"),
    "mining": ("global", "replica"),
    "batch_norm": ("global", "replica"),
}
# Settings that change neither a batch nor a weight, so they may differ when a run continues.
_FREE_TO_CHANGE = (
    "max_damaged",
    "cache",
    "holdout_every",
    "evaluate_untrained",
    "checkpoint_every",
    "callbacks",
    "export",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run. Files hold these keys flat, next to the system's own arguments.

    Args:
        system: one of `kreid.models.SYSTEMS`.
        backbone: see `kreid.backbones.build`, like the keys up to `weights_licence`.
        backbone_width: channels of conv2, or null.
        stem_stride: 4, or 2 for a stem without pooling.
        last_stride: 1 or 2.
        weights: null, "imagenet" or a file.
        weights_preprocessing: the pixels that the weights expect, "torch", "caffe", "tf" or "none", where they were
            trained on others than the backbone's published weights; null for those, or for what the file says.
        weights_licence: licence of the weights, which saved models and exports then name; null if unknown.
        init: a `.keras` model of any system to start from, or null; see `kreid.training.start_from`.
        init_layers: the layers that are copied: "backbone", or all that are "matching", see the same function.
        image_size: `[height, width]` in pixels.
        clips: how training frames are drawn: "random", "chunks" (one from each of equal parts), "adjacent" or
            "adjacent_clips" (several runs of `clip_length`).
        clip_length: frames of a clip, for systems with clips.
        num_frames: training frames per tracklet.
        sampler: how batches are drawn: "persons" (P persons with K tracklets each), "sequences" (shuffled tracklets) or
            "frames" (shuffled single frames, with `num_frames` 1).
        persons_per_batch: P, for "persons".
        tracklets_per_person: K, for "persons".
        batch_size: tracklets or frames of a batch, for "sequences" and "frames".
        steps_per_epoch: null for an epoch in which each person, tracklet or frame comes once, by the sampler.
        flip: probability of a horizontal flip.
        flip_per: "tracklet" (all its frames are flipped alike) or "frame".
        crop_padding: pixels of padding before a crop back to size, 0 for none.
        erase: probability of random erasing, per tracklet.
        augment_per: "tracklet" (all its frames are cropped and erased alike) or "frame".
        brightness: range of a random factor on a tracklet's brightness, such as 0.2 for 0.8 to 1.2; 0 for none, as for
            the three that follow. All frames of a tracklet change alike; see `kreid.data.Augmentation`.
        contrast: range of a factor on its contrast.
        saturation: range of a factor on its saturation.
        hue: largest turn of its hue, up to 0.5, half a circle.
        rand_augment: operations of RandAugment per tracklet, 0 for none.
        rand_augment_magnitude: their strength, 0 to 30.
        bad_frames: faults of the training clips' frames, null for none, as in `{kinds: [another_person, dark], frames:
            [0, 3]}`: 0 to 3 frames of a clip. The kinds are "another_person", "other_persons", "covered", "blurred",
            "half_out" and "dark", all of them by default; see `kreid.data.BadFrames`.
        smoothing: label smoothing of the identity loss.
        metric_loss: the loss on the features: "batch_hard_triplet", "semi_hard_triplet", "contrastive",
            "lifted_structure", "n_pairs", "multi_similarity" or "circle", see `kreid.losses`; or one of TensorFlow
            Addons, such as "tfa.TripletSemiHardLoss", see `kreid.addons.losses`.
        metric_settings: arguments of a metric loss that is none of the triplet losses, as in `{margin: 0.25, scale:
            64}` for "circle"; null for its defaults.
        triplet_weight: weight of the metric loss, whichever it is; 0 for none.
        triplet_margin: a number, or "soft", for the triplet losses.
        triplet_distance: "euclidean", "squared_euclidean" or "cosine", for the triplet losses.
        min_max_weight: weight of the min-max loss, 0 for none.
        loss_reduction: "mean" or "sum" over the batch.
        optimizer: "adam" or "sgd".
        learning_rate: the initial learning rate, after warming up.
        backbone_rate: factor on the learning rate of the backbone's weights; the head and other new layers have 1.
        momentum: momentum of SGD.
        weight_decay: coefficient of the weight decay.
        weight_decay_kind: "l2" (in the gradient, PyTorch's `weight_decay` of Adam and SGD) or "decoupled" (AdamW).
        schedule: "constant", "step" (times `decay_factor` after each of `decay_epochs`, or every `decay_every` epochs)
            or "cosine" (to zero).
        decay_epochs: for "step", the epochs to decay after.
        decay_every: for "step", instead of `decay_epochs`.
        decay_factor: for "step", the factor of a decay.
        warmup_epochs: epochs in which the rate rises linearly from a tenth; a step schedule counts them too.
        clip_norm: largest norm of the gradient of all weights together; longer ones are scaled down to it. Null for
            none.
        accumulate: batches per update of the weights, whose gradients are averaged; schedules count updates. A metric
            loss compares tracklets of one batch, and batch normalisation sees one batch: accumulation enlarges neither.
        ema_momentum: momentum of a moving average of the weights over updates, such as 0.999, or null. The averaged
            weights are evaluated on the held-out persons, selected, reported and exported; checkpoints have both. The
            moving statistics of batch normalisation are not averaged again.
        epochs: number of epochs to train.
        frozen_epochs: epochs, from the first on, in which the backbone is frozen and only the layers after it train.
        unfreeze_every: epochs after which one stage more of the backbone's four trains: the last one from
            `frozen_epochs` on, then the one before it, and so on. Null trains all of them from there on.
        freeze_batch_norm: keep the backbone's batch normalisation as it starts, its statistics, scale and centre. It
            runs in its inference form in training too.
        early_stopping: end training when the best held-out mAP is so many epochs old; null trains all epochs.
        callbacks: further Keras callbacks, each as "package.module:factory"; see `kreid.training.own_callbacks`.
        checkpoint_every: "epoch", or also inside epochs, as in "500 steps" (of an epoch) or "10 minutes" (after the
            last checkpoint).
        precision: "auto" (bfloat16 or float16 on a GPU, by its age; float32 on a CPU) or a Keras dtype policy.
        cached_chunks: chunks in which a step embeds its batch, to save memory; its losses are those of the whole batch.
            Above 1 it needs `freeze_batch_norm` and one device.
        strategy: the devices of a training step: "single", "mirrored" (all GPUs of this machine, TensorFlow) or
            "data_parallel" (all devices of this machine, JAX); see `kreid.training.set_strategy`.
        mining: for "mirrored", where metric losses look for positives and negatives: in the "global" batch, as on one
            device, or in each "replica" alone.
        batch_norm: for "mirrored", whose statistics batch normalisation uses: those of the "global" batch, as on one
            device, or each "replica"'s own, with averaged moving statistics.
        seed: seed of all random draws.
        holdout: share of the train persons that is held out where something is chosen or fitted on them: with
            `select: best`, `early_stopping` or a `false_match_rate`. Else, or with 0, all are trained on. With a data
            set's validation set no person is held out: it is evaluated, and choices are made on it.
        holdout_every: epochs between evaluations of the held-out persons.
        select: results and export come from the "last" checkpoint or the "best" by held-out mAP.
        false_match_rate: share of pairs of different persons to accept as one person, such as 0.001; the verification
            threshold is fitted to it on the held-out persons. Null for no threshold: a ranking needs none.
        evaluate_untrained: also evaluate before training.
        export: also write the model as a SavedModel to serve, as `kreid export` does for any run.
        also_test_frames: further numbers of frames to evaluate with, instead of `test_frames`.
        max_damaged: share of unreadable frames above which the run stops.
        cache: where the train frames are kept decoded: null, "memory", or a folder; see `kreid.data.FrameCache`.
        data: name of the data set.
        data_dir: its folder.
        split: number of the split, from 1, for data sets with several; recipes set it.
        persons: number of persons to use, for data sets with a choice: 178 or 200 of PRID2011; null for others.
        image_dirs: folders of single images to train on where `data` is "images"; see `kreid.data.readers.read_images`.
        model: the system's own arguments.

    Raises:
        ValueError: if a number or `checkpoint_every` is out of its range, the best checkpoint is selected without
            held-out persons, a metric loss is unknown, refuses its settings or has no two tracklets of a person in a
            batch, or a step schedule has both kinds of steps.
    """

    system: str
    backbone: str = "resnet50"
    backbone_width: int | None = None
    stem_stride: int = 4
    last_stride: int = 2
    weights: str | None = None
    weights_preprocessing: str | None = None
    weights_licence: str | None = None
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
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: float = 9.0
    bad_frames: dict | None = None
    smoothing: float = 0.0
    metric_loss: str = "batch_hard_triplet"
    metric_settings: dict | None = None
    triplet_weight: float = 1.0
    triplet_margin: float | str = 0.3
    triplet_distance: str = "euclidean"
    min_max_weight: float = 0.0
    loss_reduction: str = "mean"
    optimizer: str = "adam"
    learning_rate: float = 3e-4
    backbone_rate: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight_decay_kind: str = "l2"
    schedule: str = "constant"
    decay_epochs: list[int] = dataclasses.field(default_factory=list)
    decay_every: int | None = None
    decay_factor: float = 0.1
    warmup_epochs: int = 0
    clip_norm: float | None = None
    accumulate: int = 1
    ema_momentum: float | None = None
    epochs: int = 100
    frozen_epochs: int = 0
    unfreeze_every: int | None = None
    freeze_batch_norm: bool = False
    early_stopping: int | None = None
    callbacks: list[str] = dataclasses.field(default_factory=list)
    checkpoint_every: str = "epoch"
    precision: str = "auto"
    cached_chunks: int = 1
    strategy: str = "single"
    mining: str = "global"
    batch_norm: str = "global"
    seed: int = 0
    holdout: float = 0.1
    holdout_every: int = 10
    select: str = "last"
    false_match_rate: float | None = None
    evaluate_untrained: bool = False
    export: bool = True
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
        for name in ("weights_preprocessing", "weights_licence"):
            if self.weights is None and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} describes the file of starting weights; name it by weights, or leave {name} out. "
                    f"Received: {name}={getattr(self, name)!r}, weights=None"
                )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"The learning rate is a positive number. Received: learning_rate={self.learning_rate!r}")
        if self.clip_norm is not None and not 0 < self.clip_norm < math.inf:
            raise ValueError(
                f"Gradients are clipped to a positive norm, or null. Received: clip_norm={self.clip_norm!r}"
            )
        if self.accumulate < 1:
            raise ValueError(f"An update takes at least one batch. Received: accumulate={self.accumulate!r}")
        if self.accumulate > 1 and self.strategy == "mirrored":
            raise ValueError(
                "Mirrored optimisers accumulate no batches; set accumulate=1, or use data_parallel on JAX. "
                f"Received: accumulate={self.accumulate!r}, strategy={self.strategy!r}"
            )
        if self.ema_momentum is not None and not 0 < self.ema_momentum < 1:
            raise ValueError(
                "The momentum of averaged weights is above 0 and below 1, or null for none. "
                f"Received: ema_momentum={self.ema_momentum!r}"
            )
        for name in (
            "seed",
            "weight_decay",
            "triplet_weight",
            "min_max_weight",
            "momentum",
            "backbone_rate",
            "decay_factor",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is a number of at least 0. Received: {name}={getattr(self, name)!r}")
        if self.false_match_rate is not None and not 0 < self.false_match_rate < 1:
            raise ValueError(
                "A false-match rate is above 0 and below 1, or null. "
                f"Received: false_match_rate={self.false_match_rate!r}"
            )
        # Images have no persons to hold out; a recipe's settings are those of all its phases.
        if self.false_match_rate is not None and not self.holdout and self.data != "images":
            raise ValueError(
                "The verification threshold is fitted on held-out persons; set holdout above 0, or "
                f"false_match_rate=null. Received: false_match_rate={self.false_match_rate!r}, holdout={self.holdout!r}"
            )
        if self.also_test_frames and (self.model.get("test_frames") is None or min(self.also_test_frames) < 1):
            raise ValueError(
                "Further numbers of test frames are positive, and replace a test_frames that is not null. "
                f"Received: also_test_frames={self.also_test_frames!r}, test_frames={self.model.get('test_frames')!r}"
            )
        if self.select == "best" and not self.holdout:
            raise ValueError(
                f"The best checkpoint is chosen on held-out persons; set holdout above 0, or select=last. "
                f"Received: select={self.select!r}, holdout={self.holdout!r}"
            )

        if self.early_stopping is not None and (
            self.early_stopping < 1 or (not self.holdout and self.data != "images")
        ):
            raise ValueError(
                "Training stops early by the mAP of held-out persons, after one epoch or more without a better one; "
                "set holdout above 0, or early_stopping=null. "
                f"Received: early_stopping={self.early_stopping!r}, holdout={self.holdout!r}"
            )
        if self.holdout_every < 1:
            raise ValueError(
                "Held-out persons are evaluated every so many epochs, at least 1; a number above `epochs` evaluates "
                f"them at the end alone. Received: holdout_every={self.holdout_every!r}"
            )
        if self.decay_every is not None and (self.decay_every < 1 or self.decay_epochs):
            raise ValueError(
                "A step schedule decays after each of decay_epochs or every decay_every epochs, a positive number; set "
                f"one, and decay_epochs=[] or decay_every=null. Received: decay_every={self.decay_every!r}, "
                f"decay_epochs={self.decay_epochs!r}"
            )
        if self.bad_frames is not None:
            BadFrames.from_settings(self.bad_frames).counts(self.num_frames)
        if self.metric_loss != "batch_hard_triplet" or self.metric_settings is not None:
            from kreid.training.metric_losses import build_metric_loss  # Imports Keras.

            build_metric_loss(self, "sum" if self.loss_reduction == "sum" else "sum_over_batch_size")
        self._check_freezing()
        for name in self.callbacks:
            module, colon, factory = name.partition(":")
            if not colon or not factory.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
                raise ValueError(f"A callback is named as package.module:factory. Received: callbacks={name!r}")
        checkpoint_interval(self.checkpoint_every)
        self._check_chunks()
        if self.strategy != "mirrored" and "replica" in (self.mining, self.batch_norm):
            raise ValueError(
                "Only strategy=mirrored has replicas; set mining=global and batch_norm=global. "
                f"Received: strategy={self.strategy!r}, mining={self.mining!r}, batch_norm={self.batch_norm!r}"
            )
        self._check_batch()

    def _check_chunks(self) -> None:
        size = self.batch_size
        if self.sampler == "persons":
            size = self.persons_per_batch * self.tracklets_per_person
        if self.cached_chunks < 1 or (size is not None and size % self.cached_chunks):
            raise ValueError(
                f"A batch of {size} is cut into equal chunks; choose a divisor of {size}. "
                f"Received: cached_chunks={self.cached_chunks!r}"
            )
        if self.cached_chunks > 1 and (not self.freeze_batch_norm or self.strategy != "single"):
            raise ValueError(
                "Chunks embed as the whole batch only if batch normalisation is frozen, on one device; set "
                "freeze_batch_norm=true and strategy=single, or cached_chunks=1. "
                f"Received: cached_chunks={self.cached_chunks!r}, freeze_batch_norm={self.freeze_batch_norm!r}, "
                f"strategy={self.strategy!r}"
            )

    def _check_freezing(self) -> None:
        if self.frozen_epochs < 0:
            raise ValueError(f"Epochs are counted from 0. Received: frozen_epochs={self.frozen_epochs!r}")
        if self.unfreeze_every is not None and self.unfreeze_every < 1:
            raise ValueError(
                "Stages are unfrozen at least one epoch apart, or null. "
                f"Received: unfreeze_every={self.unfreeze_every!r}"
            )
        if self.freezes and self.model.get("freeze_backbone"):
            raise ValueError(
                "The backbone is frozen for the whole run by freeze_backbone; leave out frozen_epochs, unfreeze_every "
                f"and freeze_batch_norm. Received: freeze_backbone=True, frozen_epochs={self.frozen_epochs!r}, "
                f"unfreeze_every={self.unfreeze_every!r}, freeze_batch_norm={self.freeze_batch_norm!r}"
            )

    @property
    def freezes(self) -> bool:
        """Whether a part of the backbone is frozen, in some epochs or all."""
        return bool(self.frozen_epochs or self.unfreeze_every or self.freeze_batch_norm)

    def _check_batch(self) -> None:
        """Raise if batches have no two tracklets of one person, or no two persons, and a metric loss needs them."""
        weights = [name for name in ("triplet_weight", "min_max_weight") if getattr(self, name)]
        if not weights:
            return
        names, off = " and ".join(weights), " ".join(f"{name}=0" for name in weights)
        if self.sampler == "persons":
            needed = {"persons_per_batch": "two persons", "tracklets_per_person": "two tracklets of a person"}
            for name, pair in needed.items():
                if getattr(self, name) < 2:
                    raise ValueError(
                        f"The losses of {names} need {pair} in a batch: set {name} to 2 or more, or {off}. "
                        f"Received: {name}={getattr(self, name)!r}"
                    )
        elif self.batch_size is not None and self.batch_size < 3:
            raise ValueError(
                f"The losses of {names} need two tracklets of a person and one of another in a batch: "
                f"set batch_size to 3 or more, or {off}. Received: batch_size={self.batch_size!r}"
            )

    @property
    def holdout_purposes(self) -> list[str]:
        """What held-out persons are for: nothing, or some of choosing a checkpoint, stopping, fitting a threshold."""
        return holdout_purposes(dataclasses.asdict(self))

    def to_yaml(self) -> str:
        """Return the resolved settings as flat YAML text."""
        flat = dataclasses.asdict(self)
        flat.update(flat.pop("model"))
        return yaml.safe_dump(flat, sort_keys=False)


def checkpoint_interval(text: str) -> tuple[float, str]:
    """Read the setting `checkpoint_every`.

    Args:
        text: "epoch", or a positive number and "steps" or "minutes".

    Returns:
        The number, 0 for "epoch", and "epoch", "steps" or "minutes".

    Raises:
        ValueError: for another text.

    Example:

    >>> checkpoint_interval("500 steps"), checkpoint_interval("1.5 minutes"), checkpoint_interval("epoch")
    ((500.0, 'steps'), (1.5, 'minutes'), (0.0, 'epoch'))
    """
    if text == "epoch":
        return 0.0, "epoch"
    found = re.fullmatch(r"(\d+) (step)s?|(\d+(?:\.\d+)?) (minute)s?", text)
    amount = float(found[1] or found[3]) if found else 0.0
    if not found or not amount:
        raise ValueError(
            "Checkpoints are saved every epoch, or also every so many steps or minutes: 'epoch', '500 steps' or "
            f"'10 minutes'. Received: checkpoint_every={text!r}"
        )
    return amount, f"{found[2] or found[4]}s"


def holdout_purposes(settings: Mapping[str, Any]) -> list[str]:
    """Return what held-out persons are for, by the settings of a run; nothing if no person is held out.

    Example:

    >>> Config("sta").holdout_purposes
    []
    >>> Config("sta", select="best", false_match_rate=0.001).holdout_purposes
    ['choose the checkpoint', 'fit the verification threshold']
    """
    purposes = {
        "choose the checkpoint": settings.get("select") == "best",
        "stop training early": settings.get("early_stopping") is not None,
        "fit the verification threshold": settings.get("false_match_rate") is not None,
    }
    return [purpose for purpose, wanted in purposes.items() if wanted and settings.get("holdout")]


def changed_settings(old: Any, new: Config, free: Collection[str] = ()) -> str:
    """Compare the settings of a run with the requested settings.

    Settings that change neither a batch nor a weight may differ: `max_damaged`, `cache`, `callbacks`,
    `checkpoint_every`, `evaluate_untrained`, `export`, `holdout_every` if nothing is chosen by it, and `data_dir` if
    the old folder is gone. A setting that is missing from an older run has its default.

    Args:
        old: the data of the run's `config.yaml`.
        new: the requested `Config`.
        free: further settings that may differ.

    Returns:
        The differences as text, empty if there are none.
    """
    settings = yaml.safe_load(new.to_yaml())
    ignored = {*free, *_FREE_TO_CHANGE}
    if not isinstance(old, dict) or not old:
        old = {}
    else:
        old = {**yaml.safe_load(Config(system=new.system).to_yaml()), **old}
        if new.select == "best" or new.early_stopping:  # Chosen among the evaluated epochs.
            ignored.discard("holdout_every")
        if not pathlib.Path(old["data_dir"]).exists():  # The data was moved; two existing folders are two data sets.
            ignored.add("data_dir")
    keys = sorted(key for key in {**old, **settings} if settings.get(key) != old.get(key) and key not in ignored)
    return ", ".join(f"{key}={old.get(key)!r} there and {settings.get(key)!r} here" for key in keys)


def settings_digest(config: Config) -> str:
    """Return 8 hexadecimal digits of the settings that tell two runs apart.

    Not of `epochs`, which may grow, of the data's folder, and of those that change neither a batch nor a weight.

    Example:

    >>> first, other = Config("sta", seed=0), Config("sta", seed=1)
    >>> settings_digest(first) == settings_digest(Config("sta", export=False)) != settings_digest(other)
    True
    """
    settings = yaml.safe_load(config.to_yaml())
    kept = {key: value for key, value in settings.items() if key not in (*_FREE_TO_CHANGE, "data_dir", "epochs")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
