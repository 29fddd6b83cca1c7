import numpy as np
import pytest

from kreid.evaluation import camera_matrices, evaluate_cameras, retrieval


def oracle(distances, persons, cameras, query_rows):
    """Item by item: average precision, rank-1 and count for each pair of cameras."""
    numbers = sorted(set(cameras.tolist()))
    cells = {(a, b): [] for a in numbers for b in numbers}
    for row, query in zip(distances, query_rows, strict=True):
        for camera in numbers:
            listed = []
            for column in range(len(persons)):
                own = persons[column] == persons[query]
                if own and (column == query or cameras[column] != camera):
                    continue
                listed.append((float(row[column]), column, bool(own)))
            matches = [own for _, _, own in sorted(listed)]
            if not any(matches):
                continue
            total, seen, before = 0.0, 0, 1.0
            for position, match in enumerate(matches, start=1):
                seen += match
                total += match * (seen / position + before) / 2
                before = seen / position
            cells[cameras[query], camera].append((total / seen, matches[0]))
    shape = (len(numbers), len(numbers), 3)
    matrices = [(*np.mean(cell, axis=0), len(cell)) if cell else (np.nan, np.nan, 0) for cell in cells.values()]
    return np.reshape(matrices, shape)


def problem(seed=0, count=120):
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(count, 6)).astype("float32")
    embeddings[20:30] = embeddings[40:50]  # Tied distances.
    persons, cameras = random.integers(-1, 9, count), random.choice([2, 3, 7], count)
    cameras[persons == 5] = 7  # One person is in a single camera.
    return embeddings, persons, cameras, np.flatnonzero(persons > 0)[::3]


@pytest.mark.parametrize("block_bytes", [1, 2_000, 2**24])
def test_equals_lists_sorted_one_by_one(monkeypatch, block_bytes):
    monkeypatch.setattr(retrieval, "_BLOCK_BYTES", block_bytes)
    embeddings, persons, cameras, rows = problem()
    exact = embeddings.astype("float64")
    distances = np.round(np.linalg.norm(exact[rows][:, None] - exact[None, :], axis=-1), 9)
    expected = oracle(distances, persons, cameras, rows)
    for matrices in (
        camera_matrices(distances, persons, cameras, rows),
        evaluate_cameras(embeddings, persons, cameras, rows),
    ):
        assert matrices.cameras.tolist() == [2, 3, 7]
        np.testing.assert_allclose(matrices.map, expected[..., 0], rtol=1e-12)
        np.testing.assert_allclose(matrices.rank1, expected[..., 1], rtol=1e-12)
        np.testing.assert_array_equal(matrices.num_queries, expected[..., 2])


def test_agrees_with_the_code_of_the_authors_of_mars(golden):
    reference = golden("eval_200x1500.npz")
    matrices = camera_matrices(reference["dist"], reference["g_pids"], reference["g_cams"], reference["query_idx"])
    np.testing.assert_allclose(matrices.map, reference["mars_octave_ap_CM"], atol=1e-6)
    np.testing.assert_allclose(matrices.rank1, reference["mars_octave_r1_CM"], atol=1e-6)
    counted = reference["mars_octave_r1_pairwise"] >= 0
    expected = [counted[reference["q_cams"] == camera].sum(axis=0) for camera in range(6)]
    np.testing.assert_array_equal(matrices.num_queries, expected)


def test_refusals():
    embeddings, persons, cameras, rows = problem()
    distances = np.zeros((len(rows), len(persons)))
    with pytest.raises(ValueError, match=r"Received: distances.shape=\(\d+, 119\)"):
        camera_matrices(distances[:, 1:], persons, cameras, rows)
    with pytest.raises(ValueError, match="repeated"):
        camera_matrices(distances, persons, cameras, [*rows[1:], rows[1]])
    distances[2, 5] = np.nan
    with pytest.raises(ValueError, match=r"Received: distances\[2, 5\]=nan"):
        camera_matrices(distances, persons, cameras, rows)
    with pytest.raises(ValueError, match=r"Received: embeddings.shape=\(119, 6\), 120 persons"):
        evaluate_cameras(embeddings[1:], persons, cameras, rows)
    embeddings[3] = np.inf
    with pytest.raises(ValueError, match="must be finite"):
        evaluate_cameras(embeddings, persons, cameras, rows)
