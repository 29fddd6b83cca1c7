"""A MARS tree of a few rendered people, and settings with which a recipe takes seconds on it."""

import pytest
import yaml
from recipe_samples import TINY

from kreid.synthetic import render_mars


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Eight persons to train on and three to find, in MARS's layout."""
    return render_mars(
        tmp_path_factory.mktemp("data") / "mars",
        train_persons=8,
        test_persons=3,
        distractors=2,
        junk=1,
        tracklets_per_camera=(1, 2),
        frames_per_tracklet=(3, 5),
        image_size=(64, 32),
        progress=False,
    )


@pytest.fixture(scope="session")
def overlay(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def arguments(tree, overlay):
    """Function: a run's folder, settings -> the command line; without the SavedModel, which takes a fifth of a run."""

    def make(run, *settings, system="sta", data=tree, export=False):
        line = ["--system", system, "--data", str(data), "--overlay", str(overlay), "--run", str(run), "--quiet"]
        settings = (f"export={export}", *settings)
        return line + [part for setting in settings for part in ("--set", setting)]

    return make
