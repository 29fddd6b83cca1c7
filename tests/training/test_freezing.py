"""Stages and batch normalisation that are frozen for a while: what moves in which epoch."""

import keras
import numpy as np
import pytest

import kreid
from kreid.training import Config, Freezing, build_optimizer, trained_stages

pytestmark = pytest.mark.usefixtures("eagerly")

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 2, 32, 32, 3), dtype=np.uint8)
INPUTS = {"frames": FRAMES, "lengths": np.full(4, 2, "int32")}
LABELS = {"logits": np.array([0, 0, 1, 1])}


class Moved(keras.callbacks.Callback):
    """The stages and other layers whose weights change in each epoch, by kind of weight."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.before = [np.asarray(weight) for weight in self.model.weights]

    def on_epoch_end(self, epoch, logs=None):
        moved = set()
        for weight, before in zip(self.model.weights, self.before, strict=True):
            if not np.array_equal(weight, before):
                parts = weight.path.split("/")
                kind = "moving" if "moving" in parts[-1] else "norm" if parts[-1] in ("gamma", "beta") else "kernel"
                moved.add((parts[1] if parts[0] == "resnet_tiny" else "head", kind))
        self.epochs.append(moved)


def fitted(epochs, by_hand=(), **settings):
    keras.utils.set_random_seed(2)
    config = Config("baseline", learning_rate=1e-2, epochs=epochs, **settings)
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2)
    for name in by_hand:
        next(layer for layer in model.backbone._flatten_layers() if layer.name == name).trainable = False
    optimizer = build_optimizer(config, 1, model.backbone)
    model.compile(optimizer, {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    moved = Moved()
    model.fit(INPUTS, LABELS, batch_size=4, epochs=epochs, callbacks=[Freezing(config), moved], verbose=0)
    return model, moved.epochs


def stages(moved):
    return sorted({place for place, _ in moved})


@pytest.mark.usefixtures("in_graphs")
def test_the_compiled_step_follows():
    _, epochs = fitted(2, frozen_epochs=1)
    assert [stages(moved) for moved in epochs] == [["head"], ["conv2", "conv3", "conv4", "conv5", "head"]]


def test_stages_start_one_by_one_from_the_last(capsys):
    model, epochs = fitted(6, frozen_epochs=1, unfreeze_every=1)
    assert [stages(moved) for moved in epochs] == [
        ["head"],
        ["conv5", "head"],
        ["conv4", "conv5", "head"],
        ["conv3", "conv4", "conv5", "head"],
        ["conv2", "conv3", "conv4", "conv5", "head"],
        ["conv2", "conv3", "conv4", "conv5", "head"],
    ]
    # A frozen stage keeps its moving statistics too, and one that trains moves all of its weights.
    assert {kind for place, kind in epochs[1] if place == "conv5"} == {"kernel", "norm", "moving"}
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "nothing.",
        "conv5.",
        "conv4, conv5.",
        "conv3, conv4, conv5.",
        "conv2, conv3, conv4, conv5.",
    ]
    # Nothing is left frozen, in files and in the optimiser.
    assert len(model.trainable_variables) == len(model.optimizer._trainable_variables)


def test_batch_normalisation_stays(capsys):
    _, epochs = fitted(2, freeze_batch_norm=True)
    for moved in epochs:
        assert {kind for place, kind in moved if place != "head"} == {"kernel"}
        assert ("head", "norm") in moved
    assert capsys.readouterr().out == (
        "From epoch 1 on, the backbone trains: conv2, conv3, conv4, conv5, without batch normalisation.\n"
    )


def test_layers_frozen_by_hand_stay(capsys):
    # A whole stage, a convolution of a stage that starts later, and the batch normalisation beside it.
    by_hand = ("conv2", "conv4_block1_1_conv", "conv4_block1_2_bn")
    model, epochs = fitted(4, by_hand, frozen_epochs=1, unfreeze_every=1, freeze_batch_norm=True)
    assert [stages(moved) for moved in epochs] == [
        ["head"],
        ["conv5", "head"],
        ["conv4", "conv5", "head"],
        ["conv3", "conv4", "conv5", "head"],
    ]
    frozen = {layer.name for layer in model.backbone._flatten_layers() if not layer.trainable}
    assert set(by_hand) <= frozen
    assert not {"conv3_block1_1_bn", "conv4_block1_1_bn", "conv4_block1_2_conv", "conv5"} & frozen
    assert len(model.trainable_variables) == len(model.optimizer._trainable_variables)
    assert capsys.readouterr().out.splitlines()[-1].split(": ")[1] == (
        "conv3, conv4, conv5, without batch normalisation."
    )


def test_a_stage_starts_like_a_new_optimizer():
    config = Config("baseline", frozen_epochs=2, unfreeze_every=3, accumulate=4, backbone_rate=0.1)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8)
    optimizer = build_optimizer(config, 10, backbone)
    # Epochs 2, 5, 8 and 11 start with batches 20, 50, 80 and 110.
    assert optimizer.get_config()["starts"] == {
        "resnet_tiny/conv2/": 27,
        "resnet_tiny/conv3/": 20,
        "resnet_tiny/conv4/": 12,
        "resnet_tiny/conv5/": 5,
    }
    assert build_optimizer(Config("baseline"), 10, backbone).get_config()["starts"] == {}
    with pytest.raises(ValueError, match=r"build_optimizer\(config, steps, model.backbone\).*frozen_epochs=2"):
        build_optimizer(config, 10)


def test_all_stages_at_once():
    config = Config("baseline", frozen_epochs=2)
    assert [trained_stages(config, epoch) for epoch in range(4)] == [0, 0, 4, 4]
    assert [trained_stages(Config("baseline", unfreeze_every=2), epoch) for epoch in range(8)] == [
        1, 1, 2, 2, 3, 3, 4, 4,
    ]  # fmt: skip


def test_freezing_is_lifted_for_a_file_inside_an_epoch():
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2)
    model.compile("sgd", {"logits": "mse"})
    callback = Freezing(Config("baseline", frozen_epochs=1, unfreeze_every=1, freeze_batch_norm=True))
    callback.set_model(model)
    callback.on_train_begin()
    everything = {weight.path for weight in model.trainable_weights}
    callback.on_epoch_begin(1)
    frozen = {weight.path for weight in model.trainable_weights}
    assert frozen < everything
    with callback.lifted():
        assert {weight.path for weight in model.trainable_weights} == everything
    assert {weight.path for weight in model.trainable_weights} == frozen


def test_a_backbone_that_the_model_keeps_frozen():
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32), width=8), 2)
    model.backbone.trainable = False
    callback = Freezing(Config("baseline", frozen_epochs=1))
    callback.set_model(model)
    with pytest.raises(ValueError, match="keeps its backbone frozen"):
        callback.on_epoch_begin(0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"frozen_epochs": -1}, "Received: frozen_epochs=-1"),
        ({"unfreeze_every": 0}, "Received: unfreeze_every=0"),
        ({"freeze_batch_norm": True, "model": {"freeze_backbone": True}}, "freeze_backbone.*freeze_batch_norm=True"),
    ],
)
def test_settings_that_cannot_be(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        Config("gltr", **settings)
