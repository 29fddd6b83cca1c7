"""What all systems share: inputs, preprocessing, head, test-time selection, embedder and explainer."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

import kreid.backbones
from kreid._typing import Tensor
from kreid.layers.frame_preprocessing import FramePreprocessing
from kreid.layers.frame_selection import FrameSelection
from kreid.layers.lengths_to_mask import LengthsToMask
from kreid.layers.normalization import BatchNormalization
from kreid.models.attention import Attention, check_attentions
from kreid.models.cached_step import step_of_jax, step_of_tensorflow
from kreid.models.frame_model import FrameModel, checked_dtype, of_common_shape
from kreid.passport import Passport

QUANTIZATIONS = ("int8", "int4", "float8")


class _ConnectedWhenMade(type(keras.Model)):  # type: ignore[misc]
    """Connect a system's graph after its whole constructor: `super().__init__` comes first there, layers after it.

    Keras's functional constructor takes inputs and outputs, and these need the subclass's layers.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        check_backend(keras.backend.backend())
        model = super().__call__(*args, **kwargs)
        if "backbone" not in model.__dict__:
            raise ValueError(
                f"{cls.__name__}.__init__ must call super().__init__(backbone, num_identities, ...) first. "
                f"Received: a model without a backbone"
            )
        model._connect(_arguments(cls, args, kwargs))
        return model


def check_backend(backend: str) -> None:
    """Raise if models cannot be built on a backend of Keras.

    PyTorch's modules take no attribute before their constructor ran, and a `TrackletModel` has its layers before its
    graph.

    Raises:
        ValueError: for `"torch"`. Layers, losses and backbones run on it.
    """
    if backend == "torch":
        raise ValueError(
            "Models of kreid are built on TensorFlow or JAX; set KERAS_BACKEND=tensorflow or KERAS_BACKEND=jax before "
            f"Keras is imported. Received: KERAS_BACKEND={backend!r}"
        )


