"""Where a phase starts from: the weights of another model."""

import pathlib

import keras


def start_from(model, path, layers="matching"):
    """Copies weights of a saved model into another, of any system, on the same backbone.

    Batch-norm statistics that a backbone keeps per branch all start from the saved ones.

    Args:
        model: a model of `kreid.models`, changed in place.
        path: a `.keras` file of a model of `kreid.models`.
        layers: `"backbone"`, or `"matching"` for every weight of equal path and shape: heads too, where both models
            have them. A classifier matches where both tell the same number of persons apart; keep data and holdout
            the same, or its rows stand for other persons.

    Returns:
        The paths of the weights outside the backbone that kept their own values.

    Raises:
        ValueError: if there is no such file, or its backbone is another.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"There is no model file to start from at this path. Received: init={str(path)!r}")
    import kreid.models

    source = keras.models.load_model(path, compile=False)
    if not isinstance(source, kreid.models.TrackletModel):
        raise ValueError(f"Only models of kreid.models can be started from. Received: init={str(path)!r}")
    backbone = model.backbone
    unmatched = _copy(_own_weights(backbone, source.backbone.branches), source.backbone.weights)
    if unmatched:
        raise ValueError(
            f"The backbone to start from is another one: {len(unmatched)} weights do not match, such as "
            f"{unmatched[0]}; give both models the same backbone and backbone_width. Received: init={str(path)!r}"
        )
    if backbone.branches != source.backbone.branches:
        backbone.copy_statistics()
    return _copy(_heads(model), _heads(source) if layers == "matching" else [])


def _own_weights(backbone, branches):
    """The backbone's weights; with other branches than the source has, without what it keeps for them."""
    if backbone.branches == branches:
        return backbone.weights
    normalizations = [layer for layer in backbone.named_layers().values() if hasattr(layer, "statistics")]
    kept = {id(weight) for layer in normalizations for branch in layer.statistics[1:] for weight in branch}
    return [weight for weight in backbone.weights if id(weight) not in kept]


def _heads(model):
    inside = {id(weight) for weight in model.backbone.weights}
    return [weight for weight in model.weights if id(weight) not in inside]


def _copy(weights, others):
    """Assigns what has an equal path and shape, and returns the paths of the rest."""
    others = {weight.path: weight for weight in others}
    rest = []
    for weight in weights:
        found = others.get(weight.path)
        if found is None or found.shape != weight.shape or found.dtype != weight.dtype:
            rest.append(weight.path)
        else:
            weight.assign(found)
    return rest
