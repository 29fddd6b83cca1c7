import numpy as np
import pytest
from PIL import Image, ImageDraw

from kreid.synthetic import people, scene
from kreid.synthetic.cameras import CAMERAS


def test_frames_do_not_depend_on_how_many_are_developed_at_once(monkeypatch):
    stage = scene.Stage((64, 32), seed=0)
    person = people.draw_person(np.random.default_rng(3))
    rendered = []
    for together in (16, 3, 1):
        monkeypatch.setattr(scene, "_TOGETHER", together)
        tracklets = [stage.tracklet(person, camera, 7, np.random.default_rng([camera, 4])) for camera in CAMERAS]
        rendered.append([frame.tobytes() for tracklet in tracklets for frame in tracklet])
    assert len(rendered[0]) == 42 and rendered[0] == rendered[1] == rendered[2]


def test_an_unknown_kind_is_refused():
    stage = scene.Stage((32, 16), seed=0)
    with pytest.raises(ValueError, match="Received: kind='ghost'"):
        next(stage.tracklet(people.draw_person(np.random.default_rng(0)), 1, 1, np.random.default_rng(0), kind="ghost"))


def on_noise(stage, draw, t, box):
    """The pixels of a box in which something that is drawn changes a background of noise."""
    background = np.random.default_rng(9).integers(0, 256, (stage.height, stage.width, 3)).astype(np.uint8)
    canvas = Image.fromarray(background)
    draw(canvas, ImageDraw.Draw(canvas), t)
    left, top, right, bottom = map(round, box)
    return (np.asarray(canvas) != background).any(axis=2)[top:bottom, left:right]


def test_visible_shares_count_the_pixels_that_are_not_covered():
    stage = scene.Stage((64, 32), seed=0)
    person = people.draw_person(np.random.default_rng(3))
    seen = []
    for seed in range(12):
        shares = stage.visible_shares(person, 1 + seed % 6, 4, np.random.default_rng(seed))
        passage = stage._passage(person, 1 + seed % 6, 4, np.random.default_rng(seed), "person")
        for t, share in enumerate(shares):
            body = on_noise(stage, passage.walk.draw, t, passage.boxes[t])
            front = on_noise(stage, passage.draw_front, t, passage.boxes[t])
            # A drawn pixel may have the noise's own colour.
            assert share == pytest.approx((body & ~front).sum() / body.sum(), abs=0.005)
        seen += shares
    assert min(seen) < 0.7 and max(seen) == 1 and len(set(seen)) > 10
    # Half of the distractors show no person.
    alone = [stage.visible_shares(person, 1, 1, np.random.default_rng(seed), "distractor") for seed in range(12)]
    assert [0.0] in alone and [1.0] in alone
