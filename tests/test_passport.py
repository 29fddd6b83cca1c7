"""The passport of a model: kept in saved models and galleries, printed, and never part of what a model computes."""

import dataclasses
import json

import numpy as np
import pytest

import kreid
from kreid.cli import main
from kreid.data import Tracklet
from kreid.gallery import TrackletEmbeddings
from kreid.models import Baseline, Passport, fingerprint
from kreid.training.export_run import read_passport

pytestmark = pytest.mark.usefixtures("eagerly")

WEIGHTS = {"weights": "resnet.pth", "sha256": 64 * "0", "layout": "timm", "preprocessing": "tf", "licence": None}
FULL = Passport(
    started_from={"file": "first.keras", "trained_on": {"data": "other", "persons": 3}},
    trained_on={"data": "mine", "split": "2 of 10", "persons": 9, "tracklets": 31},
    scores={"standard": {"map": 0.5, "rank-1": 0.75, "queries": 4}},
    verification={"metric": "cosine", "threshold": 0.25},
)


@pytest.fixture(scope="module")
def model():
    model = Baseline(kreid.backbones.build("resnet_tiny", (64, 32), width=8), 2)
    model.backbone.passport = WEIGHTS
    model.passport = FULL
    return model


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


def test_a_saved_model_keeps_it(model, saved):
    whole = dataclasses.replace(FULL, starting_weights=WEIGHTS)
    assert model.passport == whole
    kept = dataclasses.replace(whole, kreid=kreid.__version__)
    loaded = kreid.load_model(saved)
    assert loaded.passport == read_passport(saved) == kept
    assert loaded.with_selection("evenly", 2).passport == kept


def test_it_changes_no_embedding_and_no_fingerprint(model):
    twin = Baseline.from_config(model.get_config())
    twin.set_weights(model.get_weights())
    twin.passport = Passport()
    assert fingerprint(twin) == fingerprint(model)


def test_embeddings_keep_it(model, tmp_path):
    embeddings = TrackletEmbeddings([[0.0]], ["a"], [7], [1], passport=model.passport)
    embeddings.save(tmp_path / "gallery.npz")
    assert TrackletEmbeddings.load(tmp_path / "gallery.npz").passport == model.passport
    assert read_passport(tmp_path / "gallery.npz") == model.passport
    assert embeddings.take([0]).passport == model.passport
    # A file from before there were passports.
    arrays = dict(np.load(tmp_path / "gallery.npz"))
    del arrays["passport"]
    np.savez(tmp_path / "old.npz", **arrays)
    assert TrackletEmbeddings.load(tmp_path / "old.npz").passport == Passport()


def test_plain_data_back_and_forth():
    data = json.loads(json.dumps(FULL.to_dict()))
    assert Passport.from_dict(data) == FULL
    assert Passport.from_dict({**data, "field_of_a_later_kreid": 1}) == FULL
    assert Passport.from_dict(None) == Passport()
    assert Passport(verification={"interval": (0.1, 0.2)}).verification == {"interval": [0.1, 0.2]}
    with pytest.raises(TypeError):
        Passport(scores={"standard": np.zeros(2)})


def test_the_command_prints_it(saved, capsys):
    assert main(["export", str(saved), "--show"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"starting weights: weights resnet.pth, sha256 {64 * '0'}, layout timm, preprocessing tf, licence unknown",
        "started from: file first.keras, trained_on (data other, persons 3)",
        "trained on: data mine, split 2 of 10, persons 9, tracklets 31",
        "scores: standard: map 0.5, rank-1 0.75, queries 4",
        "threshold: metric cosine, threshold 0.25",
        f"kreid: {kreid.__version__}",
    ]
    assert [path.name for path in saved.parent.iterdir()] == ["model.keras"]


@pytest.mark.parametrize("name", ["gone.keras", "text.keras", ""])
def test_what_has_no_passport(name, tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match=r"There is no model here; name a run's folder.*Received: model="):
        read_passport(tmp_path / name)


def test_a_run_describes_its_model(model):
    from kreid.data import ReidDataset
    from kreid.training import describe

    tracklets = [Tracklet(f"t{n}", person=n // 2, camera=n % 2, frames=("0.jpg",)) for n in range(6)]
    results = {
        "protocols": {"mars": {"map": 0.25, "cmc": {"1": 0.5, "5": 1.0}, "num_valid": 2, "num_queries": 3}},
        "verification": None,
    }
    twin = Baseline.from_config(model.get_config())
    describe(twin, ReidDataset("mine", tuple(tracklets), (), (), split="3 of 10"), tracklets[2:], results)
    assert twin.passport.trained_on == {"data": "mine", "split": "3 of 10", "persons": 2, "tracklets": 4}
    assert twin.passport.scores == {"mars": {"map": 0.25, "rank-1": 0.5, "queries": 2}}
    assert twin.passport.verification is None
    assert twin.passport.started_from == FULL.started_from
