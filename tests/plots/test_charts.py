import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from kreid.plots import bar_chart, line_chart

# Pixels of a letter in the charts' font of 13 pixels, measured in common system fonts; wide texts reach it.
LETTER = 7.2


def spans(root):
    """Ends of each text, along x for horizontal and along y for vertical ones."""
    for part in root.iter("text"):
        length, anchor = LETTER * len(part.text), part.get("text-anchor")
        place = float(part.get("y" if part.get("transform") else "x"))
        start = place - {"middle": length / 2, "end": length}.get(anchor, 0)
        yield part, start, start + length


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


@pytest.mark.parametrize("mark", [0.02, 0.45, 0.55, 0.98])
def test_no_text_runs_out_of_its_picture(mark):
    series = {"a run of a long name that somebody chose, standard, re-ranked": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}
    text = line_chart(
        series,
        x_label="threshold: pairs with a smaller distance are accepted",
        y_label="the share of queries with a match, %",
        description="d",
        marks=[(mark, "the run's threshold")],
    )
    root = ElementTree.fromstring(text)
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for part, start, end in spans(root):
        limit = height if part.get("transform") else width
        assert start >= 0, part.text
        assert end <= limit, part.text
        if not part.get("transform"):
            assert float(part.get("y")) <= height - 2, part.text
    texts = " ".join(part.text for part in root.iter("text"))
    assert "threshold: pairs with a smaller distance are accepted" in texts
    assert next(iter(series)) in texts


def test_ticks_of_epochs_are_whole_numbers():
    def ticks(x):
        root = ElementTree.fromstring(line_chart({"a": (x, x)}, x_label="epoch", y_label="y", description="d"))
        return [part.text for part in root.iter("text") if part.get("text-anchor") == "middle"][:-2]

    assert ticks([1, 2, 3]) == ["1", "2", "3"]
    assert ticks(range(1, 12)) == ["2", "4", "6", "8", "10"]
    assert ticks([1, 2.5, 3])[:3] == ["1", "1.5", "2"]
    assert ticks([4]) == ["4"]


def test_bars_are_as_high_and_wide_as_their_weights():
    root = ElementTree.fromstring(bar_chart([1.0, 2.0, -1.0], description="d", size=(90, 62), edges=[0, 1, 2, 6]))
    bars = [{key: float(bar.get(key)) for key in ("x", "y", "width", "height")} for bar in root.iter("rect")]
    assert [bar["height"] for bar in bars] == [20, 40, 20]
    assert bars[0]["y"] + 20 == bars[1]["y"] + 40 == bars[2]["y"]
    assert bars[2]["width"] > 3.5 * bars[0]["width"]


def test_bars_need_values():
    for values in ([], np.eye(2)):
        with pytest.raises(ValueError, match=r"a list of values\. Received: values of shape"):
            bar_chart(values, description="d")


def test_a_chart_without_a_point_is_refused():
    with pytest.raises(ValueError, match="no finite point"):
        line_chart({"a": ([1], [np.nan])}, x_label="x", y_label="y", description="d")
    with pytest.raises(ValueError, match=r"1 to 6 series\. Received: 0"):
        line_chart({}, x_label="x", y_label="y", description="d")
