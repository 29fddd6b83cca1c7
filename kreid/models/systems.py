"""The systems by name, kreid's and your own."""

from collections.abc import Callable
from typing import TypeVar

import keras

from kreid.models.tracklet_model import TrackletModel, is_registered

System = TypeVar("System", bound=type[TrackletModel])

#: The systems' classes by name, filled by `register_system`, in the order of registration.
SYSTEMS: dict[str, type[TrackletModel]] = {}


def register_system(name: str) -> Callable[[System], System]:
    """Register a subclass of `TrackletModel` as a system, for `kreid train --system NAME`, recipes and saved files.

    The class is registered with Keras too, under this name, so that saved models load wherever its module has been
    imported. Registering a class again under its name, as notebooks do, replaces it.

    Args:
        name: lowercase letters, digits and underscores, such as `"my_system"`.

    Returns:
        A decorator that returns the class.

    Raises:
        ValueError: for a name that is not valid or belongs to another class.
        TypeError: if the decorated object is not a subclass of `TrackletModel`.

    Example:

    >>> @kreid.models.register_system("double_average")
    ... class DoubleAverage(kreid.models.Baseline):
    ...     def final_embedding(self, vector):
    ...         return 2 * super().final_embedding(vector)
    >>> kreid.models.system_class("double_average").__name__
    'DoubleAverage'
    """
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise ValueError(
            f"A system's name is made of lowercase letters, digits and underscores. Received: name={name!r}"
        )

    def register(cls: System) -> System:
        if not isinstance(cls, type) or not issubclass(cls, TrackletModel):
            raise TypeError(f"A system is a subclass of kreid.models.TrackletModel. Received: {cls!r}")
        other = SYSTEMS.get(name)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(
                f"Another system has this name, {other.__module__}.{other.__qualname__}; choose another. "
                f"Received: name={name!r}"
            )
        if not is_registered(cls):
            keras.saving.register_keras_serializable(package="kreid_system", name=name)(cls)
        SYSTEMS[name] = cls
        return cls

    return register


def system_class(name: str) -> type[TrackletModel]:
    """Return the class of a system.

    Args:
        name: a key of `SYSTEMS`.

    Returns:
        A subclass of `TrackletModel`.

    Raises:
        ValueError: for an unknown name.

    Example:

    >>> kreid.models.system_class("sta")
    <class 'kreid.models.sta.STA'>
    """
    if name not in SYSTEMS:
        raise ValueError(
            f"Unknown system; there are {', '.join(SYSTEMS)}. For your own, decorate its class with "
            f'@kreid.models.register_system("name") and import its module first. Received: system={name!r}'
        )
    return SYSTEMS[name]