class TrackletModel(keras.Model, metaclass=_ConnectedWhenMade):
    """Base of the systems: a functional Keras model from frames to training outputs, with an embedder next to it.

    The model itself is the training graph, `{"frames", "lengths"} -> {"logits", "features"}`, trained by plain
    `compile` and `fit`: `"features"` is the vector that metric losses compare. The embedding may differ from it, by
    the choice of test frames, by `final_embedding` and by `normalize`; `embed` and `embedder` give the embedding.

    Your own system is a subclass, decorated with `kreid.models.register_system`:

    - `__init__` calls `super().__init__(backbone, num_identities, ...)`, then sets its layers as attributes, each with
      `dtype=self.dtype_policy`;
    - `aggregate` makes the graph from frame maps to one vector; `frame_maps` gives it the maps of other stages than the
      last. A system that makes one vector of each frame, or of each clip, sets `part_frames` and implements
      `encode_parts` and `aggregate_parts` instead: it can embed a tracklet of any length chunk by chunk. One whose
      backbone mixes frames implements `encode`;
    - `attentions` declares the attentions that these methods return next to the vector;
    - `embedding_layer` names its Dense layer from pooled maps to vectors, where that is not the attribute `dense`;
    - `final_embedding` makes the embedding where it is not the aggregated vector itself.

    The config for saving holds the constructor's arguments, so a subclass needs no `get_config`.

    Args:
        backbone: a `kreid.backbones.Backbone`; its image size is the model's.
        num_identities: persons to tell apart in training, the width of the logits.
        bnneck: batch normalisation between the vector and the classifier.
        test_selection: which frames are embedded, see `kreid.layers.FrameSelection`.
        test_frames: how many of them, `None` for `"all"`.
        test_mirrored: embed each frame together with its mirror image: its maps are the mean of both maps, the second
            mirrored back. Twice the work. Training does not change.
        metric: `"euclidean"` or `"cosine"`, the distance the embeddings are meant for; kept with the model.
        normalize: scale embeddings and `"features"` to length 1: metric losses compare what retrieval compares. The
            classifier reads the vector before it.
        dtype: dtype policy of the layers, `None` for the global one.
        name: of the model.

    Attributes:
        loss_targets: the outputs that take the label.
        image_size: `(height, width)` of the frames in pixels.
        embedding_dim: length of an embedding.
        part_frames: how many frames make a vector before vectors are aggregated; `None` where maps are.
        cached_chunks: chunks in which a training step embeds its batch, to save memory: set it before `fit`. More than
            1 needs batch normalisation that is frozen up to the vector.
        bnneck: the batch normalisation before the classifier, or `None`.
        classifier: a Dense layer without bias.

    Raises:
        ValueError: for an argument out of its range.

    Example:

    >>> @kreid.models.register_system("largest")
    ... class Largest(kreid.models.TrackletModel):
    ...     def __init__(self, backbone, num_identities, *, width=8, **kwargs):
    ...         super().__init__(backbone, num_identities, **kwargs)
    ...         self.dense = keras.layers.Dense(width, dtype=self.dtype_policy)
    ...
    ...     def aggregate(self, maps, mask):
    ...         vectors = keras.ops.where(keras.ops.expand_dims(mask, 2), keras.ops.max(maps, axis=(2, 3)), 0.0)
    ...         return self.dense(keras.ops.max(vectors, axis=1))
    >>> model = Largest(kreid.backbones.build("resnet_tiny", image_size=(64, 32)), num_identities=10)
    >>> model.embed(np.zeros((2, 4, 64, 32, 3), "uint8"), lengths=np.array([4, 1])).shape
    (2, 8)
    """

    loss_targets: tuple[str, ...] = ("logits", "features")
    part_frames: int | None = None
    cached_chunks: int = 1
    embedding_dim: int
    dtype_policy: Any

    # --- Layers

    def __init__(
        self,
        backbone: "kreid.backbones.Backbone",
        num_identities: int,
        *,
        bnneck: bool = True,
        test_selection: str = "all",
        test_frames: int | None = None,
        test_mirrored: bool = False,
        metric: str = "euclidean",
        normalize: bool = False,
        dtype: "str | keras.DTypePolicy | None" = None,
        name: str | None = None,
    ) -> None:
        # As a layer for now, which keeps attributes; `_connect` makes it a functional model.
        keras.layers.Layer.__init__(self, dtype=dtype, name=name or type(self).__name__.lower())
        if num_identities < 2:
            raise ValueError(f"Telling persons apart needs at least two. Received: num_identities={num_identities!r}")
        if test_mirrored and type(self).encode is not TrackletModel.encode:
            raise ValueError(
                f"{type(self).__name__} has an `encode` of its own, without maps of single frames to add mirror images "
                f"to; set test_mirrored=False. Received: test_mirrored={test_mirrored!r}"
            )
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"The metric must be 'euclidean' or 'cosine'. Received: metric={metric!r}")
        self.backbone = backbone
        self.num_identities = num_identities
        self.test_selection = test_selection
        self.test_frames = test_frames
        self.test_mirrored = bool(test_mirrored)
        self.metric = metric
        self.normalize = normalize
        self.image_size: tuple[int, int] = backbone.image_size
        self.preprocessing = FramePreprocessing(backbone.preprocessing, dtype=self.dtype_policy, name="preprocessing")
        self.selection = FrameSelection(test_selection, test_frames, name="selection")
        self.to_mask = LengthsToMask(name="mask")
        self.to_float32 = keras.layers.Activation("linear", dtype="float32", name="to_float32")
        self.unit_length = keras.layers.UnitNormalization(dtype="float32", name="unit_length") if normalize else None
        self.bnneck, self.classifier = self.new_head(bnneck)
        # In __dict__ directly: Keras would track and wrap the values of a dict in a plain attribute.
        self.__dict__["_kreid_settings"] = {
            "bnneck": bnneck,
            "test_selection": test_selection,
            "test_frames": test_frames,
            "test_mirrored": self.test_mirrored,
            "metric": metric,
            "normalize": normalize,
        }
        self.__dict__["_kreid_quantization"] = None
        self.__dict__["_kreid_passport"] = Passport()
        self.__dict__["_kreid_graphs"] = {}

    def new_head(
        self, bnneck: bool, suffix: str = ""
    ) -> tuple[keras.layers.BatchNormalization | None, keras.layers.Dense]:
        """Make batch normalisation (`None` unless requested) and a classifier, named with the suffix.

        The classifier has no bias, is in float32 and starts small, as Luo et al. (2019) start it: features take shape
        before the classifier pulls at them.
        """
        neck = None
        if bnneck:
            neck = BatchNormalization(center=False, dtype="float32", name=f"bnneck{suffix}")
        classifier = keras.layers.Dense(
            self.num_identities,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name=f"logits{suffix}",
        )
        return neck, classifier

    def rescale_frames(self) -> None:
        """Scale frames by the backbone's `preprocessing`, which changes with the backbone's weights."""
        self.preprocessing.mode = self.backbone.preprocessing
        # What was traced with the former scaling is traced again.
        self.__dict__["_kreid_graphs"].clear()
        self.train_function = self.test_function = self.predict_function = None

    # --- Graph, from frames to training outputs

    @property
    def attentions(self) -> Mapping[str, Attention]:
        """The attentions that `explainer` returns, by name; none unless a system declares some."""
        return {}

    @property
    def embedding_layer(self) -> keras.layers.Dense | None:
        """The Dense layer from pooled maps to vectors, or `None`: `dense`, unless a system says otherwise.

        `kreid.training.start_from` copies it between systems.
        """
        layer = getattr(self, "dense", None)
        return layer if isinstance(layer, keras.layers.Dense) else None

    def encode(self, frames: Tensor, mask: Tensor) -> Any:
        """Return one vector per tracklet from preprocessed frames `(B, T, H, W, 3)`, and a dict of attentions.

        This aggregates the frame maps; a system whose backbone mixes frames overrides it.
        """
        return self.aggregate(self.frame_maps(frames), mask)

    def frame_maps(self, frames: Tensor) -> Any:
        """Return the maps that `aggregate` takes from preprocessed frames; no frame's depend on another frame.

        These are the backbone's; a system that needs other stages returns the maps of several in a dict by name, each
        `(B, T, h, w, C)`.
        """
        return self.backbone(frames)

    def aggregate(self, maps: Any, mask: Tensor) -> Any:
        """Return one vector per tracklet from frame maps `(B, T, h, w, C)`, and a dict of attentions if there are any.

        Args:
            maps: those of `frame_maps`.
            mask: bool `(B, T)`, True on real frames.

        Returns:
            The vector `(B, C)`, or the vector and a dict of attentions by name.
        """
        vectors, real, *within = self.encode_parts(maps, mask)
        vector, over = self._with_attention(self.aggregate_parts(vectors, real))
        return vector, {**over, **dict(*within)}

    def encode_parts(self, maps: Tensor, mask: Tensor) -> Any:
        """Return vectors of frames or clips `(B, P, C)` from frame maps, their mask `(B, P)`, and attentions if any.

        Parts are of `part_frames` frames, and none depends on another.
        """
        self._lacks_a_graph()

    def aggregate_parts(self, vectors: Tensor, mask: Tensor) -> Any:
        """Return one vector per tracklet from the vectors of `encode_parts` and their mask, and attentions if any."""
        self._lacks_a_graph()

    def _lacks_a_graph(self) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} must implement aggregate(maps, mask), which returns a vector per tracklet; or "
            "encode(frames, mask); or both encode_parts and aggregate_parts."
        )

    def training_outputs(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the outputs that training compares with labels, from the aggregated vector."""
        vector = self.to_float32(vector)
        logits = self.classifier(vector if self.bnneck is None else self.bnneck(vector))
        return {"logits": logits, "features": self.scaled(vector)}

    def final_embedding(self, vector: Tensor) -> Tensor:
        """Return the embedding for retrieval, from the aggregated vector."""
        return vector

    @classmethod
    def loss_heads(cls, **settings: Any) -> dict[str, float]:
        """Return the weight of each head's losses, by the suffix of its outputs `logits` and `features`.

        A system with more heads derives them from its own arguments, before there is a model.
        """
        return {"": 1.0}

    def make_inputs(self) -> dict[str, Tensor]:
        """Make symbolic inputs, by name."""
        return {
            "frames": keras.Input((None, *self.image_size, 3), dtype="uint8", name="frames"),
            "lengths": keras.Input((), dtype="int32", name="lengths"),
        }

    def _connect(self, arguments: dict[str, Any]) -> None:
        """Make this a functional model from its layers; `arguments` are the constructor's, for the config."""
        # The head's weights come after the system's own, as in graphs and in optimisers of saved checkpoints.
        for layer in (self.bnneck, self.classifier):
            if layer is not None:
                self._layers.remove(layer)
                self._layers.append(layer)
        policy = self.dtype_policy
        inputs = self.make_inputs()
        vector, attention = self._encoded(inputs["frames"], inputs["lengths"])
        shapes = {name: tuple(values.shape) for name, values in attention.items()}
        check_attentions(type(self).__name__, self.attentions, shapes)
        # Layers of the test graph alone are built too: `quantize` needs every layer built.
        self.selection(inputs["frames"], inputs["lengths"])
        embedding_dim = int(self._finished(vector).shape[-1])
        super().__init__(inputs, self.training_outputs(vector), name=self.name)
        # Under mixed_float16 `compile` wraps the optimiser for loss scaling by the model's own policy.
        self.dtype_policy = policy
        self.embedding_dim = embedding_dim
        self.__dict__["_kreid_arguments"] = arguments

    def build(self, input_shape: Any = None) -> None:
        """Do nothing: the graph is made, and every layer built, with the model."""

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Build losses and metrics. For a mirrored model Keras gives the mean of its replicas' batches, as floats."""
        if data_batch is not None and isinstance(data_batch[0], Mapping):
            dtypes = {tensor.name: tensor.dtype for tensor in self.inputs}
            inputs = {name: ops.cast(values, dtypes[name]) for name, values in data_batch[0].items()}
            data_batch = (inputs, *data_batch[1:])
        super()._symbolic_build(iterator=iterator, data_batch=data_batch)

    def make_train_function(self, force: bool = False) -> Any:
        """Make the training step; the halves of its graph are made before it is traced."""
        if self.cached_chunks > 1:
            self.vector_halves()
        return super().make_train_function(force)

    def train_step(self, *arguments: Any) -> Any:
        """Train on a batch, in chunks if there are several; JAX gives the state before the data."""
        if self.cached_chunks == 1:
            return super().train_step(*arguments)
        return (step_of_jax if len(arguments) == 2 else step_of_tensorflow)(self, *arguments)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Run the training graph on frames of the right dtype."""
        return super().call(checked_dtype(inputs), training=training, mask=mask)

    def _encoded(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self._with_attention(self.encode(self.preprocessing(frames), self.to_mask(frames, lengths)))

    def _with_attention(self, outputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the vector and the attentions that a method of the graph returned, with or without attentions."""
        if not isinstance(outputs, tuple):
            return outputs, {}
        if len(outputs) != 2 or not isinstance(outputs[1], dict):
            raise ValueError(
                f"{type(self).__name__} must return a vector, or a vector and a dict of attentions by name, such as "
                f'(vector, {{"frames": weights}}). Received: a tuple of {[type(output).__name__ for output in outputs]}'
            )
        return outputs

    def _test_graph(self) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        inputs = self.make_inputs()
        frames, lengths = self.selection(inputs["frames"], inputs["lengths"])
        if self.test_mirrored:
            mask = self.to_mask(frames, lengths)
            vector, attention = self._with_attention(self.aggregate(self.test_maps(frames), mask))
        else:
            vector, attention = self._encoded(frames, lengths)
        return inputs, self._finished(vector), attention

    def test_maps(self, frames: Tensor) -> Any:
        """Return the maps of `frame_maps` that embeddings are made of, from uint8 frames `(B, T, H, W, 3)`."""
        frames = self.preprocessing(frames)
        maps = self.frame_maps(frames)
        if not self.test_mirrored:
            return maps
        mirrored = self.frame_maps(ops.flip(frames, axis=3))
        return keras.tree.map_structure(lambda one, other: (one + ops.flip(other, axis=3)) / 2, maps, mirrored)

    def _finished(self, vector: Tensor) -> Tensor:
        return self.scaled(self.to_float32(self.final_embedding(vector)))

    def scaled(self, vector: Tensor) -> Tensor:
        """Return the vector that distances are measured on: of length 1 with `normalize`."""
        return vector if self.unit_length is None else self.unit_length(vector)

    # --- Models that share the weights

    def _lazily(self, name: str, make: Callable[[], keras.Model]) -> keras.Model:
        graphs = self.__dict__["_kreid_graphs"]
        if name not in graphs:
            graphs[name] = make()
            # Without XLA on TensorFlow (it compiles again for each new length), with jit on JAX, its only way.
            graphs[name].compile(jit_compile=keras.backend.backend() == "jax")
        return graphs[name]

    @property
    def embedder(self) -> keras.Model:
        """`{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}` to float32 `(B, D)`, sharing the weights."""

        def make() -> keras.Model:
            inputs, embedding, _ = self._test_graph()
            return FrameModel(inputs, embedding, name="embedder")

        return self._lazily("embedder", make)

    @property
    def explainer(self) -> keras.Model:
        """The embedder's inputs to a dict of `"embedding"` and every attention over the selected frames."""

        def make() -> keras.Model:
            inputs, embedding, attention = self._test_graph()
            return FrameModel(inputs, {"embedding": embedding, **attention}, name="explainer")

        return self._lazily("explainer", make)

    def vector_halves(self) -> tuple[keras.Model, keras.Model]:
        """Return two halves of the training graph: its inputs to the aggregated vector, and the vector to its outputs.

        They share the weights. As a method, and not compiled: saving a model walks through its properties.
        """
        graphs = self.__dict__["_kreid_graphs"]
        if "vector_encoder" not in graphs:
            inputs = self.make_inputs()
            vector, _ = self._encoded(inputs["frames"], inputs["lengths"])
            graphs["vector_encoder"] = keras.Model(inputs, vector, name="vector_encoder")
            given = keras.Input(vector.shape[1:], dtype=vector.dtype, name="vector")
            graphs["vector_head"] = keras.Model(given, self.training_outputs(given), name="vector_head")
        return graphs["vector_encoder"], graphs["vector_head"]

    @property
    def part_encoder(self) -> keras.Model:
        """The embedder's first half: its inputs to the vectors of `encode_parts`, float32 `(B, P, C)`."""

        def make() -> keras.Model:
            inputs = self.make_inputs()
            maps = self.test_maps(inputs["frames"])
            vectors, *_ = self.encode_parts(maps, self.to_mask(inputs["frames"], inputs["lengths"]))
            return FrameModel(inputs, self.to_float32(vectors), name="part_encoder")

        return self._lazily("part_encoder", make)

    @property
    def aggregator(self) -> keras.Model:
        """The embedder's second half: `{"vectors": (B, P, C), "lengths": int32 (B,)}`, in parts, to `(B, D)`."""

        def make() -> keras.Model:
            inputs = {
                "vectors": keras.Input(self.part_encoder.output_shape[1:], dtype="float32", name="vectors"),
                "lengths": keras.Input((), dtype="int32", name="lengths"),
            }
            mask = self.to_mask(inputs["vectors"], inputs["lengths"])
            vector, _ = self._with_attention(self.aggregate_parts(inputs["vectors"], mask))
            return FrameModel(inputs, self._finished(vector), name="aggregator")

        return self._lazily("aggregator", make)

    # --- Use

    def embed(self, frames: ArrayLike, lengths: ArrayLike | None = None) -> np.ndarray:
        """Embed tracklets; many frames in chunks, see `embed_batch`.

        Args:
            frames: uint8 RGB `(B, T, H, W, 3)` with this model's image size; shorter tracklets padded at the end.
            lengths: integers `(B,)`, the real frames of each, `None` for T everywhere.

        Returns:
            float32 NumPy array `(B, D)`.

        Raises:
            ValueError: for another shape or dtype, or lengths outside `0..T`.
        """
        return self.embed_batch(self.checked_batch(frames, lengths))

    def embed_batch(self, batch: Mapping[str, Any], frames_at_once: int = 128) -> np.ndarray:
        """Embed a batch that has been checked, a bounded number of frames at a time where the system can.

        A system with `part_frames` that embeds all frames runs its backbone over chunks and keeps only their vectors:
        memory grows by the frames themselves and a vector each, not by maps. GLTR with ResNet-50 embeds a tracklet of
        1,000 frames of 256x128 pixels in less than 3 GiB, the whole process with TensorFlow.

        Args:
            batch: arrays by name, as the embedder takes them.
            frames_at_once: most frames in a call of the backbone, but at least a part of each tracklet.

        Returns:
            float32 NumPy array `(B, D)`.
        """
        tracklets = len(batch["frames"])
        if keras.backend.backend() == "jax":
            batch = of_common_shape(batch)
        return self._embedded(batch, frames_at_once)[:tracklets]

    def _embedded(self, batch: Mapping[str, Any], frames_at_once: int) -> np.ndarray:
        frames, lengths = batch["frames"], np.asarray(batch["lengths"])
        count, total = frames.shape[:2]
        if self.part_frames is None or self.test_selection != "all" or count * total <= frames_at_once:
            return self.embedder.predict_on_batch(batch)
        step = max(1, frames_at_once // (count * self.part_frames)) * self.part_frames
        vectors = []
        for start in range(0, total, step):
            chunk = frames[:, start : start + step]
            real = np.clip(lengths - start, 0, chunk.shape[1])
            vectors.append(self.part_encoder.predict_on_batch({"frames": chunk, "lengths": real}))
        parts = -(-lengths // self.part_frames)
        return self.aggregator.predict_on_batch({"vectors": np.concatenate(vectors, axis=1), "lengths": parts})

    def with_selection(self, test_selection: str, test_frames: int | None = None) -> "TrackletModel":
        """Return this model with the same weights, copied, and another choice of test frames.

        Args:
            test_selection: see `kreid.layers.FrameSelection`.
            test_frames: how many, `None` for `"all"`.

        Returns:
            A model of the same class, not compiled.

        Raises:
            ValueError: for an unknown selection.
        """
        return self._twin(test_selection=test_selection, test_frames=test_frames)

    def with_mirrored(self, mirrored: bool = True) -> "TrackletModel":
        """Return this model with the same weights, copied, embedding frames with their mirror images or without.

        Args:
            mirrored: the twin's `test_mirrored`.

        Returns:
            A model of the same class, not compiled. Its passport has no scores and no threshold: they were this
            model's.

        Raises:
            ValueError: for a system with an `encode` of its own, or whose constructor does not take `test_mirrored`.
        """
        if not _accepts(type(self), "test_mirrored"):
            raise ValueError(
                f"{type(self).__name__}.__init__ takes no test_mirrored; let it take **kwargs and pass them on. "
                f"Received: mirrored={mirrored!r}"
            )
        twin = self._twin(test_mirrored=mirrored)
        twin.passport = dataclasses.replace(twin.passport, scores=None, verification=None)
        return twin

    def _twin(self, **changes: Any) -> "TrackletModel":
        """Return a model of this one's weights, copied, with other settings."""
        twin = type(self).from_config({**self.get_config(), **changes})
        twin.set_weights(self.get_weights())
        return twin

    def checked_batch(self, frames: ArrayLike, lengths: ArrayLike | None = None) -> dict[str, np.ndarray]:
        """Check `embed`'s arguments and return the embedder's inputs."""
        frames = np.asarray(frames)
        expected = (*self.image_size, 3)
        if frames.ndim != 5 or frames.shape[2:] != expected or frames.shape[1] < 1:
            raise ValueError(
                f"Frames must be (tracklets, frames, {', '.join(map(str, expected))}) with at least one frame; resize "
                f"them first. Received: frames of shape {frames.shape!r}"
            )
        lengths = np.full(len(frames), frames.shape[1]) if lengths is None else np.asarray(lengths)
        if lengths.shape != (len(frames),) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"Lengths must be one integer for each of the {len(frames)} tracklets. "
                f"Received: lengths of shape {lengths.shape!r} and dtype {lengths.dtype}"
            )
        if lengths.size and (lengths.min() < 0 or lengths.max() > frames.shape[1]):
            raise ValueError(f"Lengths must be between 0 and {frames.shape[1]}. Received: lengths={lengths.tolist()!r}")
        return checked_dtype({"frames": frames, "lengths": lengths.astype("int32")})

    def quantize(self, mode: str | None = None, config: Any = None, filters: Any = None, **kwargs: Any) -> None:
        """Quantise the weights in place for smaller, faster inference; a saved model stays quantised.

        Args:
            mode: `"int8"`, `"int4"` or `"float8"`.
            config: see `keras.Model.quantize`; not supported, as a saved model could not repeat it.
            filters: regular expressions of layer names, see `keras.Model.quantize`; not a function.
            **kwargs: other arguments of `keras.Model.quantize`.

        Raises:
            ValueError: for another mode or a second quantisation, or arguments that a saved model could not repeat.
        """
        if mode not in QUANTIZATIONS or self.__dict__["_kreid_quantization"]:
            raise ValueError(
                f"Quantise once, with one of {', '.join(QUANTIZATIONS)}. Received: mode={mode!r} for a model of "
                f"quantization={self.__dict__['_kreid_quantization']!r}"
            )
        # Keras's wrapper around this method turns the mode into its default configuration.
        if config is not None and config.get_config() != type(config)().get_config():
            raise ValueError(
                f"A saved model repeats its quantisation by mode alone; give a mode. Received: config={config!r}"
            )
        if filters is not None and not isinstance(filters, (str, list, tuple)):
            raise ValueError(f"Filters must be regular expressions of layer names. Received: filters={filters!r}")
        super().quantize(mode, config=config, filters=filters, **kwargs)
        self.__dict__["_kreid_quantization"] = {"mode": mode, "filters": filters}
        # They were traced with the old weights.
        self.__dict__["_kreid_graphs"].clear()

    def export(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: Keras would export the training graph, whose `"features"` need not be the embedding.

        Raises:
            ValueError: always, with the two exports of the embedding.
        """
        raise ValueError(
            "Keras would export the training graph, not the embedding; use kreid.serving.export_model(model, folder) "
            f"for TensorFlow Serving, or model.embedder.export(path) for a format of Keras. Received: args={args!r}"
        )

    # --- Config

    @property
    def passport(self) -> Passport:
        """Where the model comes from and how well it did. Its starting weights are the backbone's passport."""
        weights = getattr(self.backbone, "passport", None)
        return dataclasses.replace(self.__dict__["_kreid_passport"], starting_weights=weights)

    @passport.setter
    def passport(self, passport: Passport) -> None:
        self.__dict__["_kreid_passport"] = passport

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the backbone serialised.

        Raises:
            ValueError: if the class is not registered, so that no file of it could be loaded.
        """
        cls = type(self)
        if not is_registered(cls):
            raise ValueError(
                f"Saved files of {cls.__name__} could not be loaded; decorate the class with "
                f'@kreid.models.register_system("{cls.__name__.lower()}"). Received: {cls!r}'
            )
        arguments = dict(self.__dict__["_kreid_arguments"])
        # The base's defaults too: files keep their meaning when a later kreid chooses others.
        for name, default in _base_defaults().items():
            if _accepts(cls, name) and self.__dict__["_kreid_settings"][name] == default:
                arguments.setdefault(name, default)
        # Earlier files have no such key; without it their fingerprints stay.
        if not self.test_mirrored and "test_mirrored" not in inspect.signature(cls.__init__).parameters:
            arguments.pop("test_mirrored", None)
        arguments["backbone"] = self.backbone
        policy = self.dtype_policy
        plain = {"dtype": policy.name if type(policy) is keras.DTypePolicy else policy, "name": self.name}
        arguments.update({name: value for name, value in plain.items() if _accepts(cls, name)})
        config = {name: keras.saving.serialize_keras_object(value) for name, value in arguments.items()}
        if self.__dict__["_kreid_quantization"]:
            config["quantization"] = self.__dict__["_kreid_quantization"]
        config["passport"] = self.passport.saved_now().to_dict()
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> "TrackletModel":
        """Make a model from `get_config()`."""
        quantization = config.get("quantization")
        own, defaults = inspect.signature(cls.__init__).parameters, _base_defaults()
        arguments = {}
        for name, value in config.items():
            if isinstance(value, dict) and "class_name" in value:
                value = keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
            # A default of the base is left out: the class's constructor may pass the same argument itself.
            if name not in ("quantization", "passport") and (
                name in own or name not in defaults or value != defaults[name]
            ):
                arguments[name] = value
        model = cls(**arguments)
        model.passport = Passport.from_dict(config.get("passport"))
        if quantization:
            model.quantize(**quantization)
        return model

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a saved model was compiled."""
        # Older files call the outputs of metric losses "embedding", "embedding_1" and so on.
        for key in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if isinstance(config.get(key), dict) and "class_name" not in config[key]:
                renamed = {name.replace("embedding", "features"): value for name, value in config[key].items()}
                config = {**config, key: renamed}
        super().compile_from_config(config)


def _arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a constructor's arguments by name, with the defaults that the class itself sets."""
    signature = inspect.signature(cls.__init__)  # type: ignore[misc]
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    arguments: dict[str, Any] = {}
    for name, parameter in list(signature.parameters.items())[1:]:
        value = bound.arguments[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            arguments.update(zip(("backbone", "num_identities"), value, strict=False))
        elif parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(value)
        else:
            arguments[name] = value
    return arguments


def _base_defaults() -> dict[str, Any]:
    """Return the defaults of the base's own settings."""
    parameters = inspect.signature(TrackletModel.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in ("dtype", "name")}


def _accepts(cls: type, name: str) -> bool:
    """Return whether a class's constructor takes an argument of this name."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def is_registered(cls: type) -> bool:
    """Return whether Keras finds a class of saved files by its registered name."""
    return keras.saving.get_registered_object(keras.saving.get_registered_name(cls)) is cls
