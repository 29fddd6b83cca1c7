import json

import numpy as np
import pytest
import tensorflow as tf
from serving_samples import IMAGE_SIZE, encode, random_tracklet
from serving_session import Session

from kreid.data.frames import decode_frames
from kreid.distances import distance_matrix
from kreid.evaluation import fit_verification
from kreid.models import Passport, fingerprint
from kreid.serving import export_model, read_card, read_warmup, signatures
from kreid.serving.export import next_version, versions
from kreid.training.export_run import read_passport

FRAMES, LENGTHS = ("uint8", [-1, -1, 64, 32, 3]), ("int32", [-1])
SIGNATURES = {
    "serving_default": ({"frames": FRAMES}, {"embedding", "valid_frames"}),
    "embed_padded": ({"frames": FRAMES, "lengths": LENGTHS}, {"embedding", "valid_frames"}),
    "embed_jpeg": ({"images": ("string", [-1, -1]), "lengths": LENGTHS}, {"embedding", "valid_frames"}),
    "describe": ({"rows": LENGTHS}, {"card"}),
    "encode_frames": ({"frames": FRAMES, "lengths": LENGTHS}, {"vectors", "lengths"}),
    "aggregate": ({"vectors": ("float32", [-1, -1, 128]), "lengths": LENGTHS}, {"embedding", "valid_vectors"}),
    "search": ({"embedding": ("float32", [-1, 128])}, {"person", "tracklet", "distance"}),
}


@pytest.fixture(scope="module")
def session(base_path):
    return Session(base_path / "3")


def padded(tracklets):
    lengths = np.array([len(frames) for frames in tracklets], np.int32)
    frames = np.zeros((len(tracklets), lengths.max(), *IMAGE_SIZE, 3), np.uint8)
    for row, tracklet in enumerate(tracklets):
        frames[row, : len(tracklet)] = tracklet
    return frames, lengths


def test_signatures_have_the_promised_names_types_and_shapes(session):
    for name, (inputs, outputs) in SIGNATURES.items():
        signature = session.signatures[name]
        assert {
            alias: (tf.as_dtype(info.dtype).name, [dim.size for dim in info.tensor_shape.dim])
            for alias, info in signature.inputs.items()
        } == inputs
        assert set(signature.outputs) == outputs


def test_serving_default_equals_embed(session, model):
    frames = np.stack([random_tracklet(0, 3), random_tracklet(1, 3)])
    np.testing.assert_allclose(
        session.run("serving_default", frames=frames)["embedding"], model.embed(frames), rtol=1e-4, atol=1e-5
    )


def test_embed_padded_equals_embed_and_ignores_padding(session, model):
    frames, lengths = padded([random_tracklet(0, 4), random_tracklet(1, 2)])
    expected = model.embed(frames, lengths)
    noisy = frames.copy()
    noisy[1, 2:] = random_tracklet(9, 2)
    for content in (frames, noisy):
        embeddings = session.run("embed_padded", frames=content, lengths=lengths)["embedding"]
        np.testing.assert_allclose(embeddings, expected, rtol=1e-4, atol=1e-5)


def test_lengths_out_of_range_refuse_their_row_alone(session, model):
    frames, _ = padded([random_tracklet(seed, 3) for seed in range(4)])
    lengths = np.array([99, 2, -4, 0], np.int32)
    answer = session.run("embed_padded", frames=frames, lengths=lengths)
    assert answer["valid_frames"].tolist() == [-1, 2, -1, 0]
    assert np.isnan(answer["embedding"][[0, 2, 3]]).all()
    expected = model.embed(frames[1:2], lengths[1:2])
    np.testing.assert_allclose(answer["embedding"][1:2], expected, rtol=1e-4, atol=1e-5)


