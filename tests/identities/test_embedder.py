"""Models of runs, files and exports embed alike."""

import numpy as np
import pytest
from identity_samples import LIMITS, found_persons

from kreid.gallery import TrackletEmbeddings
from kreid.identities import load_embedder
from kreid.identities.__main__ import main
from kreid.runtimes import export


@pytest.mark.slow
def test_an_export_gives_the_same(identities, model, cameras, tmp_path):
    from kreid.serving import export_model

    export_model(model, tmp_path / "export", verification=model.passport.verification)
    assert main([str(tmp_path / "export"), *cameras, *LIMITS, "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert found_persons(tmp_path / "out")[0] == found_persons(identities)[0]
    record, expected = (TrackletEmbeddings.load(f / "embeddings.npz") for f in (tmp_path / "out", identities))
    np.testing.assert_allclose(record.embeddings, expected.embeddings, rtol=1e-4, atol=1e-4)
    assert record.model == expected.model
    limited = load_embedder(export_model(model, tmp_path / "short", frame_limit=4))
    assert limited.selection.positions(12).tolist() == [1, 4, 7, 10]
    assert limited.passport.verification == model.passport.verification


@pytest.mark.slow
def test_a_threshold_of_an_export(model, tmp_path):
    path = export(model, tmp_path / "export", "keras")
    assert load_embedder(path).passport.verification == model.passport.verification


def test_no_model(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match=r"Received: (model|run)="):
            load_embedder(path)
