"""A run's settings: which values are refused before training."""

import pytest

from kreid.training import Config


def test_config_is_frozen_and_compares_by_value():
    assert Config(system="sta") == Config(system="sta", image_size=[256, 128])
    with pytest.raises(AttributeError):
        Config(system="sta").epochs = 3


def test_best_without_holdout_is_refused_before_training():
    with pytest.raises(ValueError, match=r"held-out persons.*select='best', holdout=0\.0"):
        Config("sta", select="best", holdout=0.0)
    assert Config("sta", select="best", holdout=0.2).select == "best"


@pytest.mark.parametrize(("frames", "test_frames"), [([0, 2], 4), ([2], None)])
def test_further_test_frames_replace_a_number(frames, test_frames):
    with pytest.raises(ValueError, match=r"also_test_frames=\["):
        Config("sta", also_test_frames=frames, model={"test_frames": test_frames})
    assert Config("sta", also_test_frames=[2], model={"test_frames": 4}).also_test_frames == [2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("triplet_weight", float("nan")),
        ("false_match_rate", 1.0),
        ("backbone_rate", -0.1),
        ("accumulate", 0),
        ("ema_momentum", 1.0),
        ("ema_momentum", 0.0),
    ],
)
def test_numbers_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}="):
        Config("sta", **{name: value})


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        ({"persons_per_batch": 1}, "persons_per_batch=1"),
        ({"tracklets_per_person": 1}, "tracklets_per_person=1"),
        ({"tracklets_per_person": 1, "triplet_weight": 0.0, "min_max_weight": 1.0}, "tracklets_per_person=1"),
        ({"sampler": "sequences", "batch_size": 2}, "batch_size=2"),
    ],
)
def test_batches_in_which_a_loss_is_always_zero(settings, received):
    with pytest.raises(ValueError, match=f"always 0 .*or (triplet|min_max)_weight=0. Received: {received}$"):
        Config("sta", **settings)
    without = Config("sta", **{**settings, "triplet_weight": 0.0, "min_max_weight": 0.0})
    assert without.triplet_weight == 0
