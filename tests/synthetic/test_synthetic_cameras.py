import numpy as np

from kreid.synthetic import people, scene
from kreid.synthetic.cameras import CAMERAS


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