def test_embed_jpeg_leaves_out_damaged_images_without_touching_neighbours(session, model):
    good = [[encode(frame) for frame in random_tracklet(seed, 4, size=(90, 40))] for seed in range(4)]
    images = np.empty((4, 4), object)
    images[:] = good
    images[1, 0] = good[1][0][:200]  # cut inside the header
    images[1, 2] = b"no image at all"
    images[2, :] = [b"", b"\xff\xd8", good[2][2][:-900], b"\x89PNG\r\n\x1a\n"]
    images[3, 3] = encode(random_tracklet(5, 1, size=(64, 32))[0], "PNG")
    lengths = np.array([4, 4, 4, 4], np.int32)
    readable = [good[0], [good[1][1], good[1][3]], [], list(images[3])]

    answer = session.run("embed_jpeg", images=images, lengths=lengths)

    assert answer["valid_frames"].tolist() == [4, 2, 0, 4]
    frames = np.zeros((4, 4, *IMAGE_SIZE, 3), np.uint8)
    for row, contents in enumerate(readable):
        if contents:
            frames[row, : len(contents)] = decode_frames(tf.constant(contents), IMAGE_SIZE)[0].numpy()
    expected = model.embed(frames, np.array([4, 2, 0, 4], np.int32))
    expected[2] = np.nan
    np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-4, atol=1e-5)


def test_images_beyond_the_length_are_not_looked_at(session):
    one = encode(random_tracklet(0, 1)[0])
    images = np.array([[one, one, one], [one, b"x", b""]], object)
    answer = session.run("embed_jpeg", images=images, lengths=np.array([2, 1], np.int32))
    assert answer["valid_frames"].tolist() == [2, 1]


