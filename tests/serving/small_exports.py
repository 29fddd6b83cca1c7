"""Exports that load in a moment, for tests of the server around the model."""

import json
import shutil

import tensorflow as tf


def write_small_export(folder):
    """Write a SavedModel; `copy_version` gives it a number.

    `serving_default` averages frames, `describe` returns the rows, `work` multiplies matrices `rounds` times, and
    `fail` ends in DATA_LOSS.
    """
    module = tf.Module()
    module.scale = tf.Variable(tf.range(4, dtype=tf.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, None, 64, 32, 3], tf.uint8, "frames")])
    def serving_default(frames):
        return {"embedding": tf.reduce_mean(tf.cast(frames, tf.float32), [1, 2, 3, 4])[:, None] * module.scale}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "rows")])
    def describe(rows):
        return {"card": tf.fill([tf.shape(rows)[0]], "{}")}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "rounds")])
    def work(rounds):
        matrix = tf.zeros([200, 200])
        for _ in tf.range(rounds[0]):
            matrix = matrix @ matrix
        return {"sum": tf.reduce_sum(matrix)[None]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "contents")])
    def fail(contents):
        return {"decoded": tf.io.decode_compressed(contents, "ZLIB")}

    signatures = {"serving_default": serving_default, "describe": describe, "work": work, "fail": fail}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    (folder / "assets.extra").mkdir()


def copy_version(export, folder, version, broken=False):
    """Copy an export to a version's folder, by a rename, with a fingerprint of its own in its card."""
    writing = folder / "writing"
    shutil.copytree(export, writing, copy_function=shutil.copy)
    (writing / "assets.extra" / "kreid.json").write_text(json.dumps({"fingerprint": f"{version:064x}"}))
    if broken:
        (writing / "variables" / "variables.index").write_bytes(b"broken")
    writing.rename(folder / str(version))
