import numpy as np
import pytest

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
