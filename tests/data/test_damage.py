import os

import pytest

from kreid.data.damage import DamageLog


def test_counts_by_name():
    log = DamageLog()
    assert log.report() == "no damaged frames"
    log.add(["b.jpg", "a.jpg"])
    log.add(["b.jpg"], ["train/1", "train/1"])
    assert log.counts == {"b.jpg": 2, "a.jpg": 1}
    assert log.tracklets == ("train/1",)
    assert log.report().splitlines() == [
        "2 damaged frames:",
        "  a.jpg (1 times)",
        "  b.jpg (2 times)",
        "tracklets without a readable frame: train/1",
    ]


def test_a_name_that_is_no_text_can_be_printed():
    log = DamageLog()
    log.add([os.fsdecode(b"gr\xf6\xdfe.jpg")], tried=1)
    assert "  gr\\udcf6\\udcdfe.jpg (1 times)" in log.report().encode().decode()


def test_the_share_is_of_distinct_frames():
    log = DamageLog(max_damaged=0.1)
    log.add(["a.jpg"] * 50, tried=9)
    with pytest.raises(ValueError, match="1 of 9 frames cannot be read"):
        log.check()
    log.add(["a.jpg"], tried=10)
    log.check()


def test_a_late_report_of_an_earlier_batch_lowers_nothing():
    log = DamageLog(max_damaged=0.5)
    log.add(["a.jpg", "b.jpg"], tried=6)
    log.add(["c.jpg"], tried=2)
    log.check()


def test_the_error_lists_the_first_twenty():
    log = DamageLog(max_damaged=0.0)
    log.add([f"{number:02d}.jpg" for number in range(25)], tried=100)
    with pytest.raises(ValueError, match=r"(?s)25 of 100 frames.*00\.jpg.*19\.jpg.*and 5 more\nReceived: max") as error:
        log.check()
    assert "20.jpg" not in str(error.value)


def test_the_limit_is_checked():
    with pytest.raises(ValueError, match="Received: max_damaged=5"):
        DamageLog(max_damaged=5)
