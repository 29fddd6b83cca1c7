"""Scores of matrices and of embeddings, by every protocol; memory and refusals."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from retrieval_oracles import oracle, problem

from kreid.evaluation import PROTOCOLS, evaluate, evaluate_embeddings, evaluate_test, retrieval


def test_inputs_stay_as_they_are():
    arguments = problem()
    before = [array.copy() for array in arguments]
    for array in arguments:
        array.setflags(write=False)
    evaluate(*arguments)
    for array, kept in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_memory_is_a_few_rows():
    arguments = problem(queries=200, gallery=20_000, persons=500)
    tracemalloc.start()
    evaluate(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**21 < arguments[0].nbytes


@pytest.mark.parametrize("split", ["nonjunk", "torchreidsplit"])
def test_agrees_with_the_common_implementation(golden, split):
    reference = golden("eval_200x1500.npz")
    columns = reference["mask_nonjunk" if split == "nonjunk" else "mask_torchreid"]
    labels = (reference["q_pids"], reference["q_cams"], reference["g_pids"][columns], reference["g_cams"][columns])
    for ties, name in (("stable", "stable"), ("best", "ties_best"), ("worst", "ties_worst")):
        result = evaluate(reference["dist"][:, columns], *labels, ties=ties)
        assert result.map == pytest.approx(reference[f"{split}_torchreid_py_{name}_mAP"], abs=1e-6)
        np.testing.assert_allclose(list(result.cmc.values()), reference[f"{split}_torchreid_py_{name}_cmc"], atol=1e-6)
    result = evaluate(reference["dist"][:, columns], *labels)
    valid = reference[f"{split}_valid_query"]
    np.testing.assert_array_equal(result.first_hit > 0, valid)
    np.testing.assert_allclose(result.average_precision[valid], reference[f"{split}_AP_stable"], atol=1e-6)
    np.testing.assert_allclose(result.inverse_negative_penalty[valid], reference[f"{split}_INP_stable"], atol=1e-6)
    assert result.minp == pytest.approx(reference[f"{split}_mINP_stable"], abs=1e-6)


def test_agrees_with_the_code_of_the_authors_of_mars(golden):
    reference = golden("eval_200x1500.npz")
    labels = (reference["q_pids"], reference["q_cams"], reference["g_pids"], reference["g_cams"])
    result = evaluate(reference["dist"], *labels, average_precision="trapezoidal")
    np.testing.assert_allclose(result.average_precision, reference["mars_octave_AP"], atol=1e-6)
    np.testing.assert_allclose(list(result.cmc.values()), reference["mars_octave_cmc"], atol=1e-6)
    assert result.map == pytest.approx(reference["mars_octave_mAP"], abs=1e-6)


def tracklets(seed=0, count=150, features=6):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, features)).astype("float32")
    embeddings[20:30] = embeddings[40:50]  # Equal embeddings: tied distances.
    persons, cameras = random.integers(-1, 9, count), random.integers(0, 3, count)
    return embeddings, persons, cameras, np.flatnonzero(persons > 0)[::4]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block_bytes", [1, 2_000, 2**24])
def test_every_protocol_from_embeddings(monkeypatch, metric, block_bytes):
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", block_bytes)
    embeddings, persons, cameras, rows = tracklets()
    exact = embeddings.astype("float64")
    if metric == "cosine":
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    distances = np.linalg.norm(exact[rows][:, None] - exact[None, :], axis=-1)
    distances = np.round(distances, 9)  # Ties are ties in the oracle too.
    gallery = np.setdiff1d(np.arange(len(persons)), rows)
    expected = {
        "standard": oracle(
            distances[:, gallery],
            persons[rows],
            cameras[rows],
            persons[gallery],
            cameras[gallery],
            "standard",
            "stable",
        ),
        "mars": oracle(distances, persons[rows], cameras[rows], persons, cameras, "trapezoidal", "stable"),
        "with_queries": oracle(distances, persons[rows], cameras[rows], persons, cameras, "standard", "stable"),
    }
    results = evaluate_test(embeddings, persons, cameras, rows, metric)
    assert list(results) == list(PROTOCOLS) == list(expected)
    for name, result in results.items():
        np.testing.assert_allclose(result.average_precision, expected[name][:, 0], rtol=1e-12)
        np.testing.assert_array_equal(result.first_hit, expected[name][:, 2])
    assert len({round(result.map, 6) for result in results.values()}) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_scores_of_embeddings_are_the_same_whatever_the_block(monkeypatch, metric, dtype):
    embeddings, persons, cameras, rows = tracklets(count=400, features=24)
    embeddings = embeddings.astype(dtype)
    embeddings[50:150] = embeddings[60]  # A hundred equal rows: their order is the gallery's, and nothing else's.
    embeddings[200] = 0.0  # Without a direction: 1 from everything under the cosine.
    queries, gallery = rows[:37], np.setdiff1d(np.arange(400), rows)
    arguments = [values[part] for part in (queries, gallery) for values in (embeddings, persons, cameras)]
    exact = embeddings.astype("float64")
    if metric == "cosine":
        exact /= np.maximum(np.linalg.norm(exact, axis=1, keepdims=True), 1e-30)
        distances = 1 - exact[queries] @ exact[gallery].T
    else:
        distances = np.linalg.norm(exact[queries][:, None] - exact[gallery][None, :], axis=-1)
    labels = arguments[1], arguments[2], arguments[4], arguments[5]
    expected = oracle(np.round(distances, 9), *labels, "standard", "stable")
    for rows_at_once in (1, 2, 7, 36, 37):
        monkeypatch.setattr(retrieval, "_BLOCK_BYTES", rows_at_once * len(gallery) * embeddings.itemsize)
        result = evaluate_embeddings(*arguments, metric)
        np.testing.assert_allclose(result.average_precision, expected[:, 0], rtol=1e-12)
        np.testing.assert_array_equal(result.first_hit, expected[:, 2])
    one = evaluate_embeddings(*(values[:1] for values in arguments[:3]), *arguments[3:], metric)
    assert one.average_precision[0] == result.average_precision[0]


def test_memory_of_embeddings_is_that_of_a_block(monkeypatch):
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", 2**20)
    arguments = []
    for count in (1000, 10_000):
        embeddings, persons, cameras, _ = tracklets(count=count, features=8)
        persons = np.maximum(persons, 1)
        arguments += [embeddings, persons, cameras]
    evaluate_embeddings(*(values[:3] for values in arguments[:3]), *arguments[3:])  # Imports, which take memory too.
    tracemalloc.start()
    evaluate_embeddings(*arguments)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 2**20 < 4 * 1000 * 10_000


def test_scoring_a_matrix_imports_neither_keras_nor_tensorflow():
    code = (
        "import sys; from kreid.evaluation import evaluate; evaluate([[1, 2]], [1], [0], [1, 2], [1, 1]);"
        "assert not {'keras', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(p for p in sys.path if p)})


def test_embeddings_that_are_not_finite_are_named():
    embeddings, persons, cameras, rows = tracklets()
    embeddings[5, 0] = np.nan
    with pytest.raises(ValueError, match=r"Embeddings must be finite.*Received: embeddings\[5, 0\]=nan"):
        evaluate_test(embeddings, persons, cameras, rows)


def test_sizes_that_do_not_fit_are_named():
    distances, *labels = problem()
    with pytest.raises(ValueError, match=r"Received: distances.shape=\(30, 119\), 30 queries, 120 gallery entries"):
        evaluate(distances[:, 1:], *labels)
    with pytest.raises(ValueError, match="The gallery persons and cameras"):
        evaluate(distances, *labels[:3], labels[3][1:])
    with pytest.raises(ValueError, match=r"The query persons and cameras.*float64"):
        evaluate(distances, labels[0] * 1.0, *labels[1:])
    embeddings, persons, cameras, rows = tracklets()
    with pytest.raises(ValueError, match=r"Received: embeddings.shape=\(149, 6\), 150 persons"):
        evaluate_test(embeddings[1:], persons, cameras, rows)
    with pytest.raises(ValueError, match=r"query embeddings.*query_embeddings.shape=\(3, 6\), 4 persons"):
        evaluate_embeddings(embeddings[:3], persons[:4], cameras[:4], embeddings, persons, cameras)
    with pytest.raises(ValueError, match=r"gallery_embeddings.shape=\(6,\), 150 persons"):
        evaluate_embeddings(embeddings[:4], persons[:4], cameras[:4], embeddings[0], persons, cameras)
    with pytest.raises(ValueError, match=r"same number of features.*\(4, 5\)"):
        evaluate_embeddings(embeddings[:4, 1:], persons[:4], cameras[:4], embeddings, persons, cameras)
    with pytest.raises(ValueError, match=r"Received: query_rows with \[4\] repeated"):
        evaluate_test(embeddings, persons, cameras, [3, 4, 4])
    with pytest.raises(ValueError, match="row numbers from 0 to 149"):
        evaluate_test(embeddings, persons, cameras, [150])
    with pytest.raises(ValueError, match="row numbers from 0 to 149"):
        evaluate_test(embeddings, persons, cameras, persons > 0)


def test_no_valid_query_is_an_error():
    with pytest.raises(ValueError, match="No query has a match from another camera"):
        evaluate([[0.5, 0.1]], [7], [0], [7, 8], [0, 1])
    with pytest.raises(ValueError, match="No query has a match from another camera"):
        evaluate(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int), [7, 8], [0, 1])
    no_labels = np.zeros(0, int)
    with pytest.raises(ValueError, match="Received: 2 queries, 0 gallery entries"):
        evaluate_embeddings(np.zeros((2, 3)), [7, 8], [0, 1], np.zeros((0, 3)), no_labels, no_labels)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"ties": "random"}, "Received: ties='random'"),
        ({"average_precision": "voc"}, "Received: average_precision='voc'"),
        ({"ranks": (0, 1)}, r"Received: ranks=\(0, 1\)"),
        ({"ranks": (1.5,)}, r"Received: ranks=\(1.5,\)"),
    ],
)
def test_unknown_options_are_named(option, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*problem(), **option)
