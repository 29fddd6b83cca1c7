"""Saved models, loaded in a process that has imported kreid alone."""

import json
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import kreid

pytestmark = pytest.mark.usefixtures("eagerly")


def make(**kwargs):
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8, last_stride=1)
    return kreid.models.RTF(backbone, 3, embedding_dim=6, **kwargs)


FRAMES = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 32, 3), dtype="uint8")
INPUTS = {"frames": FRAMES, "lengths": np.array([3, 2], "int32")}


@pytest.fixture(scope="module")
def trained(eagerly):
    """A compiled model after a step, which tests only read."""
    model = make()
    losses = {"logits": kreid.losses.SmoothedIdentity(), "features": kreid.losses.BatchHardTriplet()}
    model.compile("adam", loss=losses, jit_compile=False)
    model.fit(INPUTS, dict.fromkeys(losses, np.array([0, 1])), verbose=0)
    return model


def renamed(path, *replacements):
    """A saved file with texts of its config replaced."""
    new = path.with_name("renamed.keras")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w") as written:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                text = content.decode()
                for before, after in replacements:
                    assert before in text
                    text = text.replace(before, after)
                content = json.dumps(json.loads(text)).encode()
            written.writestr(name, content)
    return new


def test_a_checkpoint_loads_after_kreid_alone_is_imported(trained, tmp_path):
    model = trained
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "frames.npy", FRAMES)
    code = (
        "import sys, kreid, numpy as np; assert 'keras' not in sys.modules; model = kreid.load_model(sys.argv[1]); "
        "print(type(model.optimizer).__name__, int(model.optimizer.iterations), *sorted(model.loss));"
        "np.save(sys.argv[3], model.embed(np.load(sys.argv[2])))"
    )
    paths = [str(tmp_path / name) for name in ("model.keras", "frames.npy", "embeddings.npy")]
    ran = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["Adam", "1", "features", "logits"]
    np.testing.assert_allclose(np.load(paths[2]), model.embed(FRAMES), rtol=1e-4, atol=1e-5)


def test_files_under_older_names_load(trained, tmp_path):
    model = trained
    model.save(tmp_path / "model.keras")
    old = renamed(
        tmp_path / "model.keras",
        ('"kreid>RTF"', '"kreid>MultiStageFusion"'),
        ('"class_name": "RTF"', '"class_name": "MultiStageFusion"'),
        ('"features"', '"embedding"'),
    )
    loaded = kreid.load_model(old)
    assert type(loaded) is kreid.models.RTF
    np.testing.assert_array_equal(loaded.embed(FRAMES), model.embed(FRAMES))
    assert set(loaded.loss) == {"logits", "features"}
    loaded.fit(INPUTS, dict.fromkeys(loaded.loss, np.array([0, 1])), verbose=0)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(ValueError, match=r"There is no model file.*nowhere.keras"):
        kreid.load_model(tmp_path / "nowhere.keras")
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="holds a Sequential, not a model of kreid"):
        kreid.load_model(tmp_path / "other.keras")
    make().save(tmp_path / "model.keras")
    own = renamed(tmp_path / "model.keras", ('"kreid>RTF"', '"kreid_system>gated"'))
    with pytest.raises(ValueError, match="your own system 'gated'; import the module"):
        kreid.load_model(own)


@pytest.mark.parametrize("frames", [FRAMES / 255.0, (FRAMES / 255).astype("float32"), FRAMES.astype("int32")])
def test_frames_of_another_dtype_are_refused_everywhere(frames, trained):
    model = trained
    inputs = {**INPUTS, "frames": frames}
    labels = dict.fromkeys(model.loss_targets, np.array([0, 1]))
    for call in (
        lambda: model.fit(inputs, labels, verbose=0),
        lambda: model.predict(inputs, verbose=0),
        lambda: model(inputs),
        lambda: model.embedder.predict(inputs, verbose=0),
        lambda: model.embedder(inputs),
        lambda: model.explainer.predict_on_batch(inputs),
        lambda: model.embed(frames),
    ):
        with pytest.raises(ValueError, match=r"Frames must be uint8 RGB values of 0\.\.255.*Received: frames of dtype"):
            call()


# Keras names every layer without weights.
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
@pytest.mark.usefixtures("in_graphs")  # Graphs hold the weights from before.
@pytest.mark.slow
def test_quantised_models_embed_and_load(tmp_path):
    model = make()
    before = model.embed(FRAMES)
    model.quantize("int8")
    after = model.embed(FRAMES)
    assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    np.testing.assert_array_equal(
        model.explainer.predict_on_batch({"frames": FRAMES, "lengths": np.array([3, 3], "int32")})["embedding"], after
    )
    model.save(tmp_path / "int8.keras")
    np.testing.assert_array_equal(kreid.load_model(tmp_path / "int8.keras").embed(FRAMES), after)
    with pytest.raises(ValueError, match=r"Quantise once.*quantization="):
        model.quantize("int8")
    with pytest.raises(ValueError, match="one of int8, int4, float8"):
        make().quantize("gptq", config=keras.quantizers.GPTQConfig(dataset=[], tokenizer=None))


def test_clones_and_policy_objects(tmp_path):
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), width=8, last_stride=1)
    model = kreid.models.STA(backbone, 3, embedding_dim=6, num_stripes=2, dtype=keras.DTypePolicy("mixed_bfloat16"))
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    outputs, cloned = model.predict_on_batch(INPUTS), clone.predict_on_batch(INPUTS)
    np.testing.assert_array_equal(cloned["features"], outputs["features"])
    model.save(tmp_path / "half.keras")
    loaded = kreid.load_model(tmp_path / "half.keras")
    assert loaded.dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_array_equal(loaded.embed(FRAMES), model.embed(FRAMES))
    with pytest.raises(ValueError, match=r"model.from_config\(model.get_config\(\)\)"):
        keras.models.clone_model(make())


@pytest.mark.usefixtures("in_graphs")
def test_keras_export_gives_the_embedding_alone(tmp_path):
    model = make()
    with pytest.raises(ValueError, match=r"kreid\.serving\.export_model.*model\.embedder\.export.*Received: args="):
        model.export(str(tmp_path / "training_graph"))
    assert not (tmp_path / "training_graph").exists()
    model.embedder.export(str(tmp_path / "embedder"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "embedder"))
    np.testing.assert_allclose(exported.serve(INPUTS), model.embed(**INPUTS), rtol=1e-4, atol=1e-5)


def test_a_file_of_a_newer_kreid_says_so(tmp_path):
    make(fusion="late").save(tmp_path / "model.keras")
    of_this_version = f'"kreid": "{kreid.__version__}"'
    unknown = ('"fusion": ', '"fission": 1, "fusion": ')
    # Newer alone is no harm.
    kreid.load_model(renamed(tmp_path / "model.keras", (of_this_version, '"kreid": "99.1.0"')))
    new = renamed(tmp_path / "model.keras", (of_this_version, '"kreid": "99.1.0"'), unknown)
    with pytest.raises(ValueError, match=r"by a newer kreid .* install kreid 99\.1\.0 or later.*Received: path="):
        kreid.load_model(new)
    with pytest.raises(TypeError, match="fission"):
        kreid.load_model(renamed(tmp_path / "model.keras", unknown))
