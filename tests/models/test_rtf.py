"""RTF: every row of Tables 1 and 2, the aggregation in float64, branches, and the stages that frames pass."""

import keras
import numpy as np
import pytest
from keras import ops

import kreid
from kreid.losses import BatchHardTriplet, SmoothedIdentity
from kreid.models import RTF, count_macs

pytestmark = pytest.mark.usefixtures("eagerly")

RNG = np.random.default_rng(29)
SIZE = (64, 32)
FRAMES = RNG.integers(0, 256, (4, 5, *SIZE, 3)).astype("uint8")
LENGTHS = np.array([5, 1, 3, 0])

# The rows of both tables in their order; the last row of Table 2 is the default.
ROWS = {
    "feature_average": {"fusion": "feature_average"},
    "early": {"fusion": "early", "attention": "average"},
    "late": {"fusion": "late", "attention": "average"},
    "ms_average": {"fusion": "multi_stage", "semantic": "average", "attention": "average"},
    "ms_semantic": {"fusion": "multi_stage", "semantic": "attention", "attention": "average"},
    "intra": {"fusion": "late", "attention": "intra"},
    "inter_euclidean": {"fusion": "late", "attention": "inter_euclidean"},
    "inter_relation": {"fusion": "late", "attention": "inter_relation"},
    "intra_inter_euclidean": {"fusion": "late", "attention": "intra_inter_euclidean"},
    "intra_inter_relation": {"fusion": "late", "attention": "intra_inter_relation"},
    "all": {},
}
# Beyond the tables: attention with early fusion, some stages, one of them.
MORE = {
    "early_intra": {"fusion": "early", "attention": "intra"},
    "as_printed": {"semantic": "attention_as_printed"},
    "some_stages": {"stages": (3, 1), "semantic": "average"},
    "one_stage": {"stages": [3], "attention": "inter_euclidean"},
}
FUSED_AFTER = {"early": [2], "late": [4], "some_stages": [1, 3], "one_stage": [3], "early_intra": [2]}
EVERY = {**ROWS, **MORE}


def make(row="all", **kwargs):
    settings = {"embedding_dim": 12, "relation_dim": 32, **EVERY[row], **kwargs}
    return RTF(kreid.backbones.build("resnet_tiny", SIZE, 1), 6, **settings)


def fused_after(row):
    return FUSED_AFTER.get(row, [1, 2, 3, 4] if EVERY[row].get("fusion", "multi_stage") == "multi_stage" else [4])


def moved(model):
    """Other values for all that starts at 0 or 1: biases, scales, and the statistics of each branch for itself."""
    rng = np.random.default_rng(3)
    for weight in model.weights:
        value = ops.convert_to_numpy(weight)
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(value * rng.uniform(0.7, 1.4, value.shape))
        elif "kernel" not in weight.path and "theta" not in weight.path:
            weight.assign(value + rng.normal(scale=0.1, size=value.shape))
    return model


def batch():
    labels = np.array([0, 0, 1, 1], "int32")
    return {"frames": FRAMES, "lengths": np.full(4, 5, "int32")}, {"logits": labels, "features": labels}


def train(model):
    if not model.compiled:
        losses = {"logits": SmoothedIdentity(0.1), "features": BatchHardTriplet(0.3)}
        model.compile(keras.optimizers.SGD(0.01), loss=losses, jit_compile=False)
    return model.train_on_batch(*batch(), return_dict=True)


# Each fusion, semantic fusion and attention once; the others are slow, but for their equations.
FAST = ("feature_average", "early", "late", "inter_euclidean", "all", "some_stages")


