"""The baseline's embedding before and after its neck, and its poolings over frames."""

import numpy as np
import pytest
from model_samples import FRAMES, LENGTHS, SIZE, batch, compiled

import kreid
from kreid.models import Baseline

pytestmark = pytest.mark.usefixtures("eagerly")


def test_baseline_embeds_after_the_neck_or_before():
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE), 6)
    compiled(model).fit(*batch(), epochs=2, verbose=0)
    pooled = model({"frames": FRAMES, "lengths": np.full(4, 5, "int32")})["features"].numpy().astype("float64")
    neck = model.bnneck
    mean, variance, gamma = (np.asarray(v) for v in (neck.moving_mean, neck.moving_variance, neck.gamma))
    expected = (pooled - mean) / np.sqrt(variance + neck.epsilon) * gamma
    np.testing.assert_allclose(model.embed(FRAMES), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pooling", ["agreement", "majority"])
def test_robust_poolings_train_save_and_explain(pooling, tmp_path):
    backbone = kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8)
    given = {"pooling": pooling, "pooling_threshold": 0.4, "agreement_temperature": 20.0}
    model = Baseline(backbone, 6, embedding_dim=12, **given)
    compiled(model).fit(*batch(), epochs=2, verbose=0)
    mean = model.frame_pooling.moving_mean.numpy()
    vectors = model.part_encoder.predict_on_batch({"frames": FRAMES, "lengths": np.full(4, 5, "int32")})
    assert 0.1 * vectors.mean() < mean.mean() < vectors.mean()  # two steps of momentum 0.9 towards it

    model.save(tmp_path / "model.keras")
    loaded = kreid.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.frame_pooling.moving_mean, mean)
    np.testing.assert_array_equal(loaded.embed(FRAMES, LENGTHS), model.embed(FRAMES, LENGTHS))
    assert loaded.get_config()["pooling_threshold"] == 0.4

    explained = model.explainer.predict_on_batch({"frames": FRAMES, "lengths": LENGTHS})
    _, weights = model.frame_pooling(
        np.where((np.arange(5) < LENGTHS[:, None])[..., None], vectors, 0),
        mask=np.arange(5) < LENGTHS[:, None],
        return_attention=True,
    )
    np.testing.assert_allclose(explained["frames"], weights, rtol=1e-3, atol=1e-5)
    chunked = model.embed_batch(model.checked_batch(FRAMES, LENGTHS), frames_at_once=8)
    np.testing.assert_allclose(chunked, model.embed(FRAMES, LENGTHS), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("in_graphs")
def test_majority_pooling_is_exported(tmp_path):
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6, pooling="majority")
    kreid.testing.check_export(model, kreid.serving.export_model(model, tmp_path, warmup=False))


