"""MG-RAFA: every row of Tables 2 to 5, and equation 7 in float64."""

import keras
import numpy as np
import pytest
from keras import ops

import kreid
from kreid import training
from kreid.models import MGRAFA

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(29)
SIZE = (64, 32)
FRAMES = RNG.integers(0, 256, (4, 5, *SIZE, 3)).astype("uint8")
LENGTHS = np.array([5, 1, 3, 0])
LABELS = np.array([0, 0, 1, 1], "int32")
SINGLE = {"num_granularities": 1}
GRID = {**SINGLE, "references": "grid"}

# The rows of Tables 2 to 5 in their order, for maps of 4x2 and T=4: settings, and the attentions that are explained.
ROWS = {
    "Baseline": ({**SINGLE, "attention": "average"}, {"frames": (4,)}),
    "MG-AFA": ({"references": "none"}, {"maps_1": (4, 4, 2), "maps_2": (4, 2, 1)}),
    "SG-RAFA (S=1)": (SINGLE, {"maps_1": (4, 4, 2)}),
    "SG-RAFA (S=4)": ({**SINGLE, "num_splits": 4}, {f"maps_{m}": (4, 4, 2) for m in (1, 2, 3, 4)}),
    "MG-RAFA": ({}, {"maps_1": (4, 4, 2), "maps_2": (4, 2, 1)}),
    "S-P": ({**GRID, "reference_grid": [2, 1, 4]}, {"maps_1": (4, 4, 2)}),
    "T-P": ({**GRID, "reference_grid": [4, 2, 2]}, {"maps_1": (4, 4, 2)}),
    "ST": ({**GRID, "reference_grid": [4, 2, 4]}, {"maps_1": (4, 4, 2)}),
    "NL(S)": ({**SINGLE, "attention": "non_local_space"}, {"frames": (4,), "maps_1": (4, 4, 2)}),
    "NL(ST)": ({**SINGLE, "attention": "non_local_space_time"}, {"frames": (4,), "maps_1": (4, 4, 2)}),
}
for name, attention, weights in (
    ("RGA-SC", "relation_aware", ("maps", "channels")),
    ("SE", "squeeze_excitation", ("channels",)),
    ("CBAM", "convolutional_block", ("maps", "channels")),
):
    shapes = {"maps_1": (4, 4, 2), "channels_1": (4, 128)}
    ROWS[name] = (
        {**SINGLE, "attention": attention},
        {"frames": (4,), **{f"{kind}_1": shapes[f"{kind}_1"] for kind in weights}},
    )
    shapes = {"maps_1": (4, 4, 2), "maps_2": (4, 2, 1), "channels_1": (4, 64), "channels_2": (4, 64)}
    ROWS[f"{name} (MG)"] = (
        {"attention": attention},
        {"frames": (4,), **{f"{kind}_{m}": shapes[f"{kind}_{m}"] for kind in weights for m in (1, 2)}},
    )


def config(row="MG-RAFA", **common):
    return training.Config("mg_rafa", **common, model=settings(row))


def settings(row):
    return {"num_granularities": 2, **ROWS[row][0]}


def make(row="MG-RAFA", **kwargs):
    keras.utils.set_random_seed(2)
    backbone = kreid.backbones.build("resnet_tiny", SIZE, 1)
    return MGRAFA(backbone, 6, **{"reduction": 2, "num_frames": 4, "test_frames": 4, **settings(row), **kwargs})


def batch(losses):
    return {"frames": FRAMES[:, :4], "lengths": np.full(4, 4, "int32")}, dict.fromkeys(losses, LABELS)


def trained(row, **kwargs):
    """A model after three steps, and what they logged."""
    model = make(row, **kwargs)
    losses = training.build_losses(config(row, smoothing=0.1))
    model.compile(keras.optimizers.SGD(0.003, momentum=0.9), loss=losses, jit_compile=False)
    return model, [model.train_on_batch(*batch(losses), return_dict=True) for _ in range(3)]


def vector_of_real_frames(model, frames):
    """The embedding of frames (T, H, W, 3) without padding, part by part through the model's own layers."""
    maps = model.backbone(model.preprocessing(frames[None]))
    if model.attention == "reference_aided":
        return ops.convert_to_numpy(model.aggregation(maps))[0]
    parts = model.split(maps)
    for m, layer in enumerate(model.weighting):
        parts[m] = layer(parts[m])
    return np.concatenate([ops.convert_to_numpy(part).mean(axis=(1, 2, 3))[0] for part in parts])


# One row of each attention and form of references; the others of these are slow.
FAST = ("MG-AFA", "SG-RAFA (S=1)", "MG-RAFA", "S-P", "NL(ST)", "RGA-SC (MG)", "CBAM", "SE")


