import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io as scipy_io
from PIL import Image

from kreid.data.readers import read_mars
from kreid.synthetic import render_mars, tree, visible_shares

SMALL = {
    "train_persons": 3,
    "test_persons": 4,
    "distractors": 5,
    "junk": 3,
    "tracklets_per_camera": (1, 2),
    "frames_per_tracklet": (2, 3),
    "image_size": (48, 24),
    "progress": False,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return render_mars(tmp_path_factory.mktemp("synthetic") / "mars", seed=5, **SMALL)


def fingerprint(root):
    files = sorted(p for p in Path(root).rglob("*") if p.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def table(root, split):
    names = Path(root, "info", f"{split}_name.txt").read_text().splitlines()
    rows = scipy_io.loadmat(Path(root, "info", f"tracks_{split}_info.mat"))[f"track_{split}_info"]
    return names, rows


@pytest.mark.parametrize("split", ["train", "test"])
def test_layout_is_that_of_mars(small, split):
    names, rows = table(small, split)
    assert rows.dtype == np.int32 and rows.shape[1] == 4
    assert rows[0, 0] == 1 and rows[-1, 1] == len(names)
    assert (rows[1:, 0] == rows[:-1, 1] + 1).all()
    assert set(rows[:, 3]) <= set(range(1, 7))
    seen = Counter()
    for first, last, person, camera in rows.tolist():
        prefix = "00-1" if person == -1 else f"{person:04d}"
        tracklet = names[first - 1 : last]
        assert 2 <= len(tracklet) <= 3
        number = re.fullmatch(rf"{prefix}C{camera}T(\d{{4}})F001\.jpg", tracklet[0]).group(1)
        assert tracklet == [f"{prefix}C{camera}T{number}F{f:03d}.jpg" for f in range(1, len(tracklet) + 1)]
        seen[prefix, camera, number] += 1
    assert set(seen.values()) == {1}
    on_disk = sorted(
        p.relative_to(small / f"bbox_{split}").as_posix() for p in (small / f"bbox_{split}").rglob("*.jpg")
    )
    assert on_disk == sorted(f"{name[:4]}/{name}" for name in names)
    with Image.open(small / f"bbox_{split}" / on_disk[0]) as image:
        assert image.format == "JPEG" and image.size == (24, 48) and image.mode == "RGB"


def test_counts_and_queries(small):
    train, test = table(small, "train")[1], table(small, "test")[1]
    assert set(train[:, 2]) == {1, 2, 3}
    assert set(test[:, 2]) == {-1, 0, 4, 5, 6, 7}
    assert (test[:, 2] == 0).sum() == 5 and (test[:, 2] == -1).sum() == 3
    assert (np.diff(test[:, 2]) >= 0).all()
    for person in range(4, 8):
        per_camera = Counter(test[test[:, 2] == person, 3].tolist())
        assert len(per_camera) >= 2 and set(per_camera.values()) <= {1, 2}
    queries = scipy_io.loadmat(small / "info" / "query_IDX.mat")["query_IDX"]
    assert queries.shape[0] == 1
    asked = test[queries[0] - 1][:, 2:]
    pairs = {tuple(r) for r in test[test[:, 2] > 0][:, 2:].tolist()}
    assert {tuple(r) for r in asked.tolist()} == pairs and len(asked) == len(pairs)


def test_the_reader_accepts_it(small):
    dataset = read_mars(small)
    names, rows = table(small, "test")
    assert len(dataset.test) == len(rows) and sum(map(len, dataset.test)) == len(names)
    assert not dataset.missing and not dataset.empty
    assert {t.person for t in dataset.queries} == {4, 5, 6, 7}


def test_same_seed_same_bytes_in_any_number_of_processes(small, tmp_path):
    assert fingerprint(render_mars(tmp_path / "again", seed=5, **SMALL)) == fingerprint(small)
    assert fingerprint(render_mars(tmp_path / "two", seed=5, workers=2, **SMALL)) == fingerprint(small)
    other = fingerprint(render_mars(tmp_path / "other", seed=6, **SMALL))
    assert not {d for n, d in other.items() if n.endswith("jpg")} & set(fingerprint(small).values())


def test_a_tracklet_does_not_depend_on_how_many_are_rendered(small, tmp_path):
    fewer = fingerprint(render_mars(tmp_path / "fewer", seed=5, **{**SMALL, "test_persons": 1, "junk": 0}))
    frames = {n: d for n, d in fingerprint(small).items() if n.startswith(("bbox_train", "bbox_test/0004"))}
    assert frames and all(fewer[n] == d for n, d in frames.items())


def test_a_complete_rendering_is_kept(small):
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert render_mars(small, seed=5, **SMALL) == small
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_other_contents_are_refused(small, tmp_path):
    with pytest.raises(FileExistsError, match=r"other settings.*Received: root="):
        render_mars(small, seed=6, **SMALL)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"other content.*Received: root="):
        render_mars(tmp_path / "full", **SMALL)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    render_mars(tmp_path / "empty", **SMALL)
    assert json.loads((tmp_path / "empty" / "info" / "synthetic.json").read_text())["train_persons"] == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"train_persons": 0}, "train_persons=0"),
        ({"train_persons": 9999}, "train_persons=9999"),
        ({"frames_per_tracklet": (3, 2)}, r"frames_per_tracklet=\(3, 2\)"),
        ({"frames_per_tracklet": 3}, "frames_per_tracklet=3"),
        ({"tracklets_per_camera": (0, 2)}, r"tracklets_per_camera=\(0, 2\)"),
        ({"image_size": (8, 8)}, r"image_size=\(8, 8\)"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "workers=0"),
    ],
)
def test_settings_out_of_range(tmp_path, setting, message):
    with pytest.raises(ValueError, match="Received: .*" + message):
        render_mars(tmp_path / "mars", **{**SMALL, **setting})
    assert not (tmp_path / "mars").exists()


