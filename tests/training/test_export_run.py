import pytest

import kreid
from kreid import cli
from kreid.models import Passport
from kreid.runs import RunFiles

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = kreid.models.Baseline(kreid.backbones.build("resnet_tiny", image_size=(32, 32)), num_identities=2)
    model.passport = Passport(trained_on={"data": "mine"})
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model.save(path)
    return path


def test_a_format_is_written_and_its_passport_shown(saved, tmp_path, capsys):
    assert cli.main(["export", str(saved), "--format", "keras", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Exported model: {tmp_path / '1'}\n"
    assert kreid.load_export(tmp_path).card["system"] == "Baseline"
    assert cli.main(["export", str(tmp_path), "--show"]) == 0
    assert "trained on: data mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--format", "onx"], "The formats are keras, onnx, litert, openvino; "),
        (["--format", "openvino", "--precision", "int8"], "has the precisions float32, float16. Received: precision="),
        (["--precision", "int8"], "A SavedModel keeps the weights as they are; name a format"),
    ],
)
def test_bad_arguments_are_one_sentence(saved, tmp_path, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["export", str(saved), "--out", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_folders_of_a_run():
    names = [
        RunFiles("run").export_in(*arguments).name
        for arguments in (("saved_model",), ("onnx",), ("onnx", "float16"), ("litert", "int8"))
    ]
    assert names == ["export", "export_onnx", "export_onnx_float16", "export_litert_int8"]
