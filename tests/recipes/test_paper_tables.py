"""The papers' tables: rows by their names, printed figures, and every row as a model that survives a training step."""

import functools
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from recipe_samples import RECIPES

from kreid import training
from kreid.backbones import from_keras
from kreid.models import SYSTEMS
from kreid.training.table_runs import row_stages

pytestmark = pytest.mark.usefixtures("eagerly")

TABLES = sorted(file.stem for file in (RECIPES / "tables").glob("*.yaml"))
# Number of rows, and the first and the last row as the paper prints them: name, rank-1, mAP.
PAPERS = {
    "rtf1": (5, ("Feature Average", 78.1, 70.3), ("MS Fusion (Semantic Attention)", 83.6, 77.7)),
    "rtf2": (7, ("Average Pooling (late-fusion)", 82.5, 75.4), ("Intra/Inter-frame (RN) + multi-stage", 87.1, 85.2)),
    "tacan1": (6, ("baseline (ResNet50 + L_s)", 72.6, 61.4), ("SENet50 + TA + CA + L", 89.1, 84.0)),
    "sta1": (6, ("Baseline", 74.5, 64.0), ("Baseline + TL + STA + Fusion + Reg", 86.3, 80.8)),
    "sta2": (4, ("N=2", 81.7, 75.7), ("N=8", 86.2, 81.2)),
    "sta3": (3, ("K=2", 85.3, 80.3), ("K=8", 85.5, 80.4)),
    "rafa2": (6, ("Baseline", 85.9, 82.1), ("MG-RAFA (N=4)", 88.8, 85.9)),
    "rafa3": (9, ("Baseline", 85.9, 82.1), ("Ours (16x8x1)", 87.8, 85.1)),
    "rafa4": (3, ("NL(S)", 86.6, 83.2), ("SG-RAFA", 87.8, 85.1)),
    "rafa5": (8, ("Baseline", 85.9, 82.1), ("MG-RAFA (Ours)", 88.8, 85.9)),
    "gltr2": (4, ("baseline", 78.43, 65.45), ("GLTR", 87.02, 78.47)),
    "gltr3": (6, ("baseline, Alexnet", 24.23, 15.98), ("GLTR, ResNet50", 63.07, 44.43)),
    # A figure without printed numbers.
    "gltr6": (13, ("average pooling", None, None), ("temporal pyramid pooling (N=4)", None, None)),
}


# Rows that no paper has.
OWN = {
    "gltr2": ["average, trained on tracklets"],
    "gltr6": ["average, trained on tracklets", "DTP (N=3), linear"],
    "rafa4": ["average"],
}


@functools.cache
def table_of(name, small):
    return training.load_table(training.recipe_file("tables", name), small)


@functools.cache
def configs_of(name, small):
    """Each row's settings of its own training."""
    table = table_of(name, small)
    return {row.name: row_stages(table, row)[-1][1] for row in table.rows.values()}


@pytest.mark.parametrize("name", PAPERS)
def test_rows_are_the_papers(name):
    count, *ends = PAPERS[name]
    rows = [row for row in table_of(name, small=False).rows.values() if row.name not in OWN.get(name, [])]
    assert len(rows) == count
    for row, (label, rank1, mean) in zip((rows[0], rows[-1]), ends, strict=True):
        assert (row.name, row.printed.get("rank1"), row.printed.get("map")) == (label, rank1, mean)
    assert all(set(row.printed) == ({"rank1", "map"} if name != "gltr6" else set()) for row in rows)
    small = table_of(name, small=True)
    assert list(small.rows) == [row.name for row in rows] + OWN.get(name, [])
    assert not any(small.rows[own].printed for own in OWN.get(name, []))
    assert small.seeds == [0, 1, 2]