@pytest.mark.parametrize("row", [row if row in FAST else pytest.param(row, marks=pytest.mark.slow) for row in EVERY])
def test_every_row_trains_ignores_padding_and_is_saved(row, tmp_path):
    keras.utils.set_random_seed(0)
    model = make(row)
    before = {weight.path: ops.convert_to_numpy(weight) for weight in model.trainable_weights}
    for _ in range(2):
        assert all(np.isfinite(value) for value in train(model).values())
    for weight in model.trainable_weights:
        assert not np.array_equal(before[weight.path], ops.convert_to_numpy(weight)), weight.path
    moved(model)
    embeddings = model.embed(FRAMES, LENGTHS)
    assert embeddings.shape == (4, 12)
    assert np.isfinite(embeddings).all()
    other = FRAMES.copy()
    for b, length in enumerate(LENGTHS):
        other[b, length:] = 255
    np.testing.assert_array_equal(model.embed(other, LENGTHS), embeddings)
    expected = model.embed(FRAMES)
    shuffled = model.embed(FRAMES[:, [3, 0, 4, 1, 2]])
    np.testing.assert_allclose(shuffled, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.embed(FRAMES, LENGTHS), embeddings)
    assert loaded.backbone.branches == tuple(stage for stage in fused_after(row) if stage < 4)


@pytest.mark.parametrize(
    ("row", "policy"),
    [("early", "mixed_bfloat16"), ("intra_inter_euclidean", "mixed_float16"), ("all", "mixed_bfloat16")],
)
def test_mixed_precision(row, policy):
    keras.config.set_dtype_policy(policy)
    try:
        half = make(row)
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(value) for value in train(half).values())
    full = make(row)
    full.set_weights(half.get_weights())
    expected = full.embed(FRAMES, LENGTHS)
    np.testing.assert_allclose(half.embed(FRAMES, LENGTHS), expected, atol=0.05 * np.abs(expected).max())


def weights_of(layer):
    return [weight.astype("float64") for weight in layer.get_weights()]


def intra_scores(model, f):
    """Equation 3."""
    kernel, bias = weights_of(model.intra)
    return np.array([1 / (1 + np.exp(-(one @ kernel[:, 0] + bias[0]))) for one in f])


def inter_scores(model, f, relation):
    """Equation 4, or equations 5 and 6."""
    length = len(f)
    v = np.zeros(length)
    if relation:
        f = f / np.sqrt((f**2).sum(axis=1, keepdims=True))
        kernel, bias, theta, *later = weights_of(model.inter)

        def perceptron(x):
            for k, b in [(kernel, bias), *zip(later[::2], later[1::2], strict=True)]:
                x = np.maximum(x @ k + b, 0)
            return x

    for i in range(length):
        for j in range(length):
            if not relation:
                v[i] += np.sqrt(((f[i] - f[j]) ** 2).sum()) / length
            elif j != i:
                r = perceptron(np.concatenate([f[i], f[j]])) + perceptron(np.concatenate([f[j], f[i]]))
                v[i] += max(theta @ r, 0) / (length - 1)
    return v


def frame_weights(model, row, f):
    """Equation 2 and the normalisation of algorithm 1, and the attentions by name."""
    attention = EVERY[row].get("attention", "intra_inter_relation")
    if attention == "average" or row == "feature_average":
        return np.ones(len(f)), {}
    found = {}
    if "intra" in attention:
        found["intra"] = intra_scores(model, f)
    if "relation" in attention or "euclidean" in attention:
        found["inter"] = inter_scores(model, f, "relation" in attention)
    a = sum(values / (values.mean() or 1) for values in found.values()) / len(found)
    return (a / a.mean() if a.sum() else np.ones(len(f))), found


def semantic_weights(model, row, g):
    """Equations 7 and 8, or equal weights; they sum to 1, or to 1/K with equation 9 as printed."""
    semantic = EVERY[row].get("semantic")
    if semantic == "average" or len(g) == 1:
        return np.full(len(g), 1 / len(g))
    kernel, bias = weights_of(model.stage_fusion)
    scores = np.exp(np.array([vector @ kernel + bias for vector in g]))
    u = (scores / scores.sum(axis=1, keepdims=True)).mean(axis=0)
    return u / len(g) if semantic == "attention_as_printed" else u


