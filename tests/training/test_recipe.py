"""The precision of a recipe, and its losses by output and their weights."""

import inspect

import pytest

import kreid.losses
from kreid.data import Tracklet
from kreid.losses import WeightedSum
from kreid.models import MGRAFA
from kreid.training import Config, build_losses, load_config
from kreid.training.config import CHOICES
from kreid.training.metric_losses import METRIC_LOSSES
from kreid.training.recipe import auto_precision, build_pipeline


def shares(losses):
    """By output, what its losses count: their names and weights."""
    weights_of = {}
    for output, loss in losses.items():
        parts = zip(loss.losses, loss.weights, strict=True) if isinstance(loss, WeightedSum) else [(loss, 1.0)]
        weights_of[output] = {type(part).__name__: weight for part, weight in parts}
    return weights_of


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ([], "float32"),
        ([(7, 5)], "mixed_float16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(8, 6), (12, 0)], "mixed_bfloat16"),
    ],
)
def test_the_oldest_accelerator_chooses_the_precision(capabilities, precision):
    assert auto_precision(capabilities) == precision


def test_jax_compiles_its_steps_without_a_gpu_too(on_jax):
    on_jax(
        """
import keras, kreid.training
assert kreid.training.set_precision("auto") is True
assert keras.config.dtype_policy().name == "float32"
"""
    )


@pytest.mark.parametrize(
    ("system", "model", "heads"),
    [
        ("baseline", {}, {"": 1.0}),
        ("mg_rafa", {}, {"": 1.0, "_1": 0.25, "_2": 0.25, "_3": 0.25, "_4": 0.25}),
        ("mg_rafa", {"num_granularities": 2}, {"": 1.0, "_1": 0.5, "_2": 0.5}),
        ("mg_rafa", {"num_granularities": 1, "num_splits": 2}, {"": 1.0, "_1": 0.5, "_2": 0.5}),
        ("mg_rafa", {"num_granularities": 1}, {"": 1.0}),
        ("mg_rafa", {"granularity_losses": False}, {"": 1.0}),
    ],
)
def test_every_head_has_its_share_of_every_loss(system, model, heads):
    expected = {}
    for head, share in heads.items():
        expected[f"logits{head}"] = {"SmoothedIdentity": share}
        expected[f"features{head}"] = {"BatchHardTriplet": 0.5 * share, "MinMax": 2.0 * share}
    assert shares(build_losses(Config(system, triplet_weight=0.5, min_max_weight=2.0, model=model))) == expected
    without = {name: value for name, value in expected.items() if name.startswith("logits")}
    assert shares(build_losses(Config(system, triplet_weight=0.0, model=model))) == without


def test_every_metric_loss_is_known_by_its_name():
    metric = {one for name in kreid.losses.__all__ if _is_metric(one := getattr(kreid.losses, name))}
    own = {name: one for name, one in METRIC_LOSSES.items() if not name.startswith("tfa.")}
    assert set(own.values()) == metric
    assert tuple(METRIC_LOSSES) == CHOICES["metric_loss"]
    for name, loss_class in own.items():
        config = Config("baseline", metric_loss=name, triplet_weight=0.5, mining="global", loss_reduction="sum")
        assert shares(build_losses(config))["features"] == {loss_class.__name__: 0.5}
        (loss,) = build_losses(config)["features"].losses
        assert (loss.name, loss.reduction) == (name, "sum")


def _is_metric(value):
    return (
        isinstance(value, type) and issubclass(value, kreid.losses.MetricLoss) and value is not kreid.losses.MetricLoss
    )


def test_metric_losses_have_settings_of_their_own():
    settings = ["metric_loss=circle", "metric_settings={margin: 4e-1, scale: 64, miner: hard}"]
    loss = build_losses(load_config("sta", settings=settings))["features"].losses[0]
    assert (loss.margin, loss.scale, loss.miner, loss.mining) == (0.4, 64, "hard", "global")
    settings = ["metric_loss=semi_hard_triplet", "triplet_margin=soft", "triplet_distance=cosine"]
    loss = build_losses(load_config("sta", settings=settings))["features"].losses[0]
    assert (type(loss), loss.margin, loss.distance) == (kreid.losses.SemiHardTriplet, "soft", "cosine")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["metric_loss=circles"], r"one of batch_hard_triplet, .*circle, tfa.*Received: metric_loss='circles'"),
        (
            ["metric_loss=circle", "metric_settings={gamma: 3}"],
            r"known ones are margin, scale, miner\. Rec.*'gamma': 3",
        ),
        (["metric_loss=circle", "metric_settings={scal: 3}"], "Unknown setting of circle. Did you mean 'scale'"),
        (["metric_loss=circle", "metric_settings={scale: -1}"], r"circle refuses .*above 0\. Received: scale=-1"),
        (["metric_loss=circle", "metric_settings={margin: x}"], "Received: margin='x'"),
        (["metric_loss=circle", "metric_settings={mining: replica}"], "Unknown setting of circle"),
        (["metric_loss=circle", "metric_settings=3"], "must be dict or null. Received: metric_settings=3"),
        (["metric_loss=circle", "triplet_margin=0.5"], r"set triplet_margin=0.3\. Received: triplet_margin=0.5"),
        (
            ["metric_loss=n_pairs", "triplet_distance=cosine"],
            r"metric_settings \(distance, miner\), and set triplet_dis",
        ),
        (["metric_settings={margin: 0.5}"], "batch_hard_triplet is set by triplet_margin and triplet_distance"),
    ],
)
def test_wrong_metric_losses_are_told_before_training(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_config("sta", settings=settings)


def test_an_unknown_metric_loss_in_python():
    with pytest.raises(ValueError, match=r"Did you mean 'circle'.*Received: metric_loss='circel'"):
        Config("sta", metric_loss="circel")


def test_heads_are_told_by_the_models_own_defaults():
    arguments = inspect.signature(MGRAFA.__init__).parameters
    for name, parameter in inspect.signature(MGRAFA.loss_heads).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert parameter.default == arguments[name].default, name


@pytest.mark.parametrize("model", [{"num_granularities": 0}, {"num_granularities": 1, "num_splits": 0}])
def test_heads_that_cannot_be(model):
    with pytest.raises(ValueError, match="positive integer"):
        build_losses(Config("mg_rafa", model=model))


def test_bad_frames_reach_the_batches():
    tracklets = [Tracklet(f"t{n}", n // 2 + 1, 1, tuple(f"{n}_{t}.jpg" for t in range(8))) for n in range(8)]
    settings = dict(system="baseline", persons_per_batch=2, tracklets_per_person=2)
    clean = build_pipeline(Config(**settings), tracklets).plan(0)
    bad = build_pipeline(Config(**settings, bad_frames={"kinds": ["other_persons"], "frames": [1, 1]}), tracklets).plan(
        0
    )
    assert (clean[1] != bad[1]).sum(axis=1).tolist() == [1] * 8
