"""A run's settings: which values are refused before training."""

import pytest

from kreid.training import Config, load_config
from kreid.training.config import CHOICES


def test_config_is_frozen_and_compares_by_value():
    assert Config(system="sta") == Config(system="sta", image_size=[256, 128])
    with pytest.raises(AttributeError):
        Config(system="sta").epochs = 3


def test_best_without_holdout_is_refused_before_training():
    with pytest.raises(ValueError, match=r"held-out persons.*select='best', holdout=0\.0"):
        Config("sta", select="best", holdout=0.0)
    assert Config("sta", select="best", holdout=0.2).select == "best"


def test_mirrored_optimisers_accumulate_nothing():
    with pytest.raises(ValueError, match="Received: accumulate=2, strategy='mirrored'"):
        Config("sta", accumulate=2, strategy="mirrored")
    assert Config("sta", accumulate=2, strategy="data_parallel").accumulate == 2


def test_a_threshold_needs_held_out_persons():
    with pytest.raises(ValueError, match=r"set holdout above 0.*false_match_rate=0\.01, holdout=0"):
        Config("sta", false_match_rate=0.01, holdout=0)
    # The phase on images of a recipe whose other phases fit one.
    assert Config("sta", false_match_rate=0.01, holdout=0, early_stopping=3, data="images").holdout_purposes == []


def test_persons_are_held_out_for_a_purpose():
    assert Config("sta", holdout=0.1).holdout_purposes == []
    assert Config("sta", select="best", early_stopping=3, false_match_rate=0.01).holdout_purposes == [
        "choose the checkpoint",
        "stop training early",
        "fit the verification threshold",
    ]


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
        ("decay_factor", -0.1),
        ("decay_factor", float("nan")),
        ("holdout_every", 0),
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
def test_batches_without_pairs_for_a_loss(settings, received):
    with pytest.raises(ValueError, match=f"need two .*or (triplet|min_max)_weight=0. Received: {received}$"):
        Config("sta", **settings)
    without = Config("sta", **{**settings, "triplet_weight": 0.0, "min_max_weight": 0.0})
    assert without.triplet_weight == 0


@pytest.mark.parametrize(("name", "value"), [("weights_preprocessing", "tf"), ("weights_licence", "MIT")])
def test_what_describes_weights_needs_weights(name, value):
    with pytest.raises(ValueError, match=f"name it by weights.*Received: {name}='{value}', weights=None"):
        Config("sta", **{name: value})
    assert getattr(Config("sta", weights="imagenet", **{name: value}), name) == value


def test_the_pixels_of_weights_are_those_that_layers_know():
    from kreid.layers.frame_preprocessing import PREPROCESSINGS

    assert CHOICES["weights_preprocessing"] == PREPROCESSINGS
    for given, kept in (("tf", "tf"), ("none", "none"), ("null", None)):
        settings = ["weights=imagenet", f"weights_preprocessing={given}"]
        assert load_config("sta", settings=settings).weights_preprocessing == kept
    with pytest.raises(ValueError, match=r"one of torch, caffe, tf, none. Received: weights_preprocessing='rgb'"):
        load_config("sta", settings=["weights_preprocessing=rgb"])


@pytest.mark.parametrize("text", ["epoch", "1 step", "500 steps", "10 minutes", "0.5 minutes"])
def test_when_checkpoints_are_saved(text):
    assert Config("sta", checkpoint_every=text).checkpoint_every == text


@pytest.mark.parametrize("text", ["", "epochs", "500", "0 steps", "1.5 steps", "-1 minutes", "0.0 minutes", "2 hours"])
def test_checkpoints_at_other_times_are_refused(text):
    with pytest.raises(ValueError, match=f"'500 steps' or '10 minutes'. Received: checkpoint_every={text!r}"):
        Config("sta", checkpoint_every=text)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"cached_chunks": 0}, r"divisor of 64\. Received: cached_chunks=0"),
        ({"cached_chunks": 5, "freeze_batch_norm": True}, r"divisor of 64\. Received: cached_chunks=5"),
        ({"cached_chunks": 4}, "set freeze_batch_norm=true.*freeze_batch_norm=False"),
        ({"cached_chunks": 4, "freeze_batch_norm": True, "strategy": "mirrored"}, "on one device.*'mirrored'"),
    ],
)
def test_chunks_need_equal_parts_and_frozen_statistics(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        Config("baseline", **settings)
    assert Config("baseline", cached_chunks=4, freeze_batch_norm=True).cached_chunks == 4


def test_bad_frames_are_checked_before_training():
    assert Config("sta", num_frames=4, bad_frames={"frames": [0, 3]}).bad_frames == {"frames": [0, 3]}
    with pytest.raises(ValueError, match="lower the most bad frames to 1 or less"):
        Config("sta", num_frames=2, bad_frames={"frames": [0, 3]})
    with pytest.raises(ValueError, match=r"some of another_person, other_persons.*Received: kinds=\('darc',\)"):
        load_config("sta", settings=["bad_frames={kinds: [darc]}"])
    with pytest.raises(ValueError, match=r"bad_frames in .* must be dict or null\. Received: bad_frames=True"):
        load_config("sta", settings=["bad_frames=true"])