def test_a_tracklet_alone_and_in_a_batch_agree(session):
    images = np.array([[encode(frame) for frame in random_tracklet(seed, 3)] for seed in range(3)], object)
    together = session.run("embed_jpeg", images=images, lengths=np.full(3, 3, np.int32))["embedding"]
    for row in range(3):
        alone = session.run("embed_jpeg", images=images[row : row + 1], lengths=np.array([3], np.int32))["embedding"]
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("serving_default", [np.zeros((1, 0, 64, 32, 3), np.uint8)], "at least one frame"),
        ("serving_default", [np.zeros((0, 2, 64, 32, 3), np.uint8)], "at least one tracklet"),
        ("serving_default", [np.zeros((1, 2, 65, 32, 3), np.uint8)], "not compatible with expected shape"),
        ("serving_default", [random_tracklet(0, 1025)[None]], "at most 1024 frames"),
        ("embed_padded", [np.zeros((1, 1, 64, 32, 3), np.uint8), np.array([-1], np.int32)], "must have 0 to T frames"),
        ("embed_padded", [np.zeros((2, 1, 64, 32, 3), np.uint8), np.array([1], np.int32)], "one entry per tracklet"),
        ("embed_jpeg", [np.zeros((1, 0), object), np.array([0], np.int32)], "at least one frame"),
        ("embed_jpeg", [np.full((1, 1025), b"", object), np.full(1, 1025, np.int32)], "at most 1024 frames"),
        ("embed_jpeg", [np.full((1025, 1), b"", object), np.ones(1025, np.int32)], "at most 1024 tracklets"),
        ("describe", [np.zeros(1025, np.int32)], "at most 1024 tracklets"),
        ("describe", [np.zeros(0, np.int32)], "at least one tracklet"),
        ("encode_frames", [random_tracklet(0, 1025)[None], np.full(1, 1025, np.int32)], "at most 1024 frames"),
        ("aggregate", [np.full(1, 1025, np.int32), np.zeros((1, 1025, 128), np.float32)], "at most 1024 vectors"),
        ("aggregate", [np.full(1, 1, np.int32), np.zeros((1, 1, 127), np.float32)], "not compatible with expected"),
        ("embed_jpeg", [np.full((2, 1), b"", object), np.zeros(3, np.int32)], "one entry per tracklet"),
    ],
)
def test_the_graph_itself_refuses_invalid_requests(session, signature, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run_unchecked(signature, *inputs)


def test_card_keeps_the_fitted_threshold(model, tmp_path):
    embeddings, persons, cameras = np.arange(8.0)[:, None], [1, 1, 2, 2, 3, 3, 4, 4], [0, 1] * 4
    fitted = {
        metric: fit_verification(
            embeddings, persons, cameras, metric, false_match_rate=0.1, fitted_on="eight tracklets"
        )
        for metric in ("euclidean", "cosine")
    }
    path = export_model(model, tmp_path, verification=fitted[model.metric])
    card = read_card(path)
    assert card["verification"] == fitted[model.metric]
    assert card["lacks"] == {}
    (first, second), limit = np.random.default_rng(0).random((2, 3, 128), np.float32), fitted[model.metric]["threshold"]
    answer = Session(path).run("same_person", first=first, second=second)
    np.testing.assert_allclose(answer["distance"], np.diag(distance_matrix(first, second, model.metric)), atol=1e-5)
    assert answer["same_person"].tolist() == (answer["distance"] < limit).tolist()
    assert read_warmup(path)[-1][0] == "same_person"
    other = next(metric for metric in fitted if metric != model.metric)
    with pytest.raises(ValueError, match=rf"metric, {model.metric}; .*metric='{other}'"):
        export_model(model, tmp_path, version=2, verification=fitted[other])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_same_person_decides_at_the_threshold(model, metric):
    fitted = {"threshold": 0.75, "calibration": {"scale": 4.0, "offset": 2.0}}
    same_person = signatures._same_person(metric, 8, signatures.limits_of(model), fitted)
    first = np.random.default_rng(0).normal(0, 0.4, (40, 8)).astype("float32")
    second = first + np.random.default_rng(1).normal(0, 0.3, (40, 8)).astype("float32")
    first[0] = 0
    second[1] = first[1]
    second[2] = np.nan
    answer = {name: values.numpy() for name, values in same_person(first, second).items()}
    rows = np.arange(40) != 2
    distance = np.diag(distance_matrix(first[rows], second[rows], metric))
    np.testing.assert_allclose(answer["distance"][rows], distance, atol=1e-5)
    np.testing.assert_allclose(answer["probability"][rows], 1 / (1 + np.exp(4 * distance - 2)), atol=1e-5)
    assert answer["same_person"][rows].tolist() == (distance < 0.75).tolist()
    assert 0 < answer["same_person"].sum() < 39
    assert answer["distance"][0] == pytest.approx(1) if metric == "cosine" else answer["distance"][0] > 0
    # No vector, no person.
    assert np.isnan([answer["distance"][2], answer["probability"][2]]).all()
    assert not answer["same_person"][2]
    with pytest.raises(tf.errors.InvalidArgumentError, match="first and second need equal rows"):
        same_person(first, second[:1])


def test_a_threshold_without_calibration_decides_nothing(model):
    fitted = {"metric": model.metric, "threshold": 0.4}
    assert "fit it again" in signatures.lacking(model, fitted)["same_person"]
    assert "No threshold was fitted" in signatures.lacking(model, None)["same_person"]


@pytest.mark.parametrize(
    "limits", [{"frame_limit": 0}, {"frame_limit": 1.5}, {"frames_at_once": 0}, {"frame_limit": True}]
)
def test_limits_are_positive_integers(model, tmp_path, limits):
    (name,) = limits
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least 1. Received: {name}="):
        export_model(model, tmp_path, **limits)
    assert not list(tmp_path.iterdir())


def test_card_has_the_passport(model, tmp_path):
    weights = {"weights": "mobilenet_v2.safetensors", "sha256": 64 * "0", "layout": "torchvision"}
    fitted = {"metric": model.metric, "threshold": 0.4}
    twin = type(model).from_config(model.get_config())
    twin.backbone.passport = weights
    twin.passport = Passport(trained_on={"data": "mine", "persons": 9}, verification=fitted)
    card = read_card(export_model(twin, tmp_path, warmup=False))
    assert card["passport"]["starting_weights"] == weights
    assert card["passport"]["trained_on"] == {"data": "mine", "persons": 9}
    assert card["verification"] == fitted
    assert read_passport(tmp_path) == read_passport(tmp_path / "1") == Passport.from_dict(card["passport"])


def test_card_is_the_same_on_disk_and_on_the_wire(session, base_path, model):
    card = read_card(base_path / "3")
    assert card["system"] == "Baseline"
    assert (card["metric"], card["image_size"]) == (model.metric, [64, 32])
    assert card["embedding_dim"] == model.embedding_dim
    assert card["verification"] is None
    assert card["fingerprint"] == fingerprint(model)
    assert Passport.from_dict(card["passport"]) == model.passport.saved_now(fingerprint(model))
    assert set(card["signatures"]) == set(SIGNATURES)
    answer = session.run("describe", rows=np.zeros(2, np.int32))["card"]
    assert [json.loads(text) for text in answer] == [card, card]


def test_warmup_has_the_format_of_tensorflow_serving(session, base_path):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    path = base_path / "3" / "assets.extra" / "tf_serving_warmup_requests"
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    ]
    assert [log.predict_log.request.model_spec.signature_name for log in logs] == list(SIGNATURES)
    for log, (signature, inputs) in zip(logs, read_warmup(base_path / "3"), strict=True):
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in log.predict_log.request.inputs.items()}
        assert arrays.keys() == inputs.keys()
        for name, array in arrays.items():
            assert array.dtype == inputs[name].dtype
            np.testing.assert_array_equal(array, inputs[name])
        answer = session.run(signature, **arrays)
        if "valid_frames" in answer:
            assert answer["valid_frames"].tolist() == [8]