def test_some_figures_between():
    printed = {
        ("sta1", "Baseline + TL + Avg"): (82.5, 75.0),
        ("rtf2", "Intra/Inter-frame (Euclidean)"): (84.0, 79.1),
        ("tacan1", "ResNet50 + TA + CA + L_s + L_t"): (86.3, 81.6),
        ("rafa2", "SG-RAFA (S=4)"): (88.4, 84.9),
        ("rafa3", "T-P (16x8x2)"): (87.4, 84.7),
        ("rafa5", "CBAM (MG)"): (88.0, 84.6),
        ("gltr2", "TSA"): (85.40, 75.62),
        ("gltr3", "GLTR, Inception"): (51.83, 35.75),
    }
    for (name, row), figures in printed.items():
        assert tuple(table_of(name, small=False).rows[row].printed[score] for score in ("rank1", "map")) == figures


@pytest.mark.parametrize("name", [name for name in TABLES if name != "small"])
def test_small_rows_take_the_same_steps_of_as_many_frames(name):
    configs = configs_of(name, small=True)
    assert len({(config.epochs, config.steps_per_epoch, *config.image_size) for config in configs.values()}) == 1
    frames = set()
    for config in configs.values():
        persons = config.sampler == "persons"
        tracklets = config.persons_per_batch * config.tracklets_per_person if persons else config.batch_size
        frames.add(config.num_frames * tracklets)
        # A single frame that is bad leaves no good one.
        assert (config.bad_frames is None) == (config.num_frames == 1)
    assert frames == {128}


@pytest.fixture(scope="module")
def backbones():
    """Function: height of the maps, width -> a network of four plain stages on frames of four times the size."""
    built = {}

    def get(height, width):
        if (height, width) not in built:
            frames = x = keras.Input((4 * height, 4 * width, 3))
            for number, (channels, stride) in enumerate(((8, 4), (8, 1), (8, 1), (32, 1))):
                x = keras.layers.Conv2D(channels, stride, stride, activation="tanh", name=f"end{number}")(x)
            built[height, width] = keras.Model(frames, x)
        return built[height, width]

    return get


def distinct_rows():
    """Small rows with layers or losses that no row before them has: table, row, settings and size of the maps."""
    seen = set()
    for name in TABLES:
        for row, config in configs_of(name, small=True).items():
            maps = (4, 2)
            if config.system in ("mg_rafa", "sta"):
                maps = tuple(side // 16 for side in config.image_size)
            model = {
                key: value for key, value in config.model.items() if key not in ("bnneck", "metric", "embedding_dim")
            }
            losses = [bool(config.triplet_weight), bool(config.min_max_weight), config.num_frames == 1]
            layers = json.dumps([config.system, model, maps, losses])
            if layers not in seen:
                seen.add(layers)
                yield name, row, config, maps


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_survive_a_step(backbones, every):
    """Every row in the slow tests; otherwise the last of each table, often the whole system."""
    random = np.random.default_rng(0)
    cases = list(distinct_rows())
    assert len(cases) > 40
    cases = cases if every else list({case[0]: case for case in cases}.values())
    for name, row, config, maps in cases:
        network = keras.models.clone_model(backbones(*maps))
        system = SYSTEMS[config.system]
        backbone = from_keras(network, [f"end{number}" for number in range(4)], preprocessing="none")
        arguments = inspect.signature(system.__init__).parameters
        shared = [key for key in ("seed", "clip_length", "num_frames") if key in arguments]
        model = system(backbone, 2, **{key: getattr(config, key) for key in shared}, **config.model)
        frames = config.num_frames if config.system in ("mg_rafa", "tacan") else min(config.num_frames, 4)
        batch = {
            "frames": random.integers(0, 256, (4, frames, *network.input_shape[1:]), dtype=np.uint8),
            "lengths": np.full(4, frames, np.int32),
        }
        labels = np.array([0, 0, 1, 1])
        with tf.GradientTape() as tape:
            outputs = model(batch, training=True)
            losses = [loss(labels, outputs[key]) for key, loss in training.build_losses(config).items()]
            total = tf.add_n([tf.reshape(tf.cast(loss, tf.float32), ()) for loss in [*losses, *model.losses]])
        gradients = tape.gradient(total, model.trainable_weights)
        assert np.isfinite(float(total)), (name, row)
        assert all(np.isfinite(np.asarray(value)).all() for value in gradients if value is not None), (name, row)
        assert any(np.asarray(value).any() for value in gradients[:2] if value is not None), (name, row)
