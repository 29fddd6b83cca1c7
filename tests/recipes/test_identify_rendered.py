"""The recipe that finds rendered persons across cameras."""

import importlib.util
import json

import keras
import numpy as np
import pytest
from PIL import Image

import kreid
from kreid.synthetic import render_mars
from kreid.tracks import read_tracks


@pytest.mark.slow
def test_cameras_tracks_and_truth(repository, tmp_path):
    spec = importlib.util.spec_from_file_location("identify_rendered", repository / "recipes/identify_rendered.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    settings = {"train_persons": 1, "test_persons": 3, "distractors": 2, "junk": 1, "image_size": (64, 32)}
    render_mars(tmp_path / "mars", **settings, progress=False)
    keras.utils.set_random_seed(0)
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8)
    kreid.models.Baseline(backbone, 5).save(tmp_path / "model.keras")
    arguments = ["--model", str(tmp_path / "model.keras"), "--data", str(tmp_path / "mars"), "--persons", "2"]
    arguments += ["--folder", str(tmp_path / "out"), "--threshold", "0.1", "--min-size", "8", "8", "--quiet"]
    assert recipe.main(arguments) == 0
    persons = set()
    for text in (tmp_path / "out").glob("camera-?.txt"):
        tracks, truth = read_tracks(text), read_tracks(text.with_name(f"{text.stem}_truth.txt"))
        walks, true = (sorted(map(tuple, np.column_stack([t.frames, t.boxes]).tolist())) for t in (tracks, truth))
        assert walks == true
        persons |= set(truth.ids.tolist())
        picture = np.asarray(Image.open(text.with_suffix("") / "000001.png"))
        left, top, width, height = tracks.boxes[tracks.frames == 1][0].astype(int)
        assert picture[top : top + height, left : left + width].std() > 5
        assert (picture[: recipe.GAP] == recipe.GROUND).all()
    assert persons == {2, 3}
    scores = json.loads((tmp_path / "out/found/scores.json").read_text())
    assert scores["identities"]["idtp"] + scores["identities"]["idfp"] > 0
