"""Folders of a recipe's phases. Complete runs are in tests/recipes."""

import dataclasses
import json

import pytest

from kreid.training import Config, phase_folders, split_folder


def test_image_phases_are_shared_by_the_splits(tmp_path):
    phases = {
        "images": Config("rtf", data="images", split=4, image_dirs=["here"]),
        "target": Config("rtf", split=4),
        "video": Config("rtf", split=4),
    }
    own = split_folder(tmp_path, 4)
    images, target, video = phase_folders(phases, own, tmp_path)
    assert (images.path, images.config.split) == (tmp_path / "phases/images", None)
    assert (target.path, target.config.split) == (own / "phases/target", 4)
    assert (video.path, video.config.init) == (own, str(target.model))
    assert target.config.init == str(images.model)
    assert phase_folders(phases, own)[0].path == own / "phases/images"


def test_a_phase_from_which_the_next_has_started_is_not_trained_further(tmp_path):
    phases = {"target": Config("rtf", epochs=3), "video": Config("rtf", epochs=3)}
    target, video = phase_folders(phases, tmp_path)
    target.begin()
    target.checkpoints.mkdir()
    (target.checkpoints / "state.json").write_text(json.dumps({"epoch": 3, "best_map": -1, "best_epoch": None}))
    target.finish({})
    longer = {name: dataclasses.replace(config, epochs=5) for name, config in phases.items()}
    assert [run.is_trained_further for run in phase_folders(longer, tmp_path)] == [True, False]
    video.begin()
    with pytest.raises(ValueError, match=r"Phase target is complete .* --set video.epochs=5. Received: epochs=5"):
        phase_folders(longer, tmp_path)
    assert len(phase_folders({**longer, "target": phases["target"]}, tmp_path)) == 2
