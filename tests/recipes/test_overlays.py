"""The overlays go with every system: its model is built, with each phase's losses and learning rate."""

import pytest

from kreid import training
from kreid.models import SYSTEMS

OVERLAYS = {
    "small": ["small"],
    "small, single frames": ["small", "single_frames"],
    "demo": ["demo"],
}


@pytest.mark.parametrize("system", sorted(SYSTEMS))
@pytest.mark.parametrize("overlays", OVERLAYS.values(), ids=OVERLAYS)
def test_every_system_takes_the_overlay(system, overlays):
    for config in training.load_phases(system, data="mars", overlays=overlays).values():
        model = training.build_model(config, 4)
        losses = training.build_losses(config)
        model.compile(training.build_optimizer(config, 10), loss=losses)
        assert set(losses) <= set(model.output)
