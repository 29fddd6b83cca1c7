"""Make the parts of a recipe from its settings: precision, data, model, losses."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras

from kreid import backbones
from kreid.addons.losses import AddonsLoss
from kreid.data.tracklet import Tracklet
from kreid.losses import MinMax, SmoothedIdentity, WeightedSum
from kreid.models import SYSTEMS, TrackletModel
from kreid.models.tracklet_model import check_backend
from kreid.training.config import Config
from kreid.training.metric_losses import build_metric_loss
from kreid.training.strategy import apply_to_step

if TYPE_CHECKING:
    from kreid.data import TrainingPipeline


def set_precision(precision: str) -> bool:
    """Set the dtype policy.

    Args:
        precision: "auto" or a Keras policy. "auto" is `mixed_bfloat16` on TPUs and on GPUs that have it (compute
            capability 8 or later), `mixed_float16` on older ones, `float32` without an accelerator.

    Returns:
        Whether to use XLA, for `compile(jit_compile=...)`. JAX always does: op by op, a step was measured to take 300
        times as long. TensorFlow does with one GPU; on a CPU, training steps with XLA took 2.5 times as long.

    Raises:
        ValueError: on PyTorch.

    Example:

    >>> kreid.training.set_precision("float32")
    False
    """
    backend = keras.backend.backend()
    check_backend(backend)
    capabilities = _capabilities(backend)
    keras.config.set_dtype_policy(auto_precision(capabilities) if precision == "auto" else precision)
    return backend == "jax" or (bool(capabilities) and not _is_mirrored())


def _is_mirrored() -> bool:
    """Whether TensorFlow mirrors models on several devices, which XLA does not compile together."""
    import tensorflow as tf

    return tf.distribute.has_strategy()


def auto_precision(capabilities: Sequence[tuple[int, int]]) -> str:
    """Return the dtype policy of `precision: auto` for the compute capabilities of the accelerators, if any."""
    if not capabilities:
        return "float32"
    return "mixed_bfloat16" if min(capabilities) >= (8, 0) else "mixed_float16"


def _capabilities(backend: str) -> list[tuple[int, int]]:
    """Return the compute capability of each accelerator that the backend sees; a TPU counts as the newest GPU."""
    if backend == "jax":
        import jax

        found = [getattr(device, "compute_capability", "99.0") for device in jax.devices() if device.platform != "cpu"]
        return [(int(major), int(minor)) for major, _, minor in (text.partition(".") for text in found)]
    import tensorflow as tf

    details = map(tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU"))
    return [detail.get("compute_capability", (0, 0)) for detail in details]


def build_pipeline(config: Config, tracklets: Sequence[Tracklet]) -> "TrainingPipeline":
    """Make the pipeline of training batches of a `Config`.

    Args:
        config: a `kreid.training.Config`.
        tracklets: the train tracklets.

    Returns:
        A `kreid.data.TrainingPipeline`.
    """
    from kreid.data import Augmentation, BadFrames, TrainingPipeline

    return TrainingPipeline(
        tracklets,
        image_size=config.image_size,
        num_frames=config.num_frames,
        clips=config.clips,
        clip_length=config.clip_length,
        sampler=config.sampler,
        persons_per_batch=config.persons_per_batch,
        tracklets_per_person=config.tracklets_per_person,
        batch_size=config.batch_size,
        augmentation=Augmentation(
            flip=config.flip,
            crop_padding=config.crop_padding,
            erase=config.erase,
            per_frame=config.augment_per == "frame",
            flip_per_frame=config.flip_per == "frame",
            brightness=config.brightness,
            contrast=config.contrast,
            saturation=config.saturation,
            hue=config.hue,
            rand_augment=config.rand_augment,
            rand_augment_magnitude=config.rand_augment_magnitude,
        ),
        bad_frames=None if config.bad_frames is None else BadFrames.from_settings(config.bad_frames),
        seed=config.seed,
        steps_per_epoch=config.steps_per_epoch,
        targets=tuple(build_losses(config)),
        max_damaged=config.max_damaged,
        cache=config.cache,
    )


def build_model(config: Config, num_identities: int) -> TrackletModel:
    """Make the system of a `Config` on its backbone.

    Args:
        config: a `kreid.training.Config`.
        num_identities: number of train persons.

    Returns:
        A model of `kreid.models`.

    Example:

    >>> config = kreid.training.Config("baseline", backbone="resnet_tiny", image_size=[64, 32])
    >>> type(kreid.training.build_model(config, num_identities=10)).__name__
    'Baseline'
    """
    backbone = backbones.build(
        config.backbone,
        config.image_size,
        config.last_stride,
        weights=config.weights,
        width=config.backbone_width,
        stem_stride=config.stem_stride,
        preprocessing=config.weights_preprocessing,
        licence=config.weights_licence,
    )
    system = SYSTEMS[config.system]
    # Data and model share these settings.
    arguments = inspect.signature(system.__init__).parameters
    shared = [name for name in ("seed", "clip_length", "num_frames") if name in arguments]
    model = system(backbone, num_identities, **{name: getattr(config, name) for name in shared}, **config.model)
    apply_to_step(model, config)
    return model


def build_losses(config: Config) -> dict[str, keras.losses.Loss]:
    """Make the losses of a `Config`: smoothed identity on the logits, metric losses on the features.

    A system with several heads has both for each head, weighted by the head's share: 1/N for each of MG-RAFA's N
    granularities (equation 7).

    Args:
        config: a `kreid.training.Config`.

    Returns:
        A dict from the output to its loss, for `compile`; features are left out if no metric loss has a weight.

    Raises:
        ImportError: for a loss of TensorFlow Addons without it.

    Example:

    >>> list(kreid.training.build_losses(kreid.training.Config("sta")))
    ['logits', 'features']
    """
    reduction = "sum" if config.loss_reduction == "sum" else "sum_over_batch_size"
    losses = {}
    for head, share in SYSTEMS[config.system].loss_heads(**config.model).items():
        identity = SmoothedIdentity(config.smoothing, reduction=reduction)
        losses[f"logits{head}"] = identity if share == 1.0 else WeightedSum([identity], [share])
        metric = {
            build_metric_loss(config, reduction): config.triplet_weight,
            MinMax(mining=config.mining): config.min_max_weight,
        }
        metric = {loss: share * weight for loss, weight in metric.items() if weight}
        for loss in metric:
            if isinstance(loss, AddonsLoss):
                loss.check_installed()
        if metric:
            losses[f"features{head}"] = WeightedSum(list(metric), list(metric.values()))
    return losses
