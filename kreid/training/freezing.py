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
    not by updates of 0, which would cost a whole step. Outside of epochs everything is trainable that was when `fit`
    began: files and the optimiser keep the variables of all stages, a run continues in any epoch, and layers that you
    froze yourself stay frozen throughout. Put it before callbacks that save.

    Args:
        config: a `kreid.training.Config`.

    Raises:
        ValueError: at the first epoch, if the model itself keeps its backbone frozen.
    """

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self._compiled: int | None = None
        self._layers: list[tuple[keras.layers.Layer, bool]] = []
        self._variables: list[tuple[keras.Variable, bool]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Remember what is trainable, and let the optimiser have variables of all stages from the start."""
        self._restore()  # After an epoch that Ctrl-C ended.
        backbone = self.model.backbone
        self._layers = [(layer, layer.trainable) for layer in backbone._flatten_layers(include_self=False)]
        self._variables = [(variable, variable.trainable) for variable in backbone.weights]
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
            names = ", ".join(stage.name for stage in backbone.stages if stage.trainable_weights)
            norm = ", without batch normalisation" if trained and self.config.freeze_batch_norm else ""
            print(f"From epoch {epoch + 1} on, the backbone trains: {names or 'nothing'}{norm}.")
            self._compiled = trained
            self.model.make_train_function(force=True)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Make trainable what was when training began, as it is saved."""
        self._restore()

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Make trainable inside an epoch what was when training began, to save it, and freeze again."""
        self._restore()
        try:
            yield
        finally:
            self._freeze()

    def _restore(self) -> None:
        # Without Keras's setter, which changes the layers inside a layer too: branches share theirs.
        for layer, trainable in self._layers:
            layer._trainable = trainable
        for variable, trainable in self._variables:
            variable.trainable = trainable

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
