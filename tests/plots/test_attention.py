import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kreid.plots import bar_chart, draw_frames, draw_heat, draw_matrix, heat, line_chart
from kreid.report.html import cell, page, table


def test_heat_rises_in_lightness():
    lightness = heat(np.linspace(0, 1, 50)).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness) > 0).all()


def test_heat_is_where_the_map_is_largest():
    maps = np.zeros((3, 4, 2))
    maps[1, 3, 0] = 1
    picture = np.asarray(draw_heat(np.full((3, 64, 32, 3), 128, "uint8"), maps, tile=(64, 32), smooth=False))
    light = picture.sum(axis=-1)
    brightest = np.argwhere(light == light.max())
    assert brightest.min(axis=0).tolist() == [48, 32]
    assert brightest.max(axis=0).tolist() == [63, 47]


def test_strips_keep_the_frames_order(tmp_path):
    frames = np.stack([np.full((8, 4, 3), value, "uint8") for value in (10, 200)])
    picture = np.asarray(draw_frames([*frames, tmp_path / "missing.jpg"], tile=(8, 4)))
    assert picture[4, [1, 5, 9], 0].tolist() == [10, 200, 225]
    with pytest.raises(ValueError, match=r"each of the 2 frames.*shape \(3, 4, 2\)"):
        draw_heat(frames, np.zeros((3, 4, 2)))


def test_a_matrix_has_a_field_for_each_pair():
    picture = np.asarray(draw_matrix([[0.0, 1.0, 0.5]], size=30))
    assert picture.shape == (10, 30, 3)
    np.testing.assert_array_equal(picture[5, [5, 15, 25]], heat([0.0, 1.0, 0.5]))


def test_a_line_goes_through_its_points():
    text = line_chart({"a": ([0, 5, 10], [0.0, np.nan, 1.0])}, x_label="<x>", y_label="y", description='"a" rises')
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == '"a" rises'
    assert "<x>" in [part.text for part in root.iter("text")]
    (first, last) = (
        [float(value) for value in pair.split(",")] for pair in root.find("polyline").get("points").split()
    )
    assert first[0] < last[0]
    assert first[1] > last[1]


def test_bars_are_as_high_and_wide_as_their_weights():
    root = ElementTree.fromstring(bar_chart([1.0, 2.0, -1.0], description="d", size=(90, 62), edges=[0, 1, 2, 6]))
    bars = [{key: float(bar.get(key)) for key in ("x", "y", "width", "height")} for bar in root.iter("rect")]
    assert [bar["height"] for bar in bars] == [20, 40, 20]
    assert bars[0]["y"] + 20 == bars[1]["y"] + 40 == bars[2]["y"]
    assert bars[2]["width"] > 3.5 * bars[0]["width"]


def test_a_chart_without_a_point_is_refused():
    with pytest.raises(ValueError, match="no finite point"):
        line_chart({"a": ([1], [np.nan])}, x_label="x", y_label="y", description="d")
    with pytest.raises(ValueError, match=r"1 to 6 series\. Received: 0"):
        line_chart({}, x_label="x", y_label="y", description="d")


def test_no_text_becomes_a_tag():
    bad = "<td onclick=x>&\"'"
    text = page(bad, "", {"a": (bad, table(bad, [bad], [[bad, bad, cell(bad, bad)]]))})
    assert "<td onclick" not in text
    assert len(re.findall("&lt;td onclick", text)) == 11
