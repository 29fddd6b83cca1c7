"""Settings: the order of layers, refused settings, and the recipes' own files."""

from pathlib import Path

import pytest
import yaml

import kreid
from kreid.models import SYSTEMS
from kreid.training import Config, command_line, load_config, load_phases, plan_runs

RECIPES = Path(__file__).parents[2] / "recipes"
OVERLAYS = sorted(path.name for path in (RECIPES / "overlays").glob("*.yaml"))
DATA = sorted(path.stem for path in (RECIPES / "data").glob("*.yaml"))


@pytest.fixture
def write(tmp_path):
    def write_file(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def load(settings=(), system="sta", **kwargs):
    return load_config(system, RECIPES, settings=settings, **kwargs)


def test_later_layers_win(write, tmp_path):
    write("systems/sta.yaml", "seed: 1\nepochs: 1\nflip: 0.1\nnum_frames: 1\nnum_stripes: 2\n")
    write("data/here.yaml", "epochs: 2\nflip: 0.2\nnum_frames: 2\n")
    first = write("first.yaml", "flip: 0.3\nnum_frames: 3\nnum_stripes: 8\n")
    second = write("second.yaml", "num_frames: 4\n")

    def resolved(data=None, overlays=(), settings=()):
        config = load_config("sta", tmp_path, data, overlays, settings)
        return config.seed, config.epochs, config.flip, config.num_frames, config.model

    assert resolved() == (1, 1, 0.1, 1, {"num_stripes": 2})
    assert resolved("here") == (1, 2, 0.2, 2, {"num_stripes": 2})
    assert resolved("here", [first]) == (1, 2, 0.3, 3, {"num_stripes": 8})
    assert resolved("here", [first, second]) == (1, 2, 0.3, 4, {"num_stripes": 8})
    assert resolved("here", [second, first])[3] == 3
    assert resolved("here", [first, second], ["num_frames=5", "num_frames=6"])[3] == 6


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("learning_rat=1", r"--set learning_rat=1.*Did you mean 'learning_rate'\? Received: learning_rat=1$"),
        ("num_stripe=2", "Did you mean 'num_stripes'"),
        ("qqqq=2", "known ones are .*num_stripes.* Received: qqqq=2$"),
        ("embedding_from=pooled", "Unknown setting"),  # the baseline's, not STA's
        ("dtype=float16", "Unknown setting"),
        ("model={}", "Unknown setting"),
        ("epochs", "key=value.*--set 'epochs'"),
        ("=3", "key=value"),
        ("flip=[1", "not valid YAML.*flip"),
        ("epochs=ten", "epochs in --set epochs=ten must be int. Received: epochs='ten'"),
        ("epochs=1.5", "must be int"),
        ("epochs=true", "must be int"),
        ("epochs=null", "must be int"),
        ("flip=high", "must be float"),
        ("flip=false", "must be float"),
        ("fusion=1", "fusion .* must be bool"),
        ("num_stripes=4.0", "num_stripes .* must be int"),
        ("evaluate_untrained=1", "must be bool"),
        ("image_size=64", "must be list"),
        ("image_size=[64, 32.5]", "must be list"),
        ("decay_epochs=[true]", "must be list"),
        ("steps_per_epoch=many", "must be int or null"),
        ("weights=1", "must be str or null"),
        ("clips=frames", "clips .* must be one of random, chunks, adjacent, adjacent_clips. Received: clips='frames'"),
        ("optimizer=[adam]", "must be one of adam, sgd"),
        ("select=newest", "must be one of last, best"),
        ("system=baseline", "another system than --system sta. Received: system='baseline'"),
        ("epochs=0", "at least one epoch.*epochs=0"),
    ],
)
def test_refused_settings(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        load([setting])


def test_numbers_as_yaml_reads_them():
    assert yaml.safe_load("3e-4") == "3e-4", "YAML's reason for this test"
    config = load(["learning_rate=3e-4", "weight_decay=1", "triplet_margin=1e-1", "steps_per_epoch=null"])
    assert (config.learning_rate, config.weight_decay, config.triplet_margin) == (3e-4, 1.0, 0.1)
    assert isinstance(config.weight_decay, float)
    assert config.steps_per_epoch is None
    assert load_config("tacan", RECIPES, settings=["embedding_dim=null"]).model["embedding_dim"] is None
    assert load(["triplet_margin=soft"]).triplet_margin == "soft"
    assert load([" epochs = 7"]).epochs == 7


@pytest.mark.parametrize(
    ("system", "data", "complaint"),
    [
        ("stta", None, r"Unknown system; .*baseline, .*rtf, sta.*Did you mean 'sta'\? Received: system='stta'"),
        ("../systems/sta", None, "Unknown system"),
        ("sta", "marz", r"Unknown data; .*Did you mean 'mars'\? Received: data='marz'"),
    ],
)
def test_unknown_files(system, data, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_config(system, RECIPES, data)


def test_a_system_file_without_a_model(write, tmp_path):
    write("systems/other.yaml", "epochs: 1\n")
    with pytest.raises(ValueError, match=r"kreid has .*sta.*system='other'"):
        load_config("other", tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("epochs: [", "not valid YAML"), ("- epochs\n", "`key: value` lines"), ("", "`key: value` lines")],
)
def test_overlays_that_are_no_settings(write, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        load(overlays=[write("overlay.yaml", text)])


def test_overlays_that_cannot_be_read(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"no settings file.*absent\.yaml"):
        load(overlays=[tmp_path / "absent.yaml"])
    for name in ("binary.yaml", "."):
        with pytest.raises(ValueError, match="A settings file is YAML text"):
            load(overlays=[tmp_path / name])


def test_an_overlays_error_names_its_file(write):
    path = write("mine.yaml", "epoch: 3\n")
    with pytest.raises(ValueError, match=r"mine\.yaml\. Did you mean 'epochs'"):
        load(overlays=[path])


def test_every_system_has_a_file():
    own = [name for name, system in SYSTEMS.items() if getattr(kreid.models, system.__name__, None) is system]
    assert len(own) == 6
    # best_small is a recipe of the baseline.
    assert sorted(path.stem for path in (RECIPES / "systems").glob("*.yaml")) == sorted([*own, "best_small"])


def test_a_recipe_may_have_another_name_than_its_system(tmp_path):
    phases = load_phases("best_small", RECIPES, "mars")
    assert {config.system for config in phases.values()} == {"baseline"}
    assert [config.image_size for config in phases.values()] == [[128, 64], [256, 128]]
    options = command_line(["--system", "best_small", "--data", str(tmp_path)], "", "mars")
    with pytest.raises(FileNotFoundError, match="--system best_small --synthetic"):
        plan_runs(options)
    for folder in ("bbox_train", "bbox_test", "info"):
        (tmp_path / folder).mkdir()
    assert plan_runs(options).folder == Path("runs/best_small_mars")


@pytest.mark.parametrize("system", sorted(SYSTEMS))
@pytest.mark.parametrize("data", [None, *DATA])
@pytest.mark.parametrize("overlay", [None, *OVERLAYS])
def test_every_file_resolves_for_every_system_and_reloads(system, data, overlay, write):
    overlays = [] if overlay is None else [RECIPES / "overlays" / overlay]
    config = load_config(system, RECIPES, data, overlays, ["learning_rate=1.5e-5", "triplet_margin=soft"])
    assert config.system == system
    resolved = write("resolved.yaml", config.to_yaml())
    # Over the system's own file, and in its place.
    assert load_config(system, RECIPES, data, [resolved]) == config
    write(f"systems/{system}.yaml", config.to_yaml())
    assert load_config(system, resolved.parent) == config


@pytest.mark.parametrize("setting", ["select=best", "early_stopping=3", "false_match_rate=0.01"])
def test_what_is_chosen_on_held_out_persons_can_be_in_every_recipe(setting):
    for system in SYSTEMS:
        phases = load_phases(system, settings=["holdout=0.1", setting])
        assert list(phases.values())[-1].holdout_purposes, system


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_file_begins_with_what_it_is_for(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    if path.parent.name != "data":
        heading = " ".join(line for line in lines if line.startswith("#"))
        assert "ommand: python recipes/" in heading or "ommand: kreid " in heading or "make " in heading


def test_sta_has_the_papers_hyperparameters():
    # Fu et al., "Implementation Details", and the backbone's paragraph.
    config = load_config("sta", RECIPES, "mars")
    expected = {
        "num_frames": 4,
        "clips": "random",
        "last_stride": 1,
        "weights": "imagenet",
        "image_size": [256, 128],
        "persons_per_batch": 16,
        "tracklets_per_person": 4,
        "triplet_margin": 0.3,
        "optimizer": "adam",
        "weight_decay": 0.0005,
        "learning_rate": 0.0003,
        "schedule": "step",
        "decay_epochs": [200, 400],
        "decay_factor": 0.1,
        "epochs": 800,
        "flip": 0.5,
        "flip_per": "frame",
        "crop_padding": 0,
        "erase": 0.0,
        "smoothing": 0.0,
    }
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.model["num_stripes"] == 4
    assert config.model["fusion"] is True
    assert config.model["test_frames"] == 4


def test_mg_rafa_has_the_papers_hyperparameters():
    # Zhang et al., section 4.2; MARS's P and Z.
    config = load_config("mg_rafa", RECIPES, "mars")
    expected = {
        "num_frames": 8,
        "clips": "chunks",
        "last_stride": 1,
        "image_size": [256, 128],
        "persons_per_batch": 16,
        "tracklets_per_person": 4,
        "optimizer": "adam",
        "flip": 0.5,
        "erase": 0.5,
        "augment_per": "tracklet",
        "triplet_weight": 1.0,
    }
    assert {key: getattr(config, key) for key in expected} == expected
    assert config.smoothing > 0
    assert config.crop_padding > 0
    model = {key: config.model[key] for key in ("attention", "num_granularities", "references", "test_frames")}
    assert list(model.values()) == ["reference_aided", 4, "temporal_mean", 8]


def test_a_key_that_is_no_text_is_an_unknown_key(tmp_path):
    (tmp_path / "odd.yaml").write_text("5: x\n")
    with pytest.raises(ValueError, match=r"Unknown setting .*Received: 5='x'"):
        load_config("sta", RECIPES, "mars", [tmp_path / "odd.yaml"])


def test_all_test_frames_can_be_asked_for():
    config = load_config("sta", RECIPES, "mars", settings=["test_selection=all", "test_frames=null"])
    assert (config.model["test_selection"], config.model["test_frames"]) == ("all", None)


class TestPhases:
    @pytest.fixture
    def folder(self, write, tmp_path):
        write(
            "systems/sta.yaml",
            "epochs: 9\nseed: 3\nphases:\n  images: {epochs: 2, num_frames: 1, num_stripes: 2}\n  video:\n",
        )
        write("systems/baseline.yaml", "epochs: 1\n")
        return tmp_path

    def test_a_phase_wins_over_what_holds_for_all(self, folder, write):
        overlay = write("more.yaml", "epochs: 5\nseed: 4\nphases:\n  images: {num_frames: 7}\n")
        phases = load_phases("sta", folder, overlays=[overlay], settings=["images.flip=0.25", "flip=0.75"])
        assert list(phases) == ["images", "video"]
        seen = {name: (c.epochs, c.seed, c.num_frames, c.flip, c.model) for name, c in phases.items()}
        assert seen == {"images": (2, 4, 7, 0.25, {"num_stripes": 2}), "video": (5, 4, 4, 0.75, {})}
        assert load_config("sta", folder, overlays=[overlay]).epochs == 5

    def test_a_system_without_phases_has_one(self, folder):
        phases = load_phases("baseline", folder)
        assert {name: config.epochs for name, config in phases.items()} == {"main": 1}

    @pytest.mark.parametrize(
        ("system", "setting", "complaint"),
        [
            ("sta", "image.epochs=1", r"Unknown phase in --set .* Did you mean 'images'\? Received: phase='image'"),
            ("sta", "images.epoch=1", "Did you mean 'epochs'"),
            ("sta", "images.epochs=many", "must be int"),
            ("sta", "phases=3", "`phases` in --set phases=3 holds names"),
            ("sta", "phases={images: 3}", "holds names with settings"),
            ("baseline", "images.epochs=1", "Unknown phase.*known ones are none"),
        ],
    )
    def test_refusals(self, folder, system, setting, complaint):
        with pytest.raises(ValueError, match=complaint):
            load_phases(system, folder, settings=[setting])


def test_settings_for_one_system_alone(write):
    overlay = write("own.yaml", "epochs: 3\nsystems:\n  sta: {num_stripes: 2, epochs: 4}\n")
    assert (load(overlays=[overlay]).epochs, load(overlays=[overlay]).model["num_stripes"]) == (4, 2)
    assert load(system="rtf", overlays=[overlay]).epochs == 3
    wrong = write("wrong.yaml", "systems:\n  sta: {num_strips: 2}\n")
    with pytest.raises(ValueError, match=r"wrong\.yaml, systems\.sta\. Did you mean 'num_stripes'"):
        load(overlays=[wrong])
    with pytest.raises(ValueError, match=r"`systems` in .*Received: systems=\['sta'\]"):
        load(overlays=[write("list.yaml", "systems: [sta]\n")])
    assert [load(system=system, data="prid2011").persons for system in ("tacan", "sta")] == [200, 178]


def test_a_system_by_its_path_or_without_a_file(write, monkeypatch):
    path = write("mine.yaml", "system: sta\nepochs: 7\nnum_stripes: 2\n")
    config = load(system=path)
    assert (config.system, config.epochs, config.model) == ("sta", 7, {"num_stripes": 2})
    with pytest.raises(ValueError, match=r"names its system, as in `system: .*Received: system="):
        load(system=write("nameless.yaml", "epochs: 7\n"))
    monkeypatch.setitem(SYSTEMS, "mine", SYSTEMS["sta"])
    assert load(["epochs=2"], system="mine", data="mars") == Config("mine", epochs=2)


def test_of_two_kinds_of_steps_the_later_one_counts():
    assert (load(["decay_every=5"]).decay_every, load(["decay_every=5"]).decay_epochs) == (5, [])
    later = load(["decay_epochs=[3]"], system="rtf")
    assert (later.decay_every, later.decay_epochs) == (None, [3])
    assert load(system="rtf").decay_every == 20
    images = load_phases("gltr", settings=["decay_every=5"])["images"]
    assert (images.decay_every, images.decay_epochs) == (None, [10])
    for kwargs in ({"decay_every": 0}, {"decay_every": 5, "decay_epochs": [3]}):
        with pytest.raises(ValueError, match=r"set one, .*Received: decay_every="):
            Config("sta", **kwargs)