def test_matrices_are_read_back(tmp_path):
    values = np.arange(-3, 9, dtype=np.int32).reshape(3, 4)
    tree._save_matrix(tmp_path / "m.mat", "track_test_info", values)
    read = scipy_io.loadmat(tmp_path / "m.mat")["track_test_info"]
    assert read.dtype == np.int32 and np.array_equal(read, values)


def test_mean_colour_does_not_name_the_person(tmp_path):
    root = render_mars(
        tmp_path / "mars",
        **{**SMALL, "train_persons": 1, "test_persons": 40, "distractors": 10, "image_size": (64, 32)},
    )
    names, rows = table(root, "test")
    queries = scipy_io.loadmat(root / "info" / "query_IDX.mat")["query_IDX"][0] - 1
    means = []
    for first, last, *_ in rows.tolist():
        frames = [np.asarray(Image.open(root / "bbox_test" / n[:4] / n), dtype=float) for n in names[first - 1 : last]]
        means.append(np.mean(frames, axis=(0, 1, 2)))
    means = np.array(means)
    hits = []
    for query in queries:
        person, camera = rows[query, 2:]
        allowed = (rows[:, 2] >= 0) & ~((rows[:, 2] == person) & (rows[:, 3] == camera))
        distances = np.where(allowed, np.abs(means - means[query]).sum(axis=1), np.inf)
        hits.append(rows[distances.argmin(), 2] == person)
    assert len(hits) > 100 and np.mean(hits) < 0.4


def test_visible_shares_of_a_rendering(tmp_path):
    root = render_mars(tmp_path / "mars", **SMALL)
    for split in ("train", "test"):
        shares = visible_shares(root, split)
        assert sorted(shares) == sorted(path.name for path in (root / f"bbox_{split}").rglob("*.jpg"))
        assert len(set(shares.values())) > 1 and max(shares.values()) == 1
    with pytest.raises(ValueError, match="Received: split='gallery'"):
        visible_shares(root, "gallery")
    (root / "info" / "synthetic.json").write_text("{}")
    with pytest.raises(ValueError, match=r"kreid synthetic.*Received: root=.*mars"):
        visible_shares(root)
