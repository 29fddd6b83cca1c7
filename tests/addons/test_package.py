"""What importing TensorFlow Addons leaves behind, and what is said where it is missing."""

import importlib.util

import pytest

import kreid
from kreid.addons.package import missing

BRIDGE = """
import numpy as np, keras, kreid
loss = kreid.addons.losses.TripletHardLoss()
assert float(loss([0, 0, 1, 1], np.array([[0.0], [1.0], [3.0], [3.0]], "float32"))) >= 0
"""
PLAIN = """
try:
    import tensorflow_addons
except Exception as error:
    print(type(error).__name__, error)
else:
    print("imported")
"""
NAMES = """
import sys, keras
print(sorted(name for name in sys.modules if name.startswith(("tensorflow_addons", "keras.src.engine"))))
print(sorted(name for name in keras.saving.get_custom_objects() if name.startswith("Addons")))
"""


def test_the_error_names_a_command_or_kreids_own_losses():
    assert "pip install 'kreid[addons]'" in missing((3, 11))
    assert "semi_hard_triplet" in missing((3, 11))
    told = missing((3, 12))
    assert "pip" not in told
    assert "semi_hard_triplet" in told
    assert told.endswith("Received: Python 3.12")


def test_without_the_package():
    if importlib.util.find_spec("tensorflow_addons") is not None:
        pytest.skip("TensorFlow Addons is installed")
    with pytest.raises(ImportError, match=r"kreid\[addons\]|Received: Python 3"):
        kreid.addons.full()
    with pytest.raises(ImportError, match=r"kreid\[addons\]|Received: Python 3"):
        kreid.addons.losses.NpairsLoss().check_installed()


@pytest.mark.usefixtures("with_addons")
def test_the_bridge_leaves_nothing_behind(fresh):
    assert fresh(f"import keras\n{BRIDGE}{NAMES}") == "[]\n[]"
    assert fresh(f"{BRIDGE}{PLAIN}") == fresh(f"import numpy, keras, kreid\n{PLAIN}")


@pytest.mark.usefixtures("with_addons", "tf_keras")
def test_the_whole_package_in_keras_2(fresh):
    said = fresh("""
import sys, kreid
addons = kreid.addons.full()
import tensorflow as tf, numpy as np, keras
x, labels = np.random.default_rng(0).normal(size=(8, 5)).astype("float32"), np.repeat([0, 1, 2, 3], 2)
layer = addons.layers.WeightNormalization(tf.keras.layers.Dense(3))
model = tf.keras.Sequential([layer])
model.compile(addons.optimizers.LazyAdam(), addons.losses.TripletSemiHardLoss())
model.fit(x, labels, verbose=0)
bridge = kreid.addons.losses.TripletSemiHardLoss()
assert np.isclose(float(bridge(labels, x)), float(addons.losses.triplet_semihard_loss(labels, x)))
assert kreid.addons.full() is addons is sys.modules["tensorflow_addons"]
assert "keras.src.engine" not in sys.modules
print(tf.keras.Model.__module__.split(".")[0], keras.Model.__module__.split(".")[0])
""")
    assert said.splitlines()[-1] == "tf_keras keras"


@pytest.mark.usefixtures("with_addons", "tf_keras")
def test_the_whole_package_after_the_bridge(fresh):
    """The bridge's losses ask `tf.keras` for its classes, so they come first in Keras 2's mode alone."""
    said = fresh(f"""
import os
os.environ["TF_USE_LEGACY_KERAS"] = "1"
{BRIDGE}
print(kreid.addons.full().__name__)
""")
    assert said.splitlines()[-1] == "tensorflow_addons"


@pytest.mark.usefixtures("with_addons", "tf_keras")
def test_the_whole_package_is_refused_where_keras_3_is_in_use(fresh):
    said = fresh("""
import os, kreid, tensorflow as tf
tf.keras.layers.Dense
try:
    kreid.addons.full()
except RuntimeError as error:
    print(error)
print(os.environ.get("TF_USE_LEGACY_KERAS"))
""")
    assert "before TensorFlow or Keras is imported" in said
    assert "Received: tf.keras from " in said
    assert said.endswith("None")
