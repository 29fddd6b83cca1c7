"""Compare the training pipeline's frames per second with a pool of processes that do the same work with Pillow.

Both sides read the same clips of the same plan, resize, flip and crop them and stack `uint8` batches. The pool works
as the usual toolboxes' loaders: worker processes fill whole batches in shared memory, some batches ahead.
Where PyTorch is installed its DataLoader is measured too, on the same clips, with the toolboxes' transforms: flip,
crop, normalisation to float tensors. A bare tf.data chain (read, decode, resize, stack; no augmentation, no check for
damaged files) is printed for scale, and kreid's pipeline with its decoded frames cached in memory.

    python tests/benchmarks/loading.py [--root FOLDER] [--image-size 256 128] [--frames 4] [--runs 5]

`--root` is a folder of MARS's layout; without it JPEG frames of 256 x 128 are drawn into a temporary one. Target: 3
times the torch loader, or the pool, with 2 workers.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np
from PIL import Image

from kreid.data import Augmentation, Tracklet, read_mars

PADDING = 10
TARGET = 3.0


def drawn_tracklets(folder, persons=50, tracklets=4, frames=16, size=(256, 128)):
    """Write smooth random pictures, which take about as many bytes as a real crop."""
    height, width = size
    rng = np.random.default_rng(0)
    made = []
    for person in range(1, persons + 1):
        for number in range(tracklets):
            paths = [f"{folder}/{person:04d}_{number}_{step:03d}.jpg" for step in range(frames)]
            for path in paths:
                coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
                picture = np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC), np.int16)
                picture = np.clip(picture + rng.integers(-8, 9, picture.shape), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(path, quality=90)
            made.append(Tracklet(f"{person}/{number}", person, number + 1, tuple(paths)))
    return made


def attach(name, shape):
    """Start a worker, which writes batches to the memory that the parent reads."""
    global _memory, _slots
    _memory = SharedMemory(name)
    _slots = np.ndarray(shape, np.uint8, _memory.buf)


def frame_by_pillow(path, image_size, flip, top, left):
    """Make one frame as the graph does, with Pillow and NumPy."""
    height, width = image_size
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.BILINEAR)
    frame = np.asarray(image)
    frame = frame[:, ::-1] if flip else frame
    padded = np.pad(frame, ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
    return padded[top : top + height, left : left + width]


def fill(slot, clips, numbers):
    """Make one batch in a worker."""
    for row, (paths, drawn) in enumerate(zip(clips, numbers, strict=True)):
        for column, path in enumerate(paths):
            _slots[slot, row, column] = frame_by_pillow(path, _slots.shape[3:5], *drawn)
    return slot


def planned(pipeline, paths, steps):
    """Yield the paths of the clips and the flip and crop of every batch, as the pipeline uses them."""
    frames, numbers = [], []
    for epoch in range(-(-steps // pipeline.steps_per_epoch)):
        _, clips, drawn = pipeline.plan(epoch)
        frames.append(clips)
        numbers.append(drawn[:, 0, :3])  # the same for all frames of a clip
    frames, numbers = np.concatenate(frames), np.concatenate(numbers)
    for start in range(0, steps * pipeline.batch_size, pipeline.batch_size):
        clips = frames[start : start + pipeline.batch_size]
        yield [[paths[number] for number in clip] for clip in clips], numbers[start : start + len(clips)].tolist()


def pool_seconds(pool, slots, batches):
    """Return the seconds of the pool, with as many batches under way as there are slots."""
    started, free, pending = time.perf_counter(), list(range(len(slots))), deque()
    for clips, numbers in batches:
        if not free:
            free.append(pending.popleft().get())
            slots[free[-1]].copy()
        pending.append(pool.apply_async(fill, (free.pop(), clips, numbers)))
    while pending:
        slots[pending.popleft().get()].copy()
    return time.perf_counter() - started


def dataset_seconds(dataset):
    """Return the seconds of one pass, without the creation of its iterator."""
    iterator = iter(dataset)
    started = time.perf_counter()
    for _ in iterator:
        pass
    return time.perf_counter() - started


class Clips:
    """The clips of all batches as a torch data set: decoded by Pillow, flipped, cropped, normalised."""

    def __init__(self, batches, image_size):
        self.clips = [(clip, drawn) for clips, numbers in batches for clip, drawn in zip(clips, numbers, strict=True)]
        self.image_size = image_size

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, place):
        import torch

        paths, drawn = self.clips[place]
        frames = [frame_by_pillow(path, self.image_size, *drawn) for path in paths]
        clip = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div_(255)
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return clip.sub_(mean[:, None, None]).div_(deviation[:, None, None])


def torch_loader(batches, pipeline, workers):
    """Return PyTorch's DataLoader, or `None` where it is not installed."""
    try:
        from torch.utils.data import DataLoader
    except ImportError:
        return None
    clips = Clips(batches, pipeline.image_size)
    return DataLoader(
        clips, pipeline.batch_size, num_workers=workers, persistent_workers=True, multiprocessing_context="spawn"
    )


