import struct
import zlib

import numpy as np
import pytest

from kreid.plots import RankedTracklet, draw_ranked_list


def png(width, height, *chunks):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    checked = [(kind + data, struct.pack(">I", len(data))) for kind, data in parts]
    written = b"".join(length + named + struct.pack(">I", zlib.crc32(named)) for named, length in checked)
    return b"\x89PNG\r\n\x1a\n" + written


BROKEN = {
    "a decompression bomb": png(40_000, 40_000),
    "a chunk without a name": png(8, 8, (b"IDAT", b"x"), (b"\x00\x01\x02\x03", b"")),
    "a text bomb": png(8, 8, (b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))),
}


@pytest.mark.parametrize("contents", BROKEN.values(), ids=BROKEN)
def test_a_picture_with_a_broken_file_has_a_grey_field(contents, tmp_path):
    (tmp_path / "1.png").write_bytes(contents)
    picture = draw_ranked_list(RankedTracklet([str(tmp_path / "1.png")]), [], frames_shown=1)
    assert {(225, 225, 225)} <= {colour for _, colour in picture.crop((20, 40, 100, 200)).getcolors()}


def test_picture_shows_unreadable_files_as_grey_and_says_who_is_who(tmp_path):
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    black = np.zeros((64, 32, 3), np.uint8)
    entries = [
        RankedTracklet([black], ["a caption far too long for one narrow tile of a picture"], same_person=value)
        for value in (True, False, None)
    ]
    picture = draw_ranked_list(RankedTracklet([str(tmp_path / "1.jpg")]), entries, columns=2, frames_shown=1)
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert {(0, 140, 70), (200, 50, 30), (140, 140, 140), (225, 225, 225), (0, 0, 0)} <= colours
    alone = draw_ranked_list(RankedTracklet([black]), [], frames_shown=1)
    assert alone.width < picture.width
    with pytest.raises(ValueError, match="Received: columns=0"):
        draw_ranked_list(RankedTracklet([black]), [], columns=0)