def test_with_pooling_keeps_the_weights_and_takes_the_necks_mean():
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6)
    compiled(model).fit(*batch(), epochs=1, verbose=0)
    majority = model.with_pooling("majority", pooling_threshold=0.0)
    np.testing.assert_array_equal(majority.frame_pooling.moving_mean, model.bnneck.moving_mean)
    # One frame has the same embedding; a tracklet of two kinds of frames keeps the larger.
    np.testing.assert_array_equal(majority.embed(FRAMES[:, :1]), model.embed(FRAMES[:, :1]))
    mixed = np.concatenate(
        [np.repeat(FRAMES[:1, :1], 3, axis=1), np.repeat(255 - FRAMES[:1, :1] // 8, 2, axis=1)], axis=1
    )
    np.testing.assert_allclose(majority.embed(mixed), model.embed(mixed[:, :1]), rtol=1e-3, atol=1e-3)
    assert np.abs(majority.embed(mixed) - model.embed(mixed)).max() > 0.1
    # Back again, and with a mean of one's own.
    np.testing.assert_array_equal(majority.with_pooling("average").embed(FRAMES), model.embed(FRAMES))
    again = majority.with_pooling("agreement", np.arange(64), agreement_temperature=3.0)
    np.testing.assert_array_equal(again.frame_pooling.moving_mean, np.arange(64))
    assert again.frame_pooling.t == 3.0
    assert again.with_pooling("majority").frame_pooling.threshold == 0.0
    np.testing.assert_array_equal(again.with_pooling("majority").frame_pooling.moving_mean, np.arange(64))


def test_stripes_have_heads_of_their_own(tmp_path):
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6, num_stripes=2)
    assert model.loss_targets == ("logits", "features", "logits_1", "features_1", "logits_2", "features_2")
    compiled(model).fit(*batch(model.loss_targets), epochs=2, verbose=0)
    lengths = np.array([5, 1, 3, 2], "int32")
    outputs = model({"frames": FRAMES, "lengths": lengths})
    maps = np.asarray(model.backbone(model.preprocessing(FRAMES)), "float64")
    real = (np.arange(5) < lengths[:, None])[..., None]
    parts, embedding = {"": maps, "_1": maps[:, :, : maps.shape[2] // 2], "_2": maps[:, :, maps.shape[2] // 2 :]}, []
    for (head, part), (neck, classifier) in zip(
        parts.items(), [(model.bnneck, model.classifier), *model.stripe_heads], strict=True
    ):
        pooled = (part.mean(axis=(2, 3)) * real).sum(axis=1) / lengths[:, None]
        np.testing.assert_allclose(outputs[f"features{head}"], pooled, rtol=1e-3, atol=1e-5)
        mean, variance, gamma = (np.asarray(v, "float64") for v in (neck.moving_mean, neck.moving_variance, neck.gamma))
        embedding.append((pooled - mean) / np.sqrt(variance + neck.epsilon) * gamma)
        np.testing.assert_allclose(
            outputs[f"logits{head}"], embedding[-1] @ np.asarray(classifier.kernel), rtol=1e-3, atol=1e-4
        )
    np.testing.assert_allclose(model.embed(FRAMES, lengths), np.concatenate(embedding, -1), rtol=1e-3, atol=1e-3)

    model.save(tmp_path / "model.keras")
    loaded = kreid.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.embed(FRAMES, lengths), model.embed(FRAMES, lengths))
    majority = model.with_pooling("majority")
    necks = [model.bnneck, *(neck for neck, _ in model.stripe_heads)]
    np.testing.assert_array_equal(
        majority.frame_pooling.moving_mean, np.concatenate([neck.moving_mean for neck in necks])
    )
    np.testing.assert_allclose(majority.embed(FRAMES[:, :1]), model.embed(FRAMES[:, :1]), rtol=1e-5, atol=1e-5)


def test_with_pooling_before_a_dense_layer_needs_a_mean():
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6, embedding_dim=4)
    assert model.mean_frame_vector is None
    with pytest.raises(ValueError, match=r"no mean of its frame vectors.*mean_frame_vector"):
        model.with_pooling("majority")
    assert model.with_pooling("majority", np.zeros(64)).pooling == "majority"


def test_moving_means_do_not_train_in_chunks():
    model = Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6, pooling="agreement")
    model.backbone.trainable = False
    model.cached_chunks = 2
    with pytest.raises(ValueError, match=r"cached_chunks=2, 1 layers that train, such as .*agreement_pooling"):
        compiled(model).fit(*batch(), epochs=1, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"pooling": "median"}, "Choose one of average, agreement, majority. Received: pooling='median'"),
        ({"pooling_threshold": -1.0}, "threshold=-1.0"),
        ({"agreement_temperature": float("inf")}, "t=inf"),
        ({"num_stripes": -1}, "num_stripes=-1"),
        ({"num_stripes": 2, "embedding_dim": 8}, "set embedding_dim=None. Received: num_stripes=2, embedding_dim=8"),
        ({"num_stripes": 3}, "divisible by the number of stripes.*num_stripes=3"),
    ],
)
def test_refused_poolings(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Baseline(kreid.backbones.build("resnet_tiny", image_size=SIZE, width=8), 6, **arguments)
