"""The size of the frames that `make_tracklets` writes, where a read frame comes from, and a pipeline of them."""

import numpy as np

SIZE = (24, 12)


def sources(frames):
    """Return (person, tracklet, time) of every frame, from its shade of grey."""
    shade = np.rint(frames.mean(axis=(-3, -2, -1))).astype(int)
    assert np.abs(frames.astype(int) - shade[..., None, None, None]).max() <= 2
    return shade // 32, shade // 8 % 4, shade % 8


def training(tracklets, **changes):
    """A pipeline of batches of two persons, two clips of four frames each, that are not augmented."""
    # Imports TensorFlow, which few of the tests here need.
    from kreid.data import Augmentation, TrainingPipeline

    settings = dict(
        image_size=SIZE,
        num_frames=4,
        persons_per_batch=2,
        tracklets_per_person=2,
        augmentation=Augmentation(flip=0.0, crop_padding=0),
        max_damaged=1.0,
    )
    return TrainingPipeline(tracklets, **{**settings, **changes})
