"""A table's file: what rows and sizes leave open, and refusals."""

import re

import pytest
import yaml

from kreid.training import load_table, row_folder


@pytest.fixture
def write(tmp_path):
    def make(**content):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return make


ROWS = {
    "one": {},
    "two": {
        "settings": {"num_stripes": 2},
        "small": {"epochs": 3},
        "phase": "images",
        "printed": {"rank1": 80.5, "map": 70},
    },
    "two again": {"settings": {"num_stripes": 2}, "phase": "images", "test": {"test_frames": 2}},
    "wide": {"system": "tacan", "settings": {"backbone": "resnet34"}, "small": {"weights": None, "backbone_width": 8}},
}


def test_the_papers_size_takes_the_recipes(write):
    path = write(title="T", system="sta", shared={"flip": 0.25}, settings={"num_frames": 6}, rows=ROWS)
    table = load_table(path)
    assert (table.title, table.printed_on, table.data, table.seeds) == ("T", "full MARS", "mars", [0])
    assert (table.overlays, table.image_phase, table.bad_frames_test) == ([], None, {})
    one, two, again, wide = table.rows.values()
    assert one.settings == {"flip": 0.25, "num_frames": 6}
    assert two.settings == {"flip": 0.25, "num_frames": 6, "num_stripes": 2}
    assert two.printed == {"rank1": 80.5, "map": 70}
    assert [row.system for row in (one, wide)] == ["sta", "tacan"]
    assert (two.phase, again.run, again.test) == ("images", "two", {"test_frames": 2})
    assert wide.backbone == {"backbone": "resnet34"}


def test_the_small_size_has_its_own_settings(write, repository):
    part = yaml.safe_load((repository / "recipes" / "tables" / "sizes" / "small.yaml").read_text())
    small = {"settings": {"steps_per_epoch": 7}, "seeds": [4]}
    path = write(title="T", system="sta", shared={"flip": 0.25}, settings={"num_frames": 6}, rows=ROWS, small=small)
    table = load_table(path, small=True, weights="given.h5")
    assert (table.seeds, table.image_phase) == ([4], part["image_phase"])
    assert table.shared == {**part["shared"], "flip": 0.25, "weights": "given.h5"}
    one, two, again, wide = table.rows.values()
    assert one.settings == {**table.shared, **part["settings"], "num_frames": 6, "steps_per_epoch": 7}
    assert two.settings == {**one.settings, "num_stripes": 2, "epochs": 3}
    # All rows are trained alike, and these two not: one has other epochs.
    assert (two.phase, again.run) == (None, "two again")
    assert wide.backbone == {"backbone": "resnet34", "weights": None, "backbone_width": 8}
    assert wide.settings["weights"] is None
    assert load_table(write(title="T", system="sta", size="small", rows=ROWS)).seeds == part["seeds"]


def test_a_table_changes_the_small_image_phase_or_names_another(write, repository):
    part = yaml.safe_load((repository / "recipes" / "tables" / "sizes" / "small.yaml").read_text())["image_phase"]
    for given, expected in (
        ({"settings": {"embedding_dim": 8}}, {**part, "settings": {**part["settings"], "embedding_dim": 8}}),
        ({"system": "gltr", "settings": {"num_frames": 2}}, {"system": "gltr", "settings": {"num_frames": 2}}),
        (None, None),
    ):
        path = write(title="T", system="sta", rows=ROWS, small={"image_phase": given})
        assert load_table(path, small=True).image_phase == expected
        assert load_table(path).image_phase is None


@pytest.mark.parametrize("phase", [None, {}, {"system": "sta"}, {"setting": {}}, {"settings": {}, "system": "sta"}])
def test_an_image_phase_of_a_row_holds_settings(write, phase):
    path = write(title="T", system="sta", rows={"one": {"image_phase": phase}})
    with pytest.raises(ValueError, match=r"holds `settings` alone.*Received: image_phase=.* of row one"):
        load_table(path)


def test_an_image_phase_of_a_row_changes_the_tables(write):
    rows = {"one": {"image_phase": {"settings": {"num_frames": 2}}}, "two": None}
    table = load_table(write(title="T", system="sta", rows=rows), small=True)
    assert [row.image_phase for row in table.rows.values()] == [{"num_frames": 2}, {}]
    assert load_table(write(title="T", system="sta", rows=rows)).rows["one"].image_phase == {}
    with pytest.raises(ValueError, match=r"give the table one. Received: image_phase=.* of row one"):
        load_table(write(title="T", system="sta", size="own", rows=rows))