@pytest.mark.parametrize("row", [row if row in FAST else pytest.param(row, marks=pytest.mark.slow) for row in ROWS])
def test_every_row_trains_ignores_padding_and_is_saved(row, tmp_path):
    before = {weight.path: ops.convert_to_numpy(weight) for weight in make(row).trainable_weights}
    model, logged = trained(row)
    assert all(np.isfinite(value) for step in logged for value in step.values())
    for (path, old), weight in zip(before.items(), model.trainable_weights, strict=True):
        # The next batch normalisation takes away the scale of a lone unit, such as RGA-SC's of so small maps.
        if old.size > 1:
            assert not np.array_equal(old, ops.convert_to_numpy(weight)), path

    noisy = FRAMES.copy()
    for b, length in enumerate(LENGTHS):
        noisy[b, length:] = 255
    embeddings = model.embed(FRAMES, LENGTHS)
    explained = model.explainer.predict_on_batch({"frames": noisy, "lengths": LENGTHS})
    np.testing.assert_allclose(explained.pop("embedding"), embeddings, rtol=1e-5, atol=1e-6)
    for b, length in enumerate(LENGTHS[:3]):
        alone = vector_of_real_frames(model, FRAMES[b, model.selection.positions(length)])
        np.testing.assert_allclose(embeddings[b], alone, rtol=1e-3, atol=1e-4 * np.abs(alone).max())
    assert not embeddings[3].any()
    assert {name: value.shape[1:] for name, value in explained.items()} == ROWS[row][1]
    if model.attention == "reference_aided":
        for value in explained.values():
            np.testing.assert_allclose(value.sum(axis=(1, 2, 3)), [1, 1, 1, 0], rtol=1e-5)

    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras").embed(FRAMES, LENGTHS), embeddings)


@pytest.mark.parametrize("row", ["RGA-SC", "NL(ST)"])
def test_half_precision(row):
    half, logged = trained(row, dtype="mixed_float16")
    assert all(np.isfinite(value) for step in logged for value in step.values())
    full = make(row)
    full.set_weights(half.get_weights())
    expected = full.embed(FRAMES, LENGTHS)
    np.testing.assert_allclose(half.embed(FRAMES, LENGTHS), expected, atol=0.05 * np.abs(expected).max())


def identity_loss(logits, smoothing=0.1):
    values = []
    for row, label in zip(logits, LABELS, strict=True):
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        values.append(-(target * (row - row.max() - np.log(np.exp(row - row.max()).sum()))).sum())
    return np.mean(values)


def triplet_loss(vectors, margin=0.3):
    values = []
    for a in range(4):
        to = [np.sqrt(((vectors[a] - other) ** 2).sum()) for other in vectors]
        positive = max(to[i] for i in range(4) if i != a and LABELS[i] == LABELS[a])
        negative = min(to[i] for i in range(4) if LABELS[i] != LABELS[a])
        values.append(max(0, margin + positive - negative))
    return np.mean(values)


@pytest.mark.parametrize(("row", "granularities"), [("MG-RAFA", 2), ("SG-RAFA (S=1)", 0)])
def test_equation_7_in_float64(row, granularities):
    model, _ = trained(row)
    losses = model.loss
    assert tuple(losses) == model.loss_targets
    inputs, labels = batch(losses)
    logged = model.test_on_batch(inputs, labels, return_dict=True)
    outputs = model(inputs, training=False)
    assert set(losses) == set(outputs)
    v = ops.convert_to_numpy(outputs["features"]).astype("float64")

    def heads_loss(vector, bnneck, classifier):
        gamma, mean, variance = (w.astype("float64") for w in bnneck.get_weights())
        normalised = gamma * (vector - mean) / np.sqrt(variance + 1e-5)
        return identity_loss(normalised @ classifier.get_weights()[0].astype("float64")) + triplet_loss(vector)

    total = heads_loss(v, model.bnneck, model.classifier)
    each = [
        heads_loss(part, model.get_layer(f"bnneck_{g}"), model.get_layer(f"logits_{g}"))
        for g, part in enumerate(np.split(v, granularities, axis=1) if granularities else [], 1)
    ]
    total += sum(each) / len(each) if each else 0
    np.testing.assert_allclose(logged["loss"], total, rtol=1e-4)
    for g, value in enumerate(each, 1):
        np.testing.assert_allclose(
            logged[f"logits_{g}_loss"] + logged[f"features_{g}_loss"], value / granularities, rtol=1e-4
        )


def test_granularity_losses_can_be_left_out():
    model = make(granularity_losses=False)
    assert model.loss_targets == ("logits", "features")
    assert set(model(batch(())[0])) == {"logits", "features"}
    with pytest.raises(ValueError, match="No such layer: logits_1"):
        model.get_layer("logits_1")
