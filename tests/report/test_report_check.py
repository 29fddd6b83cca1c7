"""`kreid check --model`: suspicious tracklets as lines, JSON and a page."""

import json

import keras
import numpy as np
import pytest
from page_reader import Page
from PIL import Image

import kreid
from kreid.data.readers import read_folder
from kreid.evaluation import suspicious_tracklets
from kreid.report.check import main

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
# Person, and the colours of the frames: the tracker switched in the second tracklet.
LOOKS = {"anna": ["red"] * 8, "ben": ["blue"] * 5 + ["green"] * 3, "cleo": ["green"] * 6}

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for person, looks in LOOKS.items():
        folder = root / "gallery" / person / "hall"
        folder.mkdir(parents=True)
        for number, colour in enumerate(looks):
            frame = np.clip(rng.normal(COLOURS[colour], 8, (64, 32, 3)), 0, 255).astype("uint8")
            Image.fromarray(frame).save(folder / f"{number:03}.png")
    return root


@pytest.fixture(scope="module")
def model(root):
    """A random network; its neck's mean is that of the data's frames, as after training on them."""
    keras.utils.set_random_seed(0)
    made = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8), 5)
    made.bnneck.moving_mean.assign(kreid.gallery.mean_frame_vector(made, read_folder(root).test, progress=False))
    return made


def test_both_sides_of_the_switch(model, root):
    tracklets = read_folder(root).test
    (found,) = suspicious_tracklets(model, tracklets, progress=False)
    assert found.tracklet.frames[0].endswith("ben/hall/000.png")
    assert found.other.tolist() == [False] * 5 + [True] * 3
    assert found.text().endswith(
        f"frames 6 to 8 may show another person than frames 1 to 5 (difference {found.difference:.2f})"
    )
    # Of six frames each is embedded, or the nearest of four counts.
    (thinned,) = suspicious_tracklets(model, tracklets, most=4, progress=False)
    assert thinned.tracklet == found.tracklet
    assert thinned.other.sum() in (2, 3, 4)
    assert suspicious_tracklets(model, tracklets, threshold=2.0, progress=False) == []
    with pytest.raises(ValueError, match="threshold=-1"):
        suspicious_tracklets(model, tracklets, threshold=-1)


def test_command_line(model, root, tmp_path, capsys):
    model.save(tmp_path / "model.keras")
    page, numbers = tmp_path / "switches.html", tmp_path / "check.json"
    given = [str(root), "--model", str(tmp_path / "model.keras"), "--quiet"]
    assert main([*given, "--page", str(page), "--json", str(numbers)]) == 0
    output = capsys.readouterr().out
    assert "tracklets that may show two persons: 1 of 3\n  gallery/ben/hall" in output
    (switch,) = json.loads(numbers.read_text())["switches"]
    assert (switch["kept"], switch["other"]) == ([[1, 5]], [[6, 8]])
    text = page.read_text(encoding="utf-8")
    assert text.count("<img") == 2
    assert "frames 6 to 8" in text
    assert "1 of 3 tracklets" in text
    read = Page(page)
    assert (read.bare, read.ids) == (0, ["tracklets", "tracklets-heading"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--page", "x.html"], "name one with --model. Received: page=x.html"),
        (["--model", "no_such.keras"], "no model file at this path. Received: path='no_such.keras'"),
        (["--model", "x", "--threshold", "3"], "from 0 to 2. Received: threshold=3.0"),
        (["--model", "x", "--most-frames", "3"], "four frames or more. Received: most_frames=3"),
        (
            ["--model", "x", "--page", "no/such/x.html"],
            "folder to write to is missing. Received: page='no/such/x.html'",
        ),
    ],
)
def test_refusals(root, arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(root), "--quiet", *arguments])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err