def test_versions_are_never_overwritten(model, base_path):
    before = sorted(path.name for path in base_path.iterdir())
    with pytest.raises(ValueError, match=r"next free one is 4\. Received: version=3"):
        export_model(model, base_path, version=3)
    assert sorted(path.name for path in base_path.iterdir()) == before == ["3"]


@pytest.mark.parametrize("version", [0, -1, True, "2", 1.0])
def test_a_version_is_a_positive_integer(model, tmp_path, version):
    with pytest.raises(ValueError, match="Received: version="):
        export_model(model, tmp_path, version=version)


def test_a_failed_export_leaves_nothing_behind(tmp_path):
    class Broken:
        image_size, metric, embedding_dim = (8, 4), "euclidean", 2

        class embedder:
            variables = weights = ()

            def __new__(cls, inputs, training):
                raise ArithmeticError("cannot be traced")

    with pytest.raises(ArithmeticError):
        export_model(Broken(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_versions_are_integer_folders(tmp_path):
    for name in ("2", "10", "writing-11-x", "latest"):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    assert versions(tmp_path) == [2, 10]
    assert next_version(tmp_path) == 11
    assert next_version(tmp_path / "nothing") == 1


def test_a_model_saved_and_loaded_exports_the_same(model, session, tmp_path):
    import keras

    model.save(tmp_path / "model.keras")
    export_model(keras.models.load_model(tmp_path / "model.keras"), tmp_path / "out", warmup=False)
    frames = random_tracklet(0, 3)[None]
    again = Session(tmp_path / "out" / "1")
    np.testing.assert_allclose(
        again.run("serving_default", frames=frames)["embedding"],
        session.run("serving_default", frames=frames)["embedding"],
        rtol=1e-5,
        atol=1e-6,
    )
    assert not (tmp_path / "out" / "1" / "assets.extra" / "tf_serving_warmup_requests").exists()


def test_sta_exports_and_agrees(tmp_path):
    from kreid import backbones, models

    sta = models.STA(backbones.build("resnet_tiny", image_size=IMAGE_SIZE), num_identities=5, num_stripes=2)
    loaded = Session(export_model(sta, tmp_path, warmup=False))
    frames, lengths = padded([random_tracklet(0, 9), random_tracklet(1, 3)])
    np.testing.assert_allclose(
        loaded.run("embed_padded", frames=frames, lengths=lengths)["embedding"],
        sta.embed(frames, lengths),
        rtol=1e-4,
        atol=1e-5,
    )