def test_overlays_are_names_or_paths_beside_the_table(write, tmp_path):
    table = load_table(write(title="T", system="sta", overlays=["small", "mine/o.yaml"], rows={"one": None}))
    assert table.overlays == ["small", str(tmp_path / "mine" / "o.yaml")]


def test_chosen_rows_and_seeds(write):
    table = load_table(write(title="T", system="sta", rows=ROWS))
    chosen = table.chosen(["two again", "two"], [3, 1])
    assert (list(chosen.rows), chosen.seeds, chosen.rows["two again"].run) == (["two", "two again"], [3, 1], "two")
    with pytest.raises(ValueError, match=r"rows are one, two, two again, wide\. Received: row='three'"):
        table.chosen(["one", "three"])
    for seeds in ([], [0, -1], [1, 1]):
        with pytest.raises(ValueError, match="Seeds are different whole numbers from 0"):
            table.chosen(seeds=seeds)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"rows": ROWS}, "A table holds a title and rows"),
        ({"title": "T", "rows": {}}, "A table holds a title and rows"),
        ({"title": "T", "system": "sta", "rows": ROWS, "fine": 1}, "Received: fine of the table"),
        ({"title": "T", "system": "sta", "rows": ROWS, "small": {"fine": 1}}, "Received: fine of the table"),
        ({"title": "T", "system": "sta", "rows": {"one": {"set": {}}}}, "Received: set of row one"),
        ({"title": "T", "rows": ROWS}, "names a system. Received: row='one'"),
        ({"title": "T", "system": "sta", "rows": {"N=2": {}, "N 2": {}}}, "names of two rows"),
        ({"title": "T", "system": "sta", "rows": {"one": 3}}, "Received: one: 3, table="),
    ],
)
def test_what_is_no_table(write, content, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_table(write(**content))


@pytest.mark.parametrize("block", [lambda content: content, lambda content: {"small": content}])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"shared": None}, "shared holds keys and values. Received: shared=None, table="),
        ({"settings": [1]}, "settings holds keys and values"),
        ({"image_phase": {"setting": {}}}, "keys of image_phase are system, settings. Received: setting, table="),
        ({"seeds": 3}, "Seeds are different whole numbers from 0, at least one. Received: seeds=3, table="),
        ({"seeds": [0, 0]}, "Received: seeds=[0, 0]"),
        ({"data": "moon"}, "Received: data='moon'"),
        ({"bad_frames_test": {"kind": ["dark"], "share": 0.5}}, "keys of bad_frames_test are kinds, share"),
        ({"bad_frames_test": {"kinds": ["dark"]}}, "from 0 and below 1. Received: share=None"),
        ({"bad_frames_test": {"kinds": ["dark"], "share": 1}}, "from 0 and below 1. Received: share=1"),
        ({"bad_frames_test": {"kinds": "dark", "share": 0.5}}, "Received: kinds='dark'"),
        ({"bad_frames_test": {"kinds": ["drak"], "share": 0.5}}, r"Received: kinds=['drak']"),
    ],
)
def test_values_that_a_table_cannot_use(write, block, content, complaint):
    path = write(title="T", system="sta", rows={"one": None}, **block(content))
    with pytest.raises(ValueError, match=re.escape(complaint)):
        load_table(path)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"settings": None}, "settings holds keys and values. Received: settings=None of row one"),
        ({"small": 1}, "small holds keys and values. Received: small=1 of row one"),
        ({"test": {"test_frame": 8}}, "keys of test are test_selection, test_frames. Received: test_frame of row one"),
        ({"printed": {"mAP": 8}}, "keys of printed are rank1, map. Received: mAP of row one"),
    ],
)
def test_values_that_a_row_cannot_use(write, row, complaint):
    with pytest.raises(ValueError, match=complaint):
        load_table(write(title="T", system="sta", rows={"one": row}))


def test_an_image_phase_names_a_system(write):
    path = write(title="T", system="sta", image_phase={"settings": {}}, rows={"one": None})
    with pytest.raises(ValueError, match="image_phase of this table names no system"):
        load_table(path)
    assert load_table(path, small=True).image_phase["system"] == "baseline"


def test_a_block_small_holds_keys(write):
    with pytest.raises(ValueError, match=r"block `small` holds keys of the table\. Received: small=None"):
        load_table(write(title="T", system="sta", rows=ROWS, small=None))


def test_a_row_has_a_folder_by_seed(tmp_path):
    assert row_folder(tmp_path, 2, "S-P (8x1x8)") == tmp_path / "seed_2" / "S_P__8x1x8_"
