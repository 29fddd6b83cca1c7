"""Export a run's model, or any saved model of kreid: a SavedModel for a server, or a file of another runtime.

    kreid export runs/sta_mars
    kreid export runs/sta_mars --out serving/models/kreid --version 3
    kreid export model.keras --out serving/models/kreid --keep 3
    kreid export runs/baseline_mars --pooling majority
    kreid export runs/sta_mars --gallery halls
    kreid export runs/sta_mars --format onnx
    kreid export runs/sta_mars --format litert --precision int8 --out phones/sta
    kreid export runs/sta_mars --show

Versions are subfolders of the export's folder; a server loads the highest. None is overwritten; --keep removes the
oldest ones after publishing. The command says which signatures the model lacks and why. A run's verification threshold
is exported with its model, but not with another --pooling of frames or --mirrored, for which it was not fitted.
--gallery puts the embeddings of a small gallery into the export, for the signature `search`; to delete one, delete it
from the gallery, export again and delete the older versions.

--format onnx, litert, openvino or keras writes model.onnx, model.tflite, model.xml with model.bin, or model.keras, and
its card, kreid.json, into a version's folder (default: of RUN/export_FORMAT). The file takes frames, uint8
[B, T, H, W, 3], and lengths, int32 [B], of any B and T, and gives embedding; preprocessing and choice of frames are
inside. It is run in its runtime beside the model, and nothing is written if an embedding differs. The packages:
pip install 'kreid[onnx]', 'kreid[litert]' or 'kreid[openvino]'. Smaller files: --precision float16 (onnx, litert,
openvino) or int8 (onnx, litert, keras), see kreid.runtimes.export; the threshold is that of float32.

--show prints the passport of a run, a .keras file, an export or a .npz file of embeddings: where the weights come from,
what they were trained on, scores and threshold. Exit status: 0 written, 2 wrong usage or input.
"""

import argparse
import concurrent.futures
import importlib
import multiprocessing
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kreid.training.command import plain_errors

if TYPE_CHECKING:
    from kreid.models import Passport, TrackletModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("model", metavar="MODEL", type=pathlib.Path, help="a run's folder, or a .keras file")
    parser.add_argument("--out", metavar="DIR", type=pathlib.Path, help="the export's folder (default: RUN/export)")
    parser.add_argument(
        "--format", default="saved_model", help="saved_model (default), onnx, litert, openvino or keras"
    )
    parser.add_argument("--precision", default="float32", help="of the weights: float32 (default), float16 or int8")
    parser.add_argument("--show", action="store_true", help="print the model's passport and export nothing")
    parser.add_argument(
        "--pooling",
        metavar="NAME",
        help="pool the frames of a baseline in another way than it was trained with: average, agreement or majority",
    )
    parser.add_argument(
        "--mirrored", action="store_true", help="embed each frame together with its mirror image: twice the work"
    )
    parser.add_argument("--version", type=int, help="number of the version (default: one more than the highest)")
    parser.add_argument(
        "--gallery",
        metavar="GALLERY",
        type=pathlib.Path,
        help="a gallery of this model, for the signature `search`, which finds the tracklets that it has now",
    )
    parser.add_argument("--keep", metavar="N", type=int, help="keep the N highest versions and remove the others")


def run(options: argparse.Namespace) -> int:
    """Export the model; return the exit status."""
    with plain_errors():
        if options.show:
            print(read_passport(options.model))
            return 0
        _check_format(options.format, options.precision, options.gallery)
        model, verification = _load(options.model, options.pooling, options.mirrored)
        path = _write(model, options, verification)
        print(f"Exported model: {path}")
    return 0


def _check_format(format: str, precision: str, gallery: str | os.PathLike[str] | None) -> None:
    from kreid.runtimes.formats import check_precision, checked_format

    if format != "saved_model":
        check_precision(checked_format(format), precision)
        if gallery is not None:
            raise ValueError(
                "Only a SavedModel searches a gallery; leave out --gallery or --format. "
                f"Received: format={format!r}, gallery={str(gallery)!r}"
            )
    elif precision != "float32":
        raise ValueError(
            "A SavedModel keeps the weights as they are; name a format with other precisions, such as --format onnx. "
            f"Received: precision={precision!r}"
        )


