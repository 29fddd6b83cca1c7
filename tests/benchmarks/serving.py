"""Measure what the wire costs: the embedded server over gRPC against the same SavedModel in this process.

    python tests/benchmarks/serving.py [--export EXPORT_DIR] [--calls 40] [--rounds 5] [--batch 1] [--hanging 0]

Each call embeds one tracklet of 8 JPEG frames (`embed_jpeg`), with 1, 8 and 32 clients at a time. Rounds of both sides
alternate; printed are the medians over rounds and their ratio. Without --export an untrained Baseline on
`resnet_tiny` at 256 x 128 is exported first: the smaller the model, the more the wire shows. The server runs in a
separate process on the same cores.

With `--hanging N` (3 or more) the sides are the server alone, and beside bad clients in a process of their own: a third
of N open a call and send no body, a third send one byte a second, and each second a third of N connect, send half a
request and vanish. Target: the p50 of the others is within 10%.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from kreid.serving import EmbeddingClient, export_model
from kreid.serving.export import versions

REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES = 8


def make_export(folder):
    """Export an untrained model."""
    from kreid import backbones, models

    export_model(models.Baseline(backbones.build("resnet_tiny", image_size=(256, 128)), num_identities=2), folder)
    return folder


def make_tracklet():
    """Return JPEG files of one tracklet."""
    generator = np.random.default_rng(0)
    blurred = tf.image.resize(generator.integers(0, 256, (FRAMES, 32, 16, 3)), (256, 128), method="bicubic")
    frames = tf.cast(tf.clip_by_value(blurred, 0, 255), tf.uint8)
    return [tf.io.encode_jpeg(frame).numpy() for frame in frames]


def measure(call, clients, calls):
    """Return calls per second, and the median milliseconds of one."""

    def timed():
        started = time.perf_counter()
        call()
        return time.perf_counter() - started

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        times = [done.result() for done in [pool.submit(timed) for _ in range(calls)]]
        return calls / (time.perf_counter() - started), 1000 * statistics.median(times)


# What an HTTP/2 client sends first, its settings, and a frame of a request's headers that is cut off.
HALF_A_REQUEST = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(
    [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 64, 1, 4, 0, 0, 0, 1, 0x83]
)


def disturb(target, number, commands):
    """Be so many bad clients from `"open"` until `"close"`, as often as asked."""
    import grpc

    host, port = target.rsplit(":", 1)
    for _ in iter(commands.recv, "end"):
        done = threading.Event()

        def no_body(done=done):
            done.wait()
            yield b""

        channels = [grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)]) for _ in range(number // 3)]
        path = "/tensorflow.serving.PredictionService/Predict"
        calls = [channel.stream_unary(path).future(no_body()) for channel in channels]
        slow = [socket.create_connection((host, int(port))) for _ in range(number // 3)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(30)
        commands.send("open")
        sent, vanished = 0, 0
        while not commands.poll(3 / number):
            if sent < len(HALF_A_REQUEST) and vanished % len(slow) == 0:
                for connection in slow:
                    connection.sendall(HALF_A_REQUEST[sent : sent + 1])
                sent += 1
            with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as connection:
                connection.sendall(HALF_A_REQUEST)
            vanished += 1
        commands.recv()
        assert not any(call.done() for call in calls)
        done.set()
        for channel in channels:
            channel.close()
        for connection in slow:
            connection.close()
        commands.send("closed")


def measure_disturbed(call, target, number, options):
    """Print the calls' p50 beside bad clients, and without."""
    commands, other_end = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=disturb, args=(target, number, other_end))
    process.start()
    for clients in (1, 8):
        rounds = {"alone": [], f"beside {number} bad ones": []}
        for _ in range(options.rounds):
            for name, times in rounds.items():
                if name != "alone":
                    commands.send("open")
                    commands.recv()
                times.append(measure(call, clients, options.calls))
                if name != "alone":
                    commands.send("close")
                    commands.recv()
        medians = [np.median(times, axis=0) for times in rounds.values()]
        for name, (rate, milliseconds) in zip(rounds, medians, strict=True):
            print(f"{clients} client(s), {name}: {rate:7.1f} tracklets/s, p50 {milliseconds:6.1f} ms")
        print(f"{clients} client(s), ratio of p50: {medians[1][1] / medians[0][1]:.2f}")
    commands.send("end")
    process.join()


def main():
    """Print the medians of both sides and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=1, help="the server's setting")
    parser.add_argument("--hanging", type=int, default=0, metavar="N", help="compare with and without N bad clients")
    options = parser.parse_args()
    if options.hanging in (1, 2):
        parser.error(f"--hanging must be 0, or at least 3: one bad client of each kind; received {options.hanging}")
    with tempfile.TemporaryDirectory() as folder:
        export = options.export or make_export(Path(folder) / "tiny")
        images = make_tracklet()
        loaded = tf.saved_model.load(str(export / str(versions(export)[-1])))
        inputs = {"images": tf.constant([images]), "lengths": tf.constant([FRAMES])}
        server = subprocess.Popen(
            [
                sys.executable,
                str(REPOSITORY / "serving" / "serve.py"),
                str(export),
                "--port",
                "0",
                "--batch",
                str(options.batch),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        try:
            target = server.stdout.readline().rsplit(" ", 1)[1].strip()
            with EmbeddingClient(target) as client:
                sides = {
                    "in process": lambda: loaded.signatures["embed_jpeg"](**inputs)["embedding"].numpy(),
                    "gRPC": lambda: client.embed_images([images])[0],
                }
                difference = np.abs(sides["in process"]() - sides["gRPC"]()).max()
                size = sum(map(len, images))
                print(f"one tracklet of {FRAMES} JPEGs, {size} bytes; largest difference {difference:.1e}")
                if options.hanging:
                    measure_disturbed(sides["gRPC"], target, options.hanging, options)
                    return
                for clients in (1, 8, 32):
                    rounds = {name: [] for name in sides}
                    for _ in range(options.rounds):
                        for name, call in sides.items():
                            rounds[name].append(measure(call, clients, options.calls))
                    medians = {name: np.median(values, axis=0) for name, values in rounds.items()}
                    for name, (rate, milliseconds) in medians.items():
                        print(f"{clients} client(s), {name:<10}: {rate:7.1f} tracklets/s, p50 {milliseconds:6.1f} ms")
                    ratio, more = medians["gRPC"][0] / medians["in process"][0], medians["gRPC"] - medians["in process"]
                    print(f"{clients} client(s), ratio gRPC / in process: {ratio:.2f}; p50 {more[1]:+.1f} ms")
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main()
