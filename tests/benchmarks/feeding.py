"""Measure what feeding costs a training step of ResNet-50: batches of the training pipeline against one batch repeated.

    python tests/benchmarks/feeding.py [--image-size 256 128] [--tracklets 8] [--frames 4] [--steps 4] [--runs 5]

JPEG frames of 256 x 128 are drawn into a temporary folder. Target: under 5% of the step.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from loading import drawn_tracklets

TARGET = 0.05


def main():
    """Print the median step of each side and the share that feeding takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 128))
    parser.add_argument("--tracklets", type=int, default=8, help="tracklets of a batch")
    parser.add_argument("--frames", type=int, default=4, help="frames of a clip")
    parser.add_argument("--steps", type=int, default=4, help="steps of a run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import keras
    import tensorflow as tf

    import kreid.backbones
    import kreid.losses
    import kreid.models
    from kreid.data import Augmentation, TrainingPipeline

    with tempfile.TemporaryDirectory() as scratch:
        pipeline = TrainingPipeline(
            drawn_tracklets(Path(scratch), persons=20),
            image_size=options.image_size,
            num_frames=options.frames,
            persons_per_batch=options.tracklets // 2,
            tracklets_per_person=2,
            augmentation=Augmentation(flip=0.5, crop_padding=10),
        )
        backbone = kreid.backbones.build("resnet50", image_size=options.image_size, last_stride=1)
        model = kreid.models.Baseline(backbone, pipeline.num_identities)
        losses = {"logits": kreid.losses.SmoothedIdentity(), "features": kreid.losses.BatchHardTriplet()}
        model.compile(keras.optimizers.Adam(1e-4), loss=losses, jit_compile=False)
        fed = pipeline.dataset()
        same = tf.data.Dataset.from_tensors(next(iter(fed))).repeat()
        sides = {"same": iter(same), "fed": iter(fed)}
        taken = {side: [] for side in sides}
        for run in range(options.runs + 1):
            for side, batches in sides.items():
                started = time.perf_counter()
                for _ in range(options.steps):
                    model.train_on_batch(*next(batches))
                # The first run builds the graph.
                if run:
                    taken[side].append((time.perf_counter() - started) / options.steps)
    share = statistics.median(fed / same for fed, same in zip(taken["fed"], taken["same"], strict=True)) - 1
    for side, seconds in taken.items():
        print(
            f"step on {'the same batch' if side == 'same' else 'batches of the pipeline'}: "
            f"{statistics.median(seconds):.2f} s"
        )
    print(f"feeding takes {share:.1%} of the step (target: under {TARGET:.0%})")


if __name__ == "__main__":
    main()
