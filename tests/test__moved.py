"""Names that moved to another package are still importable from the old one."""

import importlib

import pytest

import kreid

MOVED = {
    "kreid.data": {
        "kreid.tracks": ["TrackLimits", "Tracks", "cut_tracklets", "embed_tracks", "read_tracks"],
    },
    "kreid.evaluation": {
        "kreid.gallery": ["TrackletEmbeddings", "embed_to_file", "embed_tracklets", "model_digest", "ranked_list"],
        "kreid.report": ["best_and_worst", "explain_tracklet", "most_changed", "write_report"],
        "kreid.models.cost": ["count_macs"],
    },
}
CASES = [(old, new, name) for old, homes in MOVED.items() for new, names in homes.items() for name in names]


@pytest.mark.parametrize(("old", "new", "name"), CASES)
def test_a_moved_name_is_the_same_object_and_names_the_new_place(old, new, name):
    with pytest.warns(DeprecationWarning, match=f"`{old}.{name}` moved: import it from `{new}`"):
        value = getattr(importlib.import_module(old), name)
    assert value is getattr(importlib.import_module(new), name)


def test_the_warning_names_the_line_that_imports():
    with pytest.warns(DeprecationWarning) as caught:
        from kreid.data import read_tracks  # noqa: F401
    assert {warning.filename for warning in caught} == {__file__}


def test_moved_names_are_not_listed():
    assert "read_tracks" not in dir(kreid.data)


def test_other_names_are_still_missing():
    with pytest.raises(AttributeError, match="nothing"):
        kreid.data.nothing  # noqa: B018
