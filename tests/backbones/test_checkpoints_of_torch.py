"""Checkpoints in PyTorch's own files, which need PyTorch (the extra `convert`): what is read, and what is refused."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from reference_weights import drawn

from kreid.backbones import read_tensors

torch = pytest.importorskip("torch", reason="reading .pth files needs the extra convert")

pytestmark = pytest.mark.slow

TENSORS = drawn({"conv1.weight": [8, 3, 3, 3], "bn1.running_var": [8], "bn1.bias": [8]})


class Harmful:
    """A class whose unpickling would run code."""

    def __reduce__(self):
        return print, ("code was run",)


def state_dict():
    return {name: torch.from_numpy(values) for name, values in TENSORS.items()}


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 7, "optimizer": {"state": {}}},
        lambda tensors: {"model": {"state_dict": tensors}, "iteration": 3},
        lambda tensors: {name: tensor.half().double() for name, tensor in tensors.items()},
    ],
)
def test_tensors_are_read_from_dicts_around_them(wrapped, new_format, tmp_path):
    content = wrapped(state_dict())
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=new_format)
    tensors = read_tensors(tmp_path / "file.pth")
    assert tensors.keys() == TENSORS.keys()
    for name, values in TENSORS.items():
        assert tensors[name].dtype == np.float32
        np.testing.assert_allclose(tensors[name], values, rtol=1e-3, atol=1e-4)


def test_half_precision_is_widened(tmp_path):
    torch.save({"a": torch.ones(3, dtype=torch.bfloat16)}, tmp_path / "file.pt")
    np.testing.assert_array_equal(read_tensors(tmp_path / "file.pt")["a"], np.ones(3, np.float32))


@pytest.mark.parametrize("new_format", [True, False])
def test_a_class_in_the_file_is_refused_and_no_code_runs(new_format, tmp_path, capsys):
    torch.save({**state_dict(), "args": Harmful()}, tmp_path / "file.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=r"without running code.*save a model's state_dict\(\)"):
        read_tensors(tmp_path / "file.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="without running code"):
        read_tensors(tmp_path / "plain.pth")
    assert "code was run" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {}}, {}])
def test_files_without_tensors(content, tmp_path):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(ValueError, match=r"no tensors by name; save a model's state_dict\(\)"):
        read_tensors(tmp_path / "file.pth")


def test_damaged_files(tmp_path):
    buffer = io.BytesIO()
    torch.save(state_dict(), buffer)
    content = buffer.getvalue()
    for number, damaged in enumerate((b"", b"no checkpoint", content[: len(content) // 2], content[:100])):
        path = tmp_path / f"{number}.pth"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"Received: weights='.*{number}\.pth'"):
            read_tensors(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "file.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(ValueError, match=r"unpacks to 50000000 bytes"):
        read_tensors(tmp_path / "file.pth")
