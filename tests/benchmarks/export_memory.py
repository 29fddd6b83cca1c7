"""Measure by how much a process grows while an export embeds long tracklets and merged batches.

    python tests/benchmarks/export_memory.py [--system baseline] [--backbone resnet50] [--frames-at-once 16]

The images are small JPEGs, so that the memory is that of the graph. Each batch runs in a process of its own, after a
batch of one frame. Target: no request takes more than 256 MiB.
"""

import argparse
import concurrent.futures
import io
import multiprocessing
import os
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from kreid.serving.signatures import FRAMES_AT_ONCE

BATCHES = ((1, 32), (1, 128), (1, 300), (1, 1024), (8, 8), (8, 300))
IMAGE_SIZE = (256, 128)


def export(system, backbone, frames_at_once, folder):
    """Export an untrained model; return the largest number of frames of a tracklet."""
    import kreid

    model = kreid.models.system_class(system)(kreid.backbones.build(backbone, image_size=IMAGE_SIZE), num_identities=2)
    path = kreid.serving.export_model(model, folder, warmup=False, frames_at_once=frames_at_once)
    return str(path), kreid.serving.read_card(path)["frame_limit"]


def growth(path, tracklets, frames):
    """Return the MiB by which the process grows at most."""
    import tensorflow as tf
    from PIL import Image

    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["embed_jpeg"]
        stream = io.BytesIO()
        Image.fromarray(np.full((16, 8, 3), 90, np.uint8)).save(stream, "JPEG")

        def run(tracklets, frames):
            images = np.full((tracklets, frames), stream.getvalue(), object)
            feeds = {"images": images, "lengths": np.full(tracklets, frames, np.int32)}
            session.run(loaded.outputs["embedding"].name, {loaded.inputs[k].name: v for k, v in feeds.items()})

        run(1, 1)
        before, most, done = resident(), [resident()], threading.Event()

        def watch():
            while not done.is_set():
                most[0] = max(most[0], resident())
                time.sleep(0.002)

        watcher = threading.Thread(target=watch)
        watcher.start()
        run(tracklets, frames)
        done.set()
        watcher.join()
    return (most[0] - before) / 2**20


def resident():
    """Return the process's bytes in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def in_process(function, *arguments):
    """Run a function in a new process."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--system", default="baseline")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--frames-at-once", type=int, default=FRAMES_AT_ONCE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path, limit = in_process(export, options.system, options.backbone, options.frames_at_once, folder)
        for tracklets, frames in BATCHES:
            if frames <= limit:
                print(
                    f"{tracklets} tracklets of {frames} frames: {in_process(growth, path, tracklets, frames):.0f} MiB"
                )


if __name__ == "__main__":
    main()
