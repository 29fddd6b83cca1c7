"""An exported model, opened in its runtime."""

import dataclasses
import os
import pathlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kreid.data.clips import evenly
from kreid.passport import Passport
from kreid.runtimes.cards import read_any_card
from kreid.runtimes.formats import FORMATS, extra_of, import_openvino, quantization_warnings_dropped
from kreid.serving.publish import versions

Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


class ExportedModel:
    """An exported model in its runtime, which embeds as the model it was made of; `load_export` opens one.

    `kreid.gallery.embed_tracklets` and `embed_to_file` take it in place of a model of `kreid.models`. Threads may share
    it, unless its format is `"keras"`.

    Args:
        run: function: frames uint8 `(B, T, H, W, 3)`, lengths int32 `(B,)` -> embeddings float32 `(B, D)`.
        card: of the export.
        path: of the model's file or folder.

    Attributes:
        card: what the export knows of itself: `system`, `metric`, `image_size`, `embedding_dim`, `verification` (the
            threshold), `format`, `precision` and more.
        format: a name in `kreid.runtimes.FORMATS`, or `"saved_model"`.
        precision: `"float32"`, `"float16"` or `"int8"`.
        image_size: `(height, width)` of the frames in pixels.
        embedding_dim: length of an embedding.
        metric: distance that the embeddings are meant for.
        fingerprint: of the embeddings, see `kreid.models.fingerprint`; float16 and int8 files have others than the
            model, so that no gallery mixes their embeddings.
        passport: a `kreid.models.Passport`, with the threshold of the card.
    """

    def __init__(self, run: Run, card: Mapping[str, Any], path: pathlib.Path) -> None:
        self.card = dict(card)
        self.path = path
        self.format: str = card["format"]
        self.precision: str = card["precision"]
        self.image_size: tuple[int, int] = (int(card["image_size"][0]), int(card["image_size"][1]))
        self.embedding_dim = int(card["embedding_dim"])
        self.metric: str = card["metric"]
        self.fingerprint: str = card["fingerprint"]
        passport = Passport.from_dict(card.get("passport"))
        fitted = card.get("verification") or passport.verification
        self.passport = dataclasses.replace(passport, verification=fitted)
        self.selection = _FramesWithinLimit(card.get("frame_limit"))
        self._run = run

    def __repr__(self) -> str:
        return f"ExportedModel(format={self.format!r}, precision={self.precision!r}, path={str(self.path)!r})"

    def embed(self, frames: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float32]:
        """Embed tracklets.

        Args:
            frames: uint8 RGB `(B, T, H, W, 3)` with this model's image size; shorter tracklets padded at the end.
            lengths: integers `(B,)`, the real frames of each, `None` for T everywhere.

        Returns:
            float32 `(B, D)`.

        Raises:
            ValueError: for another shape or dtype, or lengths outside `1..T`.
        """
        frames = np.asarray(frames)
        expected = (*self.image_size, 3)
        if frames.ndim != 5 or frames.shape[2:] != expected or not frames.shape[0] or not frames.shape[1]:
            raise ValueError(
                f"Frames must be (tracklets, frames, {', '.join(map(str, expected))}) with at least one of each; "
                f"resize them first. Received: frames of shape {frames.shape!r}"
            )
        if frames.dtype != np.uint8:
            raise ValueError(
                "Frames must be uint8 RGB values of 0..255; multiply values of 0..1 by 255, round and cast. "
                f"Received: frames of dtype {frames.dtype}"
            )
        lengths = np.full(len(frames), frames.shape[1]) if lengths is None else np.asarray(lengths)
        if lengths.shape != (len(frames),) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"Lengths must be one integer for each of the {len(frames)} tracklets. "
                f"Received: lengths of shape {lengths.shape!r} and dtype {lengths.dtype}"
            )
        if lengths.min() < 1 or lengths.max() > frames.shape[1]:
            raise ValueError(f"Lengths must be between 1 and {frames.shape[1]}. Received: lengths={lengths.tolist()!r}")
        return self.embed_batch({"frames": frames, "lengths": lengths})

    def embed_batch(self, batch: Mapping[str, Any], frames_at_once: int = 128) -> NDArray[np.float32]:
        """Embed a batch that has been checked, some tracklets at a time.

        Args:
            batch: `frames` and `lengths`, see `embed`.
            frames_at_once: most frames in a run, but at least one tracklet.

        Returns:
            float32 `(B, D)`.
        """
        frames, lengths = np.asarray(batch["frames"]), np.asarray(batch["lengths"]).astype(np.int32)
        step = max(1, frames_at_once // frames.shape[1])
        parts = []
        for start in range(0, len(frames), step):
            real = lengths[start : start + step]
            part = np.ascontiguousarray(frames[start : start + step, : max(1, int(real.max()))])
            parts.append(np.asarray(self._run(part, real), np.float32))
        return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class _FramesWithinLimit:
    """The selection inside the file reads every frame; longer tracklets than it takes are thinned evenly."""

    limit: int | None

    def positions(self, length: int) -> NDArray[np.int64]:
        return np.arange(length) if self.limit is None else evenly(length, self.limit)


def load_export(path: str | os.PathLike[str]) -> ExportedModel:
    """Open an exported model in its runtime, see `kreid.runtimes.export`.

    Args:
        path: of the folder of one version, of the folder of all versions, whose highest is opened, or of the model's
            file with `kreid.json` beside it. Each format of `kreid.runtimes.export` and SavedModels of
            `kreid.serving.export_model`.

    Returns:
        An `ExportedModel`.

    Raises:
        ValueError: if there is no export, a newer kreid wrote it, or its runtime cannot open it.
        ImportError: if the runtime is not installed, with the command that installs it.

    Example:

    >>> kreid.load_export("nowhere")
    Traceback (most recent call last):
    ValueError: There is no exported model here: name a folder that kreid export wrote. Received: path='nowhere'
    """
    path = pathlib.Path(path)
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and (numbers := versions(path)):
        folder = path / str(numbers[-1])
    card = read_any_card(folder)
    if card is None:
        raise ValueError(
            f"There is no exported model here: name a folder that kreid export wrote. Received: path={str(path)!r}"
        )
    form = card["format"]
    file = folder if form == "saved_model" else folder / FORMATS[form].file
    if not file.exists():
        raise ValueError(
            f"The model's file is missing; copy the export's folder again. Received: path={str(path)!r}, {file.name}"
        )
    return ExportedModel(_OPENERS[form](file), card, file)


def _open_onnx(file: pathlib.Path) -> Run:
    with extra_of(FORMATS["onnx"]):
        import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = _processors()
    # Other providers compile the graph again for every number of frames; TensorFloat-32 rounds off more than allowed.
    cuda = [("CUDAExecutionProvider", {"use_tf32": "0"})]
    available = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers = [*(cuda if available else []), "CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # Its errors have no common base but this one.
        raise _cannot_open(file, "onnxruntime", onnxruntime.__version__, error) from error
    return lambda frames, lengths: session.run(["embedding"], {"frames": frames, "lengths": lengths})[0]


def _open_litert(file: pathlib.Path) -> Run:
    with extra_of(FORMATS["litert"]):
        import ai_edge_litert
        from ai_edge_litert.interpreter import Interpreter

    try:
        runner = Interpreter(str(file), num_threads=_processors()).get_signature_runner("embed")
    except (ValueError, RuntimeError) as error:
        raise _cannot_open(file, "ai-edge-litert", getattr(ai_edge_litert, "__version__", "?"), error) from error
    lock = threading.Lock()

    def run(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        with lock:
            return np.array(runner(frames=frames, lengths=lengths)["embedding"])

    return run


def _open_openvino(file: pathlib.Path) -> Run:
    openvino = import_openvino()
    try:
        # Processors with bfloat16 would use it otherwise.
        compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        raise _cannot_open(file, "openvino", openvino.__version__, error) from error
    lock = threading.Lock()

    def run(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        with lock:
            return np.array(compiled({"frames": frames, "lengths": lengths})["embedding"])

    return run


def _open_keras(file: pathlib.Path) -> Run:
    from kreid.loading import load_model

    with quantization_warnings_dropped():
        return load_model(file, compile=False).embed


def _open_saved_model(folder: pathlib.Path) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    signature = loaded.signatures["embed_padded"]

    def run(frames: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        # Named here, too, because the signature does not keep what was loaded alive.
        assert loaded is not None
        return signature(frames=tf.constant(frames), lengths=tf.constant(lengths))["embedding"].numpy()

    return run


def _processors() -> int:
    """Return how many processors this process may use; runtimes count all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cannot_open(file: pathlib.Path, runtime: str, version: str, error: Exception) -> ValueError:
    reason = str(error).strip().split("\n", 1)[0]
    return ValueError(
        f"{runtime} {version} cannot open this file ({reason}); install a newer {runtime}, or copy or export the model "
        f"again. Received: path={str(file)!r}"
    )


_OPENERS: dict[str, Callable[[pathlib.Path], Run]] = {
    "saved_model": _open_saved_model,
    "keras": _open_keras,
    "onnx": _open_onnx,
    "litert": _open_litert,
    "openvino": _open_openvino,
}
