"""`check_export` passes the exports of kreid's systems and finds faults."""

import pytest

import kreid
from kreid.serving import export_model
from kreid.testing import check_export


def model(system="baseline", **kwargs):
    backbone = kreid.backbones.build("resnet_tiny", image_size=(64, 32), last_stride=1)
    # Its granularities need maps that can be halved.
    small = {"num_granularities": 2} if system == "mg_rafa" else {}
    return kreid.models.SYSTEMS[system](backbone, 4, **small, **kwargs)


@pytest.mark.parametrize("system", kreid.models.SYSTEMS)
def test_export(system, tmp_path):
    made = model(system)
    embeddings = check_export(made, export_model(made, tmp_path))
    assert embeddings.shape == (2, made.embedding_dim)


def test_the_export_of_another_model_is_found(tmp_path):
    folder = export_model(model(), tmp_path)
    with pytest.raises(AssertionError, match="serving_default gives the embeddings of embed"):
        check_export(model(), folder)
