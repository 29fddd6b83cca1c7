"""The optimiser of a recipe, and its learning rate over the epochs."""

from typing import Any

import keras

from kreid.optimizers import L2SGD, L2Adam, WarmUp
from kreid.training.config import Config
from kreid.training.freezing import first_epoch


def build_optimizer(config: Config, steps_per_epoch: int, backbone: Any = None) -> keras.optimizers.Optimizer:
    """Make the optimiser of a `Config`, with its learning-rate schedule.

    Args:
        config: a `kreid.training.Config`.
        steps_per_epoch: batches of one epoch; `accumulate` of them are one update, and schedules count updates.
        backbone: the model's, for the settings of the backbone's own rate and of freezing.

    Returns:
        A Keras optimiser, `L2Adam` or `L2SGD` also for decoupled weight decay.

    Raises:
        ValueError: as `learning_rate` raises it, or if the backbone has settings of its own and is not given.

    Example:

    >>> optimizer = kreid.training.build_optimizer(kreid.training.Config("sta", weight_decay=0.001), steps_per_epoch=10)
    >>> type(optimizer).__name__, optimizer.l2
    ('L2Adam', 0.001)
    """
    options: dict[str, Any] = {
        "l2" if config.weight_decay_kind == "l2" else "weight_decay": config.weight_decay,
        "global_clipnorm": config.clip_norm,
    }
    if config.accumulate > 1:
        options["gradient_accumulation_steps"] = config.accumulate
    if config.ema_momentum is not None:
        options |= {"use_ema": True, "ema_momentum": config.ema_momentum}
    if (config.backbone_rate != 1.0 or config.freezes) and backbone is None:
        raise ValueError(
            "A backbone with its own rate or stages that start later is needed: "
            "build_optimizer(config, steps, model.backbone). "
            f"Received: backbone=None, backbone_rate={config.backbone_rate!r}, frozen_epochs={config.frozen_epochs!r}"
        )
    if config.backbone_rate != 1.0:
        options["rates"] = {f"{backbone.path}/": config.backbone_rate}
    rate = learning_rate(config, steps_per_epoch)
    if config.optimizer == "sgd":
        return L2SGD(rate, momentum=config.momentum, **options)
    if config.freezes:
        # A stage that you froze yourself has no variable in the optimiser.
        starts = {
            stage.path: first_epoch(config, number)
            for number, stage in enumerate(backbone.stages)
            if stage.trainable_weights
        }
        options["starts"] = {
            f"{path}/": epoch * steps_per_epoch // config.accumulate for path, epoch in starts.items() if epoch
        }
    return L2Adam(rate, **options)


def learning_rate(config: Config, steps_per_epoch: int) -> "float | keras.optimizers.schedules.LearningRateSchedule":
    """Return the learning rate of a `Config`: a number, or a Keras schedule over updates of the weights.

    Args:
        config: a `kreid.training.Config`.
        steps_per_epoch: batches of one epoch; with `accumulate`, a boundary inside an update holds from the next on.

    Returns:
        A float or a `keras.optimizers.schedules.LearningRateSchedule`.

    Raises:
        ValueError: if the warm-up takes all epochs, or a step schedule has no epochs to decay after.

    Example:

    >>> config = kreid.training.Config("sta", schedule="step", decay_every=2, epochs=6)
    >>> schedule = kreid.training.learning_rate(config, steps_per_epoch=10)
    >>> [round(float(schedule(step)), 6) for step in (0, 19, 20, 40)]
    [0.0003, 0.0003, 3e-05, 3e-06]
    """
    if not 0 <= config.warmup_epochs < config.epochs:
        raise ValueError(
            f"Warming up must end before the last epoch. Received: warmup_epochs={config.warmup_epochs!r}, "
            f"epochs={config.epochs!r}"
        )
    warmup = _updates(config, config.warmup_epochs, steps_per_epoch)
    if config.schedule == "cosine":
        steps = _updates(config, config.epochs, steps_per_epoch) - warmup
        if warmup == 0:
            return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)
        return keras.optimizers.schedules.CosineDecay(
            config.learning_rate / 10, steps, warmup_target=config.learning_rate, warmup_steps=warmup
        )
    rate = config.learning_rate if config.schedule == "constant" else _steps(config, steps_per_epoch)
    return WarmUp(rate, warmup) if warmup else rate


def _steps(config: Config, steps_per_epoch: int) -> "float | keras.optimizers.schedules.LearningRateSchedule":
    """Return the rate of a step schedule; epochs count from the start of the warm-up."""
    epochs = config.decay_epochs
    if config.decay_every is not None:
        epochs = list(range(config.decay_every, config.epochs, config.decay_every))
        if not epochs:
            return config.learning_rate
    if not epochs or sorted(epochs) != epochs:
        raise ValueError(
            "A step schedule needs decay_epochs, the epochs to decay after, in order, or decay_every. "
            f"Received: decay_epochs={config.decay_epochs!r}, decay_every={config.decay_every!r}"
        )
    values = [config.learning_rate * config.decay_factor**i for i in range(len(epochs) + 1)]
    # Keras switches after the boundary's update, counted from 0.
    boundaries = [_updates(config, epoch, steps_per_epoch) - 1 for epoch in epochs]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def _updates(config: Config, epochs: int, steps_per_epoch: int) -> int:
    """Return the updates of the weights that begin in a number of epochs."""
    return -(-epochs * steps_per_epoch // config.accumulate)
