from . import (
    addons as addons,
    backbones as backbones,
    data as data,
    distances as distances,
    evaluation as evaluation,
    gallery as gallery,
    identities as identities,
    layers as layers,
    losses as losses,
    models as models,
    optimizers as optimizers,
    plots as plots,
    report as report,
    runs as runs,
    runtimes as runtimes,
    serving as serving,
    synthetic as synthetic,
    testing as testing,
    tracks as tracks,
    training as training,
)
from .loading import load_model as load_model
from .runtimes import load_export as load_export

__version__: str
