"""What all systems share: inputs, preprocessing, test-time selection, embedder and explainer."""

import keras
import numpy as np

import kreid.backbones  # noqa: F401  registers the classes that a saved model names
from kreid.layers.frame_preprocessing import FramePreprocessing
from kreid.layers.frame_selection import FrameSelection
from kreid.layers.lengths_to_mask import LengthsToMask
from kreid.models.attention import Attention, check_attentions


class TrackletModel(keras.Model):
    """Base of the systems: a functional Keras model from frames to training outputs, with an embedder beside it.

    The model itself is the training graph, `{"frames", "lengths"} -> {"logits", "embedding"}`, trained by plain
    `compile` and `fit`. A system implements `make_layers`, which calls `make_head`, and `aggregate` (or `encode`, to
    run the backbone's stages itself); `final_embedding`, where the embedding is not the aggregated vector itself. One
    that makes a vector of each frame, or of each clip, sets `part_frames` and implements `encode_parts` and
    `aggregate_parts` instead of `aggregate`: it can embed a tracklet of any length chunk by chunk.

    Args:
        backbone: a `kreid.backbones.StagedBackbone`; its image size is the model's.
        num_identities: persons to tell apart in training, the width of the logits.
        test_selection: which frames are embedded, see `kreid.layers.FrameSelection`.
        test_frames: how many of them, `None` for `"all"`.
        metric: `"euclidean"` or `"cosine"`, the distance the embeddings are meant for; kept with the model.
        normalize: scale embeddings to length 1.
        dtype: dtype policy of the layers, `None` for the global one.
        name: of the model.

    Attributes:
        loss_targets: the outputs that take the label.
        image_size: `(height, width)` of the frames in pixels.
        embedding_dim: length of an embedding.
        part_frames: how many frames make a vector before vectors are aggregated; `None` where maps are.

    Raises:
        ValueError: for an argument out of its range.
    """

    loss_targets = ("logits", "embedding")
    part_frames = None

    def __init__(
        self,
        backbone,
        num_identities,
        *,
        test_selection="all",
        test_frames=None,
        metric="euclidean",
        normalize=False,
        dtype=None,
        name=None,
    ):
        if num_identities < 2:
            raise ValueError(f"Telling persons apart needs at least two. Received: num_identities={num_identities!r}")
        if metric not in ("euclidean", "cosine"):
            raise ValueError(f"The metric must be 'euclidean' or 'cosine'. Received: metric={metric!r}")
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        self.backbone = backbone
        self.num_identities = num_identities
        self.test_selection = test_selection
        self.test_frames = test_frames
        self.metric = metric
        self.normalize = normalize
        self.policy_name = policy.name
        self.image_size = tuple(backbone.image_size)
        self.preprocessing = FramePreprocessing(backbone.preprocessing, dtype=policy, name="preprocessing")
        self.selection = FrameSelection(test_selection, test_frames, name="selection")
        self.to_mask = LengthsToMask(name="mask")
        self.to_float32 = keras.layers.Activation("linear", dtype="float32", name="embedding")
        self.make_layers(policy)
        inputs = self.make_inputs()
        vector, _ = self._encoded(inputs["frames"], inputs["lengths"])
        super().__init__(inputs, self.training_outputs(vector), name=name or type(self).__name__.lower())
        # Under mixed_float16 `compile` wraps the optimiser for loss scaling by the model's own policy.
        self.dtype_policy = policy

    @property
    def attentions(self) -> dict[str, Attention]:
        """The attentions that `explainer` returns, by name; none unless a system declares some."""
        return {}

    def make_layers(self, policy):
        """Makes the system's own layers, as attributes."""
        raise NotImplementedError(f"{type(self).__name__} must make its layers.")

    def encode(self, frames, mask):
        """One vector per tracklet from preprocessed frames `(B, T, H, W, 3)` and the mask, and a dict of attentions.

        This runs the whole backbone and aggregates its maps; a system that needs the stages does it its own way.
        """
        return self.aggregate(self.backbone(frames), mask)

    def aggregate(self, maps, mask):
        """One vector per tracklet from frame maps `(B, T, h, w, C)` and the mask, and a dict of attentions."""
        vectors, real, within = self.encode_parts(maps, mask)
        vector, over = self.aggregate_parts(vectors, real)
        return vector, {**over, **within}

    def encode_parts(self, maps, mask):
        """Vectors of frames or clips `(B, P, C)` from frame maps and the mask, their mask `(B, P)`, and attentions.

        Parts are of `part_frames` frames, and none sees another's.
        """
        raise NotImplementedError(f"{type(self).__name__} must aggregate frame maps, or encode parts.")

    def aggregate_parts(self, vectors, mask):
        """One vector per tracklet from those of `encode_parts` and their mask, and a dict of attentions."""
        raise NotImplementedError(f"{type(self).__name__} must aggregate the vectors of its parts.")

    def make_head(self, bnneck):
        """Makes the classifier, without bias and in float32, and batch normalisation before it if asked.

        It starts small, as Luo et al. (2019) start it: features take shape before the classifier pulls at them.
        """
        self.bnneck, self.classifier = self.new_head(bnneck)

    def new_head(self, bnneck, suffix=""):
        """Batch normalisation (`None` unless asked for) and a classifier, named with the suffix; see `make_head`."""
        neck = None
        if bnneck:
            neck = keras.layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, center=False, dtype="float32", name=f"bnneck{suffix}"
            )
        classifier = keras.layers.Dense(
            self.num_identities,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.001),
            dtype="float32",
            name=f"logits{suffix}",
        )
        return neck, classifier

    @classmethod
    def loss_heads(cls, **settings):
        """What the losses of each head count in their sum, by what its outputs `logits` and `embedding` end in.

        A system with heads beside the one on its embedding says so by its own arguments, before there is a model.
        """
        return {"": 1.0}

    def training_outputs(self, vector):
        """The dict of outputs that training compares with labels, from the aggregated vector."""
        vector = self.to_float32(vector)
        seen = vector if self.bnneck is None else self.bnneck(vector)
        return {"logits": self.classifier(seen), "embedding": vector}

    def final_embedding(self, vector):
        """The embedding for retrieval, from the aggregated vector."""
        return vector

    def build(self, input_shape=None):
        """Does nothing: the graph is made, and every layer built, by the constructor."""

    def make_inputs(self):
        """Symbolic inputs, by name."""
        return {
            "frames": keras.Input((None, *self.image_size, 3), dtype="uint8", name="frames"),
            "lengths": keras.Input((), dtype="int32", name="lengths"),
        }

    def _encoded(self, frames, lengths):
        return self.encode(self.preprocessing(frames), self.to_mask(frames, lengths))

    def _test_graph(self):
        inputs = self.make_inputs()
        vector, attention = self._encoded(*self.selection(inputs["frames"], inputs["lengths"]))
        return inputs, self._finished(vector), attention

    def _finished(self, vector):
        embedding = self.to_float32(self.final_embedding(vector))
        if self.normalize:
            embedding = keras.layers.UnitNormalization(dtype="float32", name="unit_length")(embedding)
        return embedding

    def _lazily(self, key, make):
        # Kept in __dict__ directly: a plain attribute would be tracked as a layer and saved twice.
        if key not in self.__dict__:
            self.__dict__[key] = make()
        return self.__dict__[key]

    @property
    def embedder(self):
        """`{"frames": uint8 (B, T, H, W, 3), "lengths": int32 (B,)}` to float32 `(B, D)`, sharing the weights."""

        def make():
            inputs, embedding, _ = self._test_graph()
            return _compiled(keras.Model(inputs, embedding, name="embedder"))

        return self._lazily("_kreid_embedder", make)

    @property
    def explainer(self):
        """The embedder's inputs to a dict of `"embedding"` and every attention over the selected frames."""

        def make():
            inputs, embedding, attention = self._test_graph()
            shapes = {name: tuple(values.shape) for name, values in attention.items()}
            check_attentions(type(self).__name__, self.attentions, shapes)
            return _compiled(keras.Model(inputs, {"embedding": embedding, **attention}, name="explainer"))

        return self._lazily("_kreid_explainer", make)

    @property
    def part_encoder(self):
        """The embedder's first half: its inputs to the vectors of `encode_parts`, float32 `(B, P, C)`."""

        def make():
            inputs = self.make_inputs()
            maps = self.backbone(self.preprocessing(inputs["frames"]))
            vectors, _, _ = self.encode_parts(maps, self.to_mask(inputs["frames"], inputs["lengths"]))
            return _compiled(keras.Model(inputs, self.to_float32(vectors), name="part_encoder"))

        return self._lazily("_kreid_part_encoder", make)

    @property
    def aggregator(self):
        """The embedder's second half: `{"vectors": (B, P, C), "lengths": int32 (B,)}`, in parts, to `(B, D)`."""

        def make():
            inputs = {
                "vectors": keras.Input(self.part_encoder.output_shape[1:], dtype="float32", name="vectors"),
                "lengths": keras.Input((), dtype="int32", name="lengths"),
            }
            vector, _ = self.aggregate_parts(inputs["vectors"], self.to_mask(inputs["vectors"], inputs["lengths"]))
            return _compiled(keras.Model(inputs, self._finished(vector), name="aggregator"))

        return self._lazily("_kreid_aggregator", make)

    @property
    def embedding_dim(self):
        """Length of an embedding."""
        return self.embedder.output_shape[-1]

    def embed(self, frames, lengths=None):
        """Embeds tracklets; many frames in chunks, see `embed_batch`.

        Args:
            frames: uint8 RGB `(B, T, H, W, 3)` with this model's image size; shorter tracklets padded at the end.
            lengths: integers `(B,)`, the real frames of each, `None` for T everywhere.

        Returns:
            float32 NumPy array `(B, D)`.

        Raises:
            ValueError: for another shape or dtype, or lengths outside `0..T`.
        """
        return self.embed_batch(self.checked_batch(frames, lengths))

    def embed_batch(self, batch, frames_at_once=128):
        """Embeds a batch that is known to be in order, a bounded number of frames at a time where the system can.

        A system with `part_frames` that embeds all frames runs its backbone over chunks and keeps their vectors alone:
        memory grows by the frames themselves and a vector each, not by maps. GLTR with ResNet-50 embeds a tracklet of
        1,000 frames of 256x128 pixels in less than 3 GiB, the whole process with TensorFlow.

        Args:
            batch: arrays by name, as the embedder takes them.
            frames_at_once: most frames in a call of the backbone, but at least a part of each tracklet.

        Returns:
            float32 NumPy array `(B, D)`.
        """
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

    def with_selection(self, test_selection, test_frames=None):
        """This model with the same weights, copied, and another choice of test frames.

        Args:
            test_selection: see `kreid.layers.FrameSelection`.
            test_frames: how many, `None` for `"all"`.

        Returns:
            A model of the same class, not compiled.

        Raises:
            ValueError: for a selection that there is not.
        """
        config = {**self.get_config(), "test_selection": test_selection, "test_frames": test_frames}
        twin = type(self).from_config(config)
        twin.set_weights(self.get_weights())
        return twin

    def checked_batch(self, frames, lengths=None):
        """The inputs of `embedder` and `explainer` from the arguments of `embed`, once they are found in order."""
        frames = np.asarray(frames)
        expected = (*self.image_size, 3)
        if frames.ndim != 5 or frames.shape[2:] != expected or frames.shape[1] < 1:
            raise ValueError(
                f"Frames must be (tracklets, frames, {', '.join(map(str, expected))}) with at least one frame; resize "
                f"them first. Received: frames of shape {frames.shape!r}"
            )
        if frames.dtype != np.uint8:
            raise ValueError(f"Frames must be uint8 RGB values of 0..255. Received: frames of dtype {frames.dtype}")
        lengths = np.full(len(frames), frames.shape[1]) if lengths is None else np.asarray(lengths)
        if lengths.shape != (len(frames),) or lengths.dtype.kind not in "iu":
            raise ValueError(
                f"Lengths must be one integer for each of the {len(frames)} tracklets. "
                f"Received: lengths of shape {lengths.shape!r} and dtype {lengths.dtype}"
            )
        if lengths.size and (lengths.min() < 0 or lengths.max() > frames.shape[1]):
            raise ValueError(f"Lengths must lie in 0..{frames.shape[1]}. Received: lengths={lengths.tolist()!r}")
        return {"frames": frames, "lengths": lengths.astype("int32")}

    def get_config(self):
        """Every constructor argument; the backbone serialised."""
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_identities": self.num_identities,
            "test_selection": self.test_selection,
            "test_frames": self.test_frames,
            "metric": self.metric,
            "normalize": self.normalize,
            "dtype": self.policy_name,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Makes the model anew from `get_config()`."""
        config = dict(config)
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"), custom_objects=custom_objects)
        return cls(backbone, **config)


def _compiled(model):
    """Without XLA on TensorFlow (each new length would compile anew), with jit on JAX, which has nothing else."""
    model.compile(jit_compile=keras.backend.backend() == "jax")
    return model
