"""Attention in the report: every system's, and any axes a user's model may declare."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kreid.data.readers import read_mars
from kreid.data.tracklet import Tracklet
from kreid.report import explain_tracklet
from kreid.report.attention_strips import attention_strips
from kreid.report.explain import Explained
from kreid.runs import FinishedRun

pytestmark = pytest.mark.usefixtures("eagerly")


def drawn(values, axes, frames=5, clip_frames=None):
    """The HTML of one attention of a tracklet, and its root."""
    tracklet = Tracklet("t", tuple(f"{number}.jpg" for number in range(frames)), 7, 2)
    pixels = np.zeros((frames, 16, 8, 3), "uint8")
    explained = Explained(tracklet, pixels, {"own": values}, {"own": axes}, {"own": "My label"}, clip_frames)
    text = attention_strips(explained)
    # As XML: pictures are void tags, and one attribute has no quotes.
    closed = re.sub(r"(<img[^>]*)>", r"\1/>", text).replace("<p class=quiet>", "<p>")
    return text, ElementTree.fromstring(f"<div>{closed}</div>")


def random(*shape):
    return np.random.default_rng(0).random(shape).astype("float32")


def pictures(root):
    return [(int(image.get("width")), int(image.get("height"))) for image in root.iter("img")]


@pytest.mark.parametrize(
    ("axes", "shape", "size"),
    [
        (("frame", "height", "width"), (5, 4, 2), (320, 128)),
        (("frame", "stripe"), (5, 4), (320, 128)),
        (("frame", "channel"), (5, 2048), (320, 128)),
        (("frame", "frame"), (5, 5), (260, 260)),
        (("height", "width"), (8, 4), (128, 256)),
        (("stage", "channel"), (4, 64), (320, 260)),
    ],
)
def test_two_axes_and_maps_are_pictures(axes, shape, size):
    text, root = drawn(random(*shape), axes)
    [frames, picture] = pictures(root)
    assert frames == (320, 128)
    assert picture == size
    assert "My label" in text
    assert "from 0.0" in text


@pytest.mark.parametrize(
    ("axes", "shape", "bars"),
    [(("frame",), (5,), 5), (("clip",), (3,), 3), (("stage",), (4,), 4), (("head",), (6,), 6)],
)
def test_one_axis_is_bars(axes, shape, bars):
    text, root = drawn(random(*shape), axes, clip_frames=2)
    assert len([bar for bar in root.iter("rect")]) == bars
    assert "My label" in text


def test_clips_are_as_wide_as_their_frames():
    # Nine frames in clips of four: the last clip holds one.
    _, root = drawn(random(3), ("clip",), frames=9, clip_frames=4)
    widths = [float(bar.get("width")) for bar in root.iter("rect")]
    np.testing.assert_allclose(widths, [4 * 64 - 2, 4 * 64 - 2, 64 - 2], atol=0.2)


def test_features_are_strips_of_their_first_component_on_one_scale():
    tracklet = Tracklet("t", tuple(f"{number}.jpg" for number in range(5)), 7, 2)
    occluded = np.ones((5, 3), "float32")
    occluded[3] = [1, 1, 3]
    values = {"before": occluded, "after": 1 + (occluded - 1) / 10}
    axes = dict.fromkeys(values, ("frame", "channel"))
    labels = {"before": "Features before", "after": "Features after"}
    explained = Explained(tracklet, np.zeros((5, 16, 8, 3), "uint8"), values, axes, labels, None, frozenset(values))
    text = attention_strips(explained)
    # Of five frames one has 2 more in a channel: it is 1.6 from the mean (1, 1, 1.4), whose length is 1.99.
    assert "Features before: first principal component, from -0.201 to 0.804 of the mean feature&#x27;s length" in text
    assert "Features after: first principal component, from -0.0228 to 0.0911 of the mean" in text
    assert text.count("colours from -0.804 to 0.804") == 2


def test_equal_weights_are_a_sentence():
    text, root = drawn(np.full(5, 0.2, "float32"), ("frame",))
    assert "My label: all equal, 0.2" in text
    assert not list(root.iter("rect"))


def test_more_axes_are_drawn_part_by_part():
    text, root = drawn(random(2, 5, 4, 2), ("stage", "frame", "height", "width"))
    assert pictures(root) == [(320, 128)] * 3
    assert "My label, stage 2" in text
    text, root = drawn(random(20, 5, 5), ("head", "frame", "frame"))
    assert len(pictures(root)) == 1 + 12
    assert "the first 12 of 20 parts" in text


def test_a_single_number_is_a_sentence():
    text, _ = drawn(np.float32(0.25), ())
    assert "My label: 0.25." in text


def test_nearly_equal_stripe_weights_look_nearly_equal():
    text, _ = drawn(np.full((5, 4), 0.2, "float32") + 1e-3 * (random(5, 4) - random(5, 4).mean(0)), ("frame", "stripe"))
    assert "0.2 if all were equal" in text


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("sta", ()),
        ("baseline", ()),
        ("rtf", ()),
        ("tacan", ("clip_length=2",)),
        ("mg_rafa", ("num_granularities=2",)),
        ("gltr", ()),
    ],
)
def test_every_systems_attentions_are_drawn(make_run, tree, system, settings):
    run = FinishedRun(make_run(system, *settings, name=f"attention_{system}"))
    explained = explain_tracklet(run.model, read_mars(tree).test[0])
    text = attention_strips(explained)
    assert set(explained.attention) == set(run.model.attentions)
    for declared in run.model.attentions.values():
        assert declared.label in text