def _write(model: "TrackletModel", options: argparse.Namespace, verification: Mapping[str, Any] | None) -> pathlib.Path:
    """Export the model in the format; return the path of the version."""
    from kreid.runs import RunFiles
    from kreid.runtimes import export
    from kreid.serving.export import export_model, read_card

    folder = options.out
    if folder is None and options.model.is_dir():
        folder = RunFiles(options.model).export_in(options.format, options.precision)
    if folder is None:
        raise ValueError(f"Name the export's folder with --out. Received: model={str(options.model)!r}")
    common = {"version": options.version, "verification": verification, "keep": options.keep}
    if options.format != "saved_model":
        return export(model, folder, options.format, precision=options.precision, **common)
    path = export_model(model, folder, gallery=options.gallery, **common)
    card = read_card(path)
    if "gallery" in card:
        count = card["gallery"]["tracklets"]
        print(f"With search: the export holds the embeddings of {count} tracklets of the gallery.")
    for reason, names in _by_reason(card["lacks"]).items():
        print(f"Without {' and '.join(names)}: {reason}")
    return path


def _by_reason(lacks: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in lacks.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def read_passport(path: str | os.PathLike[str]) -> "Passport":
    """Read the passport of a model, without loading the model.

    Args:
        path: of a run's folder, a `.keras` file, the folder of an export or of one of its versions, or a `.npz` file of
            embeddings.

    Returns:
        A `kreid.models.Passport`; without fields for a file from before models had one.

    Raises:
        ValueError: if there is none of these.
    """
    from kreid.gallery import TrackletEmbeddings
    from kreid.loading import read_config
    from kreid.models import Passport
    from kreid.runs import RunFiles
    from kreid.runtimes.cards import read_any_card
    from kreid.serving.export import versions

    path = pathlib.Path(path)
    file = RunFiles(path).model if RunFiles(path).is_run else path
    if file.suffix == ".npz" and file.is_file():
        return TrackletEmbeddings.load(file).passport
    folder = path / str(max(versions(path), default=""))
    card = read_any_card(folder)
    if card is not None:
        return Passport.from_dict(card.get("passport"))
    config = read_config(file).get("config") if file.suffix == ".keras" else None
    if not isinstance(config, dict):
        raise ValueError(
            "There is no model here; name a run's folder, a .keras file, an export or a .npz file of embeddings. "
            f"Received: model={str(path)!r}"
        )
    return Passport.from_dict(config.get("passport"))


def _load(path: pathlib.Path, pooling: str | None, mirrored: bool) -> "tuple[TrackletModel, dict[str, Any] | None]":
    """Load the model, and the verification threshold of a run unless the model embeds in another way now."""
    from kreid.loading import load_model
    from kreid.runs import FinishedRun, checked_baseline

    if path.is_dir():
        finished = FinishedRun(path)
        if pooling is not None:
            finished.use_pooling(pooling)
        if mirrored:
            finished.use_mirrored()
        return finished.model, finished.verification
    if not path.is_file():
        raise ValueError(f"There is no model here; name a run's folder or a .keras file. Received: model={str(path)!r}")
    model = load_model(path, compile=False)
    if pooling is not None:
        model = checked_baseline(model, pooling).with_pooling(pooling)
    return (model.with_mirrored() if mirrored else model), None


def export_on_any_backend(
    model: "TrackletModel",
    saved: pathlib.Path,
    folder: pathlib.Path,
    verification: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Export a model as version 1; on another backend than TensorFlow, from its file by a process with TensorFlow.

    The module that registers an own system is imported in that process.

    Args:
        model: to export.
        saved: the `.keras` file that holds it.
        folder: the export's folder.
        verification: see `kreid.serving.export_model`.

    Returns:
        The path of the exported version.

    Raises:
        ValueError: see `kreid.serving.export_model`.
    """
    import keras

    from kreid.serving.export import export_model

    if keras.backend.backend() == "tensorflow":
        return export_model(model, folder, version=1, verification=verification)
    # The new process reads the variables when it starts. JAX keeps the GPU.
    changed = {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    kept = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as process:
            return process.submit(_export_file, type(model).__module__, saved, folder, verification).result()
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _export_file(
    module: str, saved: pathlib.Path, folder: pathlib.Path, verification: Mapping[str, Any] | None
) -> pathlib.Path:
    from kreid._quiet import import_tensorflow
    from kreid.loading import load_model
    from kreid.serving.export import export_model

    import_tensorflow()
    if module != "__main__":  # which a new process imports by itself
        importlib.import_module(module)
    return export_model(load_model(saved, compile=False), folder, version=1, verification=verification)
