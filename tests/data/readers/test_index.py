import lzma

import numpy as np
import pytest
import scipy.io

from kreid.data.readers.index import find_file, query_rows, read_json, read_lines, read_matrices


def test_lines_with_a_byte_order_mark_other_line_ends_and_packed(tmp_path):
    text = "\ufeffone\r\n\r\n two \r\n".encode()
    (tmp_path / "names.txt").write_bytes(text)
    (tmp_path / "names.txt.xz").write_bytes(lzma.compress(text))
    assert read_lines(tmp_path / "names.txt") == read_lines(tmp_path / "names.txt.xz") == ["one", "two"]


def test_json_with_a_byte_order_mark(tmp_path):
    (tmp_path / "splits.json").write_bytes("\ufeff[1]".encode())
    assert read_json(tmp_path / "splits.json") == [1]


def test_files_in_another_letter_case(tmp_path):
    scipy.io.savemat(tmp_path / "Query_IDX.mat", {"query_IDX": np.array([[3]])})
    assert find_file(tmp_path, "missing.mat", "query_IDX.mat") == tmp_path / "Query_IDX.mat"
    assert read_matrices(tmp_path / "query_IDX.mat")["query_IDX"].tolist() == [[3]]
    with pytest.raises(FileNotFoundError, match=r"a\.mat \(or b\.mat\) is missing .* holds Query_IDX\.mat\. Received"):
        find_file(tmp_path, "a.mat", "b.mat")


def test_queries_count_from_1(tmp_path):
    assert query_rows(np.array([[1, 3]]), 3, tmp_path / "query.mat", "the table") == [0, 2]
    with pytest.raises(ValueError, match=r"Query 2 of query\.mat must be a row of the table, 1 to 3.*query=4"):
        query_rows(np.array([1, 4]), 3, tmp_path / "query.mat", "the table")
