"""Freeze a backbone's stages and batch normalisation, and train them later."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from kreid.training.config import Config

STAGES = 4


def trained_stages(config: "Config", epoch: int) -> int:
    """Return how many stages of the backbone, the last ones, are trained in an epoch.

    Args:
        config: a `kreid.training.Config`.
        epoch: from 0.

    Returns:
        0 to 4.

    Example:

    >>> config = kreid.training.Config("sta", frozen_epochs=2, unfreeze_every=3)
    >>> [kreid.training.trained_stages(config, epoch) for epoch in (0, 1, 2, 4, 5, 8, 11, 99)]
    [0, 0, 1, 1, 2, 3, 4, 4]
    """
    if epoch < config.frozen_epochs:
        return 0
    if config.unfreeze_every is None:
        return STAGES
    return min(STAGES, 1 + (epoch - config.frozen_epochs) // config.unfreeze_every)


def first_epoch(config: "Config", stage: int) -> int:
    """Return the epoch, from 0, in which the training of a stage of the backbone, 0 to 3, starts."""
    return config.frozen_epochs + (STAGES - 1 - stage) * (config.unfreeze_every or 0)


class Freezing(keras.callbacks.Callback):
    """Train only what a `Config` trains in each epoch: `frozen_epochs`, `unfreeze_every`, `freeze_batch_norm`.

    A frozen stage or batch normalisation runs in its inference form, and its gradients are not computed. So a stage is
    frozen by `trainable`, which compiles the training step anew where another stage starts (at most four times), and
    not by updates of 0, which would cost a whole step. Outside of epochs all is trainable: files and the optimiser keep
    the variables of all stages, and a run continues in any epoch. Put it before callbacks that save.

    Args:
        config: a `kreid.training.Config`.

    Raises:
        ValueError: at the first epoch, if the model itself keeps its backbone frozen.
    """

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self._compiled: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Let the optimiser have variables of all stages from the start."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Freeze what this epoch does not train."""
        backbone = self.model.backbone
        if not backbone.trainable:
            raise ValueError(
                "The model keeps its backbone frozen; leave out frozen_epochs, unfreeze_every and freeze_batch_norm. "
                f"Received: a backbone with trainable={backbone.trainable!r}"
            )
        self._epoch, trained = epoch, trained_stages(self.config, epoch)
        self._freeze()
        if trained != self._compiled:
            names = ", ".join(stage.name for stage in backbone.stages[STAGES - trained :])
            norm = ", without batch normalisation" if trained and self.config.freeze_batch_norm else ""
            print(f"From epoch {epoch + 1} on, the backbone trains: {names or 'nothing'}{norm}.")
            self._compiled = trained
            self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Make all trainable, as it is saved."""
        # TensorFlow skips a stage that is trainable already, and the layers inside it.
        for layer in (*self.model.backbone.stages, *_batch_normalizations(self.model.backbone)):
            layer.trainable = True

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Make all trainable inside an epoch, to save it, and freeze again."""
        self.on_epoch_end(self._epoch)
        try:
            yield
        finally:
            self._freeze()

    def _freeze(self) -> None:
        backbone = self.model.backbone
        for stage in backbone.stages[: STAGES - trained_stages(self.config, self._epoch)]:
            stage.trainable = False
        if self.config.freeze_batch_norm:
            for layer in _batch_normalizations(backbone):
                layer.trainable = False


def _batch_normalizations(backbone: keras.Model) -> list[keras.layers.Layer]:
    layers = backbone._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
