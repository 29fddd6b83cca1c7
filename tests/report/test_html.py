"""Pieces of a page."""

import base64
import importlib.resources
import io
import re

import numpy as np
from PIL import Image

from kreid._files import write_atomically
from kreid.plots import palette
from kreid.report.html import cell, escape, page, picture, table


def test_no_text_becomes_a_tag():
    bad = "<td onclick=x>&\"'"
    text = page(bad, "", {"a": (bad, table(bad, [bad], [[bad, bad, cell(bad, bad)]]))})
    assert "<td onclick" not in text
    assert len(re.findall("&lt;td onclick", text)) == 11


def test_a_name_that_is_no_utf8_is_written_with_backslashes(tmp_path):
    name = b"Jos\xe9 <b>".decode(errors="surrogateescape")
    assert escape(name) == "Jos\\udce9 &lt;b&gt;"
    write_atomically(tmp_path / "index.html", page(name, "", {}))
    assert "<h1>Jos\\udce9 &lt;b&gt;</h1>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_page_has_the_style_sheet_and_the_colours_of_pictures():
    text = page("", "", {})
    assert importlib.resources.files("kreid.report").joinpath("style.css").read_text("utf-8") in text
    assert f"--same: {palette.SAME_PERSON};" in text
    for number, (light, dark, _) in enumerate(palette.SERIES, 1):
        assert re.findall(f"--series-{number}: ([^;]+);", text) == [light, dark]


def test_a_picture_is_in_its_tag():
    pixels = np.full((8, 16, 3), (200, 100, 50), "uint8")
    tag = picture(Image.fromarray(pixels), 'a "b"')
    data = re.search(r'src="data:image/jpeg;base64,([^"]+)"', tag)[1]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert np.abs(np.asarray(image).astype(int) - pixels).max() <= 3
    assert 'alt="a &quot;b&quot;"' in tag
    assert 'width="16" height="8"' in tag


def test_cells_are_shaded_by_a_share():
    assert cell("1", "2", shade=0.25) == '<td class="shade" style="--share: 0.250">1<small>2</small></td>'
    assert cell("-", shade=float("nan")) == "<td>-</td>"
