"""The rendered MARS tree: its layout, its determinism, what it refuses and that colour alone does not solve it."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kreid.data.readers import read_mars
from kreid.synthetic import people, render_mars, scene, tree, walker
from kreid.synthetic.cameras import CAMERAS

scipy_io = pytest.importorskip("scipy.io")

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
    with pytest.raises(FileExistsError, match=r"something else.*Received: root="):
        render_mars(tmp_path / "full", **SMALL)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    render_mars(tmp_path / "empty", **SMALL)
    assert json.loads((tmp_path / "empty" / "info" / "synthetic.json").read_text())["train_persons"] == 3


def test_an_interruption_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "kreid.synthetic", str(tmp_path / "mars"), "--quiet"]
    # Background jobs of a shell ignore SIGINT, and their children inherit that.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, **heeding) as rendering:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".mars.*/bbox_train/*/*.jpg")):
            assert rendering.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        rendering.send_signal(signal.SIGINT)
        assert rendering.wait(60) != 0
    assert list(tmp_path.iterdir()) == []


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


def test_people_keep_their_looks_and_differ():
    first, again = (people.draw_person(np.random.default_rng([1, 2])) for _ in range(2))
    assert first.hair_style == again.hair_style and np.array_equal(first.texture, again.texture)
    crowd = [people.draw_person(np.random.default_rng([1, i])) for i in range(150)]
    assert {p.pattern for p in crowd} == set(people.PATTERNS)
    assert {p.lower for p in crowd} == set(people.LOWER)
    assert {p.bag for p in crowd} == set(people.BAGS)
    assert {p.hair_style for p in crowd} == set(people.HAIR_STYLES)
    assert len({p.texture.tobytes() for p in crowd}) == 150


def whites(images):
    """Share of near-white among the pixels of the middle of the frames."""
    middle = np.stack([np.asarray(i) for i in images])[:, 32:64, 20:44]
    return (middle.min(axis=-1) > 150).mean()


def test_clothes_are_the_same_in_every_camera():
    stage = scene.Stage((128, 64), seed=0)
    crowd = [people.draw_person(np.random.default_rng([7, i])) for i in range(200)]
    plain = [p for p in crowd if p.pattern == "plain" and p.bag == "none"]
    bright = next(p for p in plain if p.texture[30].min() > 190)
    dark = next(p for p in plain if p.texture[30].max() < 70)
    for camera in CAMERAS:
        shares = []
        for person in (bright, dark):
            tracklets = [stage.tracklet(person, camera, 3, np.random.default_rng([9, camera, i])) for i in range(6)]
            shares.append(np.median([whites(t) for t in tracklets]))
        assert shares[0] > shares[1] + 0.2


def test_bags_show_from_behind_only():
    crowd = [people.draw_person(np.random.default_rng([7, i])) for i in range(60)]
    person = next(p for p in crowd if p.bag == "backpack")
    places = []
    for facing in (0.0, np.pi):
        walk = walker.walk(person, np.full(2, facing), np.zeros(2), 0.2, 100.0)
        bag = max(i for i, c in enumerate(walk.colours) if c == person.bag_colour)
        order = walk.order[0]
        places.append(order.index(bag) > order.index(len(walk.colours)))
    assert places == [False, True]


def test_parts_outside_the_box_change_nothing_inside():
    crowd = [people.draw_person(np.random.default_rng([7, i])) for i in range(20)]
    box, whole = (30.3, 20.6, 61.2, 90.4), (0, 0, 100, 140)
    for person in crowd:
        seen, drawn = [], []
        for shown in (box, whole):
            walk = walker.walk(person, np.full(2, 0.7), np.array([0.0, 1.0]), 0.2, 100.0)
            walk.place([45.0, 80.0], 130.0, [shown] * 2)
            drawn.append(sum(map(len, walk.order)))
            canvases = [Image.new("RGB", (100, 140)) for _ in range(2)]
            for t, canvas in enumerate(canvases):
                walk.draw(canvas, ImageDraw.Draw(canvas), t)
            seen.append([np.asarray(c.resize((16, 32), Image.Resampling.BOX, box=box)) for c in canvases])
        assert np.array_equal(*seen) and drawn[0] < drawn[1]


def test_frames_do_not_depend_on_how_many_are_developed_at_once(monkeypatch):
    stage = scene.Stage((64, 32), seed=0)
    person = people.draw_person(np.random.default_rng(3))
    rendered = []
    for together in (16, 3, 1):
        monkeypatch.setattr(scene, "_TOGETHER", together)
        tracklets = [stage.tracklet(person, camera, 7, np.random.default_rng([camera, 4])) for camera in CAMERAS]
        rendered.append([frame.tobytes() for tracklet in tracklets for frame in tracklet])
    assert len(rendered[0]) == 42 and rendered[0] == rendered[1] == rendered[2]


def test_frames_move_and_cameras_differ():
    stage = scene.Stage((64, 32), seed=0)
    person = people.draw_person(np.random.default_rng(3))
    means = []
    for camera in CAMERAS:
        frames = np.stack(
            [np.asarray(i, dtype=float) for i in stage.tracklet(person, camera, 4, np.random.default_rng(1))]
        )
        assert frames.shape == (4, 64, 32, 3)
        assert np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)).min() > 4
        means.append(frames.mean(axis=(0, 1, 2)))
    gaps = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
    assert min(gaps) > 2


def test_an_unknown_kind_is_refused():
    stage = scene.Stage((32, 16), seed=0)
    with pytest.raises(ValueError, match="Received: kind='ghost'"):
        next(stage.tracklet(people.draw_person(np.random.default_rng(0)), 1, 1, np.random.default_rng(0), kind="ghost"))


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


def test_the_command_line(tmp_path):
    options = "--train-persons 1 --test-persons 2 --distractors 1 --junk 1 --frames-per-tracklet 1 2 --image-size 32 16"
    command = [sys.executable, "-m", "kreid.synthetic", str(tmp_path / "mars"), *options.split(), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and not done.stderr
    assert json.loads((tmp_path / "mars" / "info" / "synthetic.json").read_text())["image_size"] == [32, 16]
    refused = subprocess.run([*command, "--seed", "9"], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert refused.returncode == 2 and "Received: root=" in refused.stderr


def test_neither_keras_nor_tensorflow_is_imported():
    code = "import sys, kreid.synthetic; print([m for m in ('keras', 'tensorflow', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr
