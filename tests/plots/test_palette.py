import pytest

from kreid.plots.palette import HEAT, SERIES, css_variables, rgb


def test_heat_gets_lighter():
    lightness = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in map(rgb, HEAT)]
    assert lightness == sorted(lightness)


def test_series_differ_in_colours_and_dashes():
    for column in zip(*SERIES, strict=True):
        assert len(set(column)) == len(SERIES)


def test_dark_backgrounds_have_other_colours():
    light, dark = css_variables().split("prefers-color-scheme: dark")
    assert "--same: #008c46;" in light
    assert "--same: #2eb872;" in dark


@pytest.mark.parametrize("colour", ["#12345", "red", "#12345g", "123456"])
def test_other_texts_are_no_colours(colour):
    with pytest.raises(ValueError, match=f"Received: colour='{colour}'"):
        rgb(colour)
