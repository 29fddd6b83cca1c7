"""`check_pipeline` passes kreid's own pipeline and finds faults."""

import numpy as np
import pytest
from PIL import Image

from kreid.data import Augmentation, Tracklet, TrainingPipeline
from kreid.testing import check_pipeline


@pytest.fixture(scope="module")
def tracklets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    rng = np.random.default_rng(0)
    made = []
    for person in range(1, 6):
        for camera in (1, 2, 3):
            paths = []
            for frame in range(4):
                path = folder / f"{person}_{camera}_{frame}.jpg"
                Image.fromarray(rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(path)
                paths.append(str(path))
            made.append(Tracklet(f"{person}c{camera}", person, camera, tuple(paths)))
    return made


def pipeline(tracklets, **kwargs):
    settings = {"num_frames": 2, "persons_per_batch": 2, "tracklets_per_person": 2, "seed": 3, **kwargs}
    return TrainingPipeline(tracklets, image_size=(32, 16), augmentation=Augmentation(0.5, 2, 0.5), **settings)


@pytest.mark.parametrize("clips", ["random", "chunks", "adjacent"])
def test_pipeline(tracklets, clips):
    inputs, labels = check_pipeline(lambda: pipeline(tracklets, clips=clips))
    assert inputs["frames"].shape == (4, 2, 32, 16, 3)
    assert set(labels) == {"logits", "features"}


def test_a_pipeline_that_differs_each_time_is_found(tracklets):
    seeds = iter(range(100))
    with pytest.raises(AssertionError, match="from the same arguments"):
        check_pipeline(lambda: pipeline(tracklets, seed=next(seeds)))


def test_a_pipeline_that_forgets_its_epoch_is_found(tracklets):
    class Forgetful(TrainingPipeline):
        def dataset(self, first_epoch=0):
            return super().dataset()

    def make():
        made = pipeline(tracklets)
        made.__class__ = Forgetful
        return made

    with pytest.raises(AssertionError, match="first_epoch=1"):
        check_pipeline(make)
