"""`kreid audit`: the files it reads, what it prints, its exit status."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from kreid import cli
from kreid.gallery import TrackletEmbeddings

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from audit_samples import results

APART, WITHIN = results()


@pytest.fixture
def audited(tmp_path, capsys):
    """Function: arrays and further arguments -> exit status, output and error."""

    def run(arrays, *more):
        np.savez(tmp_path / "results.npz", **arrays)
        status = cli.main(["audit", str(tmp_path / "results.npz"), *more])
        return status, *capsys.readouterr()

    return run


def test_clean_results(audited):
    status, out, err = audited(APART)
    assert (status, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines()]
    assert names == ["standard", "mars", "with_queries", "market", "no"]
    assert "AP3D, SINet, BiCnet-TKS, TKP and TF-CLIP" in out
    assert out.endswith("no faults found\n")


def test_names_of_torchreid_give_the_same(audited):
    short = {
        "query_embeddings": "qf",
        "gallery_embeddings": "gf",
        "query_persons": "q_pids",
        "query_cameras": "q_camids",
    }
    short |= {"gallery_persons": "g_pids", "gallery_cameras": "g_camids"}
    assert audited({short[name]: values for name, values in APART.items()})[1] == audited(APART)[1]


def test_a_fault_and_reported_scores_as_json(audited, tmp_path):
    shifted = {**APART, "gallery_cameras": np.roll(APART["gallery_cameras"], 1)}
    status, out, _ = audited(
        shifted, "--metric", "cosine", "--reported", "12.3/4.5", "--json", str(tmp_path / "a.json")
    )
    assert status == 1
    assert "FAULT misaligned_cameras: gallery_cameras fit better when shifted by -1" in out
    assert "FAULT unnormalised_cosine" in out
    assert "reported       12.3 rank-1    4.5 mAP\n  printed by none of these; the nearest is" in out
    data = json.loads((tmp_path / "a.json").read_text())
    assert [finding["kind"] for finding in data["findings"]] == ["misaligned_cameras", "unnormalised_cosine"]
    assert data["scores"][0]["distances"] == "cosine distances"


def test_a_file_of_kreids_own(tmp_path, capsys):
    places = np.array(
        [int(np.flatnonzero((WITHIN["gallery_embeddings"] == q).all(1))[0]) for q in APART["query_embeddings"]]
    )
    ids = [str(number) for number in range(len(WITHIN["gallery_persons"]))]
    labels = WITHIN["gallery_persons"], WITHIN["gallery_cameras"]
    record = TrackletEmbeddings(WITHIN["gallery_embeddings"], ids, *labels, places, metric="cosine")
    record.save(tmp_path / "own.npz")
    assert cli.main(["audit", str(tmp_path / "own.npz"), "--metric", "euclidean"]) == 0
    out = capsys.readouterr().out
    assert f"note queries_in_gallery: {len(places)} of {len(places)} queries are in the gallery" in out
    assert cli.main(["audit", str(tmp_path / "own.npz")]) == 1  # Its metric, of vectors of many lengths.
    assert "FAULT unnormalised_cosine" in capsys.readouterr().out
    record.take(np.setdiff1d(np.arange(len(ids)), places)).save(tmp_path / "own.npz")
    assert cli.main(["audit", str(tmp_path / "own.npz")]) == 2
    assert "Received: query_rows missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "more", "complaint"),
    [
        (
            {"query_persons": [1]},
            [],
            "query_cameras, gallery_persons, gallery_cameras is missing. Received: query_persons",
        ),
        ({**APART, "qf": APART["query_embeddings"]}, [], "Name query_embeddings once"),
        ({**APART, "metric": "dot"}, [], "Received: metric='dot'"),
        (APART, ["--reported", "0.8/0.7"], "in percent, not as fractions. Received: reported='0.8/0.7'"),
        (APART, ["--json", "/dev/null/a.json"], "The folder to write to is missing"),
        ({**APART, "query_persons": APART["query_persons"].astype(object)}, [], "a .npz file of plain arrays"),
    ],
)
def test_wrong_input_is_one_sentence(audited, arrays, more, complaint):
    status, out, err = audited(arrays, *more)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert complaint in err


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut"])
def test_no_file_of_arrays(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / "x.npz").write_bytes(content)
    assert cli.main(["audit", str(tmp_path / "x.npz")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and str(tmp_path / "x.npz") in err
