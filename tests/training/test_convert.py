"""The command that converts a checkpoint, and recipes that start from its file or from the checkpoint itself."""

import json
import pathlib
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from kreid import backbones
from kreid.cli import main
from kreid.training import Config, build_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The tensors of a narrow MobileNetV2 by torchvision's names, and a classifier."""
    from kreid.backbones import checkpoints

    backbone = backbones.build("mobilenet_v2", (64, 32), width=8)
    layout = checkpoints.LAYOUTS["mobilenet_v2"]["torchvision"]
    rng = np.random.default_rng(0)
    tensors = {"classifier.1.bias": np.zeros(4, "float32")}
    for name, layer in backbone.named_layers().items():
        for tensor, place in checkpoints._places(layer, layout(name)).items():
            tensors[tensor] = rng.uniform(0.5, 1, place.there).astype("float32")
    path = tmp_path_factory.mktemp("checkpoint") / "mobilenet.safetensors"
    save_file(tensors, path)
    return path, tensors


def test_the_command_writes_weights_that_a_recipe_starts_from(checkpoint, tmp_path, capsys):
    path, tensors = checkpoint
    out = tmp_path / "new" / "mobilenet.weights.h5"
    assert main(["convert", str(path), "--to", "mobilenet_v2", "--width", "8", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(tensors) - 1} tensors placed, by torchvision's names" in printed
    assert "1 tensors left out: classifier.1.bias" in printed
    assert "Pixels: torch" in printed
    assert [file.name for file in out.parent.iterdir()] == [out.name]
    kernel = tensors["features.0.0.weight"].transpose(2, 3, 1, 0)
    settings = {"backbone": "mobilenet_v2", "backbone_width": 8, "image_size": [64, 32]}
    models = [build_model(Config("baseline", **settings, weights=str(file)), 3) for file in (out, path)]
    for model in models:
        np.testing.assert_array_equal(model.backbone.named_layers()["features_0_conv"].kernel, kernel)
        assert model.backbone.passport["weights"] == "mobilenet.safetensors"
        assert json.loads(json.dumps(model.get_config()))["backbone"]["config"]["passport"] == model.backbone.passport


def test_other_pixels_and_a_licence_are_said_and_kept(checkpoint, tmp_path, capsys):
    out = tmp_path / "mobilenet.weights.h5"
    arguments = ["--to", "mobilenet_v2", "--width", "8", "--out", str(out)]
    assert main(["convert", str(checkpoint[0]), *arguments, "--preprocessing", "tf", "--licence", "BSD-3"]) == 0
    printed = capsys.readouterr().out
    assert "Pixels: tf" in printed
    assert "Licence: BSD-3" in printed
    settings = {"backbone": "mobilenet_v2", "backbone_width": 8, "image_size": [64, 32]}
    model = build_model(Config("baseline", **settings, weights=str(out)), 3)
    assert model.preprocessing.mode == "tf"
    assert model.backbone.passport["licence"] == "BSD-3"
    given = {"weights_preprocessing": "caffe", "weights_licence": "CC0"}
    model = build_model(Config("baseline", **settings, weights=str(checkpoint[0]), **given), 3)
    assert (model.preprocessing.mode, model.backbone.passport["licence"]) == ("caffe", "CC0")


def test_without_pytorch_its_files_are_refused_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    (tmp_path / "file.pth").write_bytes(b"content")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "file.pth"), "--to", "resnet18"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "pip install 'kreid[convert]'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere.pth", "--to", "resnet50"], "no checkpoint at this path. Received: file='nowhere.pth'"),
        (["CHECKPOINT", "--to", "mobilenet"], "Did you mean 'mobilenet_v2'"),
        (["CHECKPOINT", "--to", "mobilenet_v2"], "another width or kernel size"),
        (["CHECKPOINT", "--to", "resnet18"], "are different networks"),
        (["CHECKPOINT", "--to", "mobilenet_v2", "--width", "8", "--out", "x.h5"], "named *.weights.h5"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(arguments, complaint, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [str(checkpoint[0]) if argument == "CHECKPOINT" else argument for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(["convert", *arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1
    assert not list(pathlib.Path().iterdir())