@pytest.mark.parametrize("row", EVERY)
def test_algorithm_1_in_float64(row):
    model = moved(make(row))
    embeddings = model.embed(FRAMES, LENGTHS)
    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    kernel, bias = weights_of(model.dense)
    for b, length in enumerate(LENGTHS[:3]):
        maps = [model.preprocessing(FRAMES[b, :length])]
        for stage in model.backbone.stages:
            maps.append(stage(maps[-1]))
        maps = [ops.convert_to_numpy(one).astype("float64") for one in maps]
        a, attentions = frame_weights(model, row, maps[4].mean(axis=(1, 2)))
        g = []
        for after in fused_after(row):
            fused = sum(a[i] * maps[after][i] for i in range(length)) / length
            # Figure 5.
            if after in model.fused_after:
                np.testing.assert_allclose(
                    explained[f"map_{after}"][b], np.abs(fused).mean(axis=-1), rtol=1e-3, atol=1e-5
                )
            passed = fused[None].astype("float32")
            for stage in model.backbone.stages[after:]:
                passed = stage(passed, branch=after)
            g.append(ops.convert_to_numpy(passed)[0].astype("float64").mean(axis=(0, 1)) @ kernel + bias)
        u = semantic_weights(model, row, g)
        expected = sum(u[j] * g[j] for j in range(len(g)))
        np.testing.assert_allclose(embeddings[b], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(explained["frames"][b, :length], a / length, rtol=1e-3, atol=1e-5)
        assert not explained["frames"][b, length:].any()
        for name, values in attentions.items():
            np.testing.assert_allclose(explained[name][b, :length], values, rtol=1e-3, atol=1e-6)
            assert length == 1 or np.ptp(values) > 1e-3, "frames differ"
        if len(g) > 1:
            np.testing.assert_allclose(explained["stages"][b], u / u.sum(), rtol=1e-3)
    expected = {"embedding", "frames", *attentions, *(["stages"] if len(g) > 1 else [])}
    expected |= {f"map_{after}" for after in model.fused_after}
    assert set(explained) == expected


def copied(source, row):
    """A model of another row with the weights that both have, and the frames' statistics in every branch."""
    model = make(row)
    values = {weight.path: weight for weight in source.weights}
    for weight in model.weights:
        if weight.path in values:
            weight.assign(values[weight.path])
    model.backbone.copy_statistics()
    return model


def test_late_fusion_of_equal_frames_embeds_as_the_image_model():
    image_model = moved(make("feature_average"))
    expected = image_model.embed(FRAMES, LENGTHS)
    # The tracklet without frames left out: Dense gives its bias where it follows the mean.
    found = copied(image_model, "late").embed(FRAMES, LENGTHS)
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("row", EVERY)
def test_a_single_frame_passes_like_an_image(row):
    image_model = moved(make("feature_average"))
    expected = image_model.embed(FRAMES[:, :1])
    model = copied(image_model, row)
    stages = fused_after(row)
    # Equation 9 divides by K weights that already sum to 1.
    shrunk = len(stages) if EVERY[row].get("semantic") == "attention_as_printed" else 1
    np.testing.assert_allclose(model.embed(FRAMES[:, :1]) * shrunk, expected, rtol=1e-3, atol=1e-4)


def test_branches_keep_their_own_statistics():
    model = make("all")
    layer = model.backbone.named_layers()["conv5_block1_1_bn"]
    start = [ops.convert_to_numpy(variance) for _, variance in layer.statistics]
    for variance in start[1:]:
        np.testing.assert_array_equal(variance, start[0])
    train(model)
    variances = [ops.convert_to_numpy(variance) for _, variance in layer.statistics]
    assert len(variances) == 4
    for one in range(4):
        assert np.abs(variances[one] - start[one]).max() > 1e-4
        for other in range(one):
            assert np.abs(variances[one] - variances[other]).max() > 1e-4, (one, other)


def test_a_backbone_with_enough_branches_is_not_copied():
    backbone = kreid.backbones.build("resnet_tiny", SIZE, branches=(1, 2, 3))
    assert RTF(backbone, 6).backbone is backbone
    plain = kreid.backbones.build("resnet_tiny", SIZE)
    assert RTF(plain, 6, fusion="late").backbone is plain
    assert RTF(plain, 6).backbone is not plain


def per_frame(row, **kwargs):
    model = make(row, **kwargs)
    return count_macs(model, 3) - count_macs(model, 2)


def test_frames_pass_only_the_stages_they_must():
    whole, late, early = map(per_frame, ("feature_average", "late", "early"))
    assert late <= whole
    assert per_frame("ms_average") == late
    assert per_frame("ms_average", stages=[1]) < early < 0.75 * whole
    assert per_frame("early_intra") > late