def bare(batches, pipeline):
    """Return a tf.data chain that reads, decodes, resizes and stacks only."""
    import tensorflow as tf

    def load(path):
        frame = tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), channels=3), pipeline.image_size)
        return tf.cast(tf.round(frame), tf.uint8)

    names = [path for clips, _ in batches for clip in clips for path in clip]
    frames = tf.data.Dataset.from_tensor_slices(names).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    return frames.batch(pipeline.num_frames).batch(pipeline.batch_size).prefetch(2)


def main():
    """Print the median rate of each side and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of MARS's layout")
    parser.add_argument("--image-size", type=int, nargs=2, default=(256, 128))
    parser.add_argument("--frames", type=int, default=4, help="frames of a clip")
    parser.add_argument("--steps", type=int, default=25, help="batches of 16 x 4 clips in a run")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    from kreid.data import TrainingPipeline

    with tempfile.TemporaryDirectory() as scratch:
        tracklets = read_mars(options.root).train if options.root else drawn_tracklets(Path(scratch))
        settings = dict(
            image_size=options.image_size,
            num_frames=options.frames,
            persons_per_batch=16,
            tracklets_per_person=4,
            augmentation=Augmentation(flip=0.5, crop_padding=PADDING),
        )
        pipeline = TrainingPipeline(tracklets, **settings)
        cached = TrainingPipeline(tracklets, cache="memory", **settings)
        paths = [path for tracklet in tracklets for path in tracklet.frames]
        batches = list(planned(pipeline, paths, options.steps))
        shape = (2 * options.workers, pipeline.batch_size, options.frames, *pipeline.image_size, 3)
        memory = SharedMemory(create=True, size=int(np.prod(shape)))
        slots = np.ndarray(shape, np.uint8, memory.buf)
        loader = torch_loader(batches, pipeline, options.workers)
        sides = {"kreid": [], "cached": [], "pool": [], "bare": []} | ({"torch": []} if loader else {})
        with get_context("spawn").Pool(options.workers, attach, (memory.name, shape)) as pool:
            for run in range(options.runs + 1):
                seconds = {
                    "kreid": dataset_seconds(pipeline.dataset().take(options.steps)),
                    "cached": dataset_seconds(cached.dataset().take(options.steps)),
                    "pool": pool_seconds(pool, slots, batches),
                    "bare": dataset_seconds(bare(batches, pipeline)),
                }
                if loader:
                    seconds["torch"] = dataset_seconds(loader)
                # The first run warms the page cache and the workers.
                for side in sides if run else ():
                    sides[side].append(options.steps * pipeline.batch_size * options.frames / seconds[side])
        del slots
        memory.close()
        memory.unlink()
    rates = {side: statistics.median(values) for side, values in sides.items()}
    print(f"kreid's pipeline: {rates['kreid']:,.0f} frames/s")
    print(f"the same, frames cached in memory: {rates['cached']:,.0f} frames/s")
    print(f"bare tf.data chain: {rates['bare']:,.0f} frames/s")
    rivals = {"pool": f"pool of {options.workers} processes with Pillow", "torch": "torch DataLoader"}
    for side in rivals.keys() & sides.keys():
        ratio = statistics.median(one / other for one, other in zip(sides["kreid"], sides[side], strict=True))
        print(f"{rivals[side]}: {rates[side]:,.0f} frames/s; kreid's to it: {ratio:.2f} (target: {TARGET})")


if __name__ == "__main__":
    main()
