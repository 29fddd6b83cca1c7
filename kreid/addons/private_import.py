"""Import a part of a package under its own name without a trace in `sys.modules`.

TensorFlow Addons cannot be imported with Keras 3: its package imports parts of Keras 2. The modules of its losses need
a single name of them, and import each other by the package's name. Each module here has an `__import__` of its own,
which finds these names in a private dict. Other code never sees them: a plain `import tensorflow_addons` does as
before.
"""

import builtins
import importlib.machinery
import importlib.util
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any


class PrivateImport:
    """Imports modules of one package, with an empty module in place of the package itself.

    Args:
        package: name of the package.
        folder: its folder.
        stand_ins: by name, what stands for a module of another package in `from NAME import ...`.

    Example:

    >>> import json, sys
    >>> private = PrivateImport("json", pathlib.Path(json.__file__).parent, {})
    >>> decoder = private.module("json.decoder")
    >>> decoder.JSONDecoder().decode("[1]"), decoder is sys.modules["json.decoder"]
    ([1], False)
    """

    def __init__(self, package: str, folder: pathlib.Path, stand_ins: Mapping[str, Any]) -> None:
        self._package = package
        self._stand_ins = stand_ins
        bare = types.ModuleType(package)
        bare.__path__ = [str(folder)]
        self._modules: dict[str, types.ModuleType] = {package: bare}

    def module(self, name: str) -> types.ModuleType:
        """Return a module of the package, imported once.

        Args:
            name: its full name.

        Raises:
            ModuleNotFoundError: if there is none.
        """
        if name in self._modules:
            return self._modules[name]
        parent_name, _, last = name.rpartition(".")
        parent = self.module(parent_name)
        spec = importlib.machinery.PathFinder.find_spec(name, getattr(parent, "__path__", []))
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = importlib.util.module_from_spec(spec)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del self._modules[name]
            raise
        setattr(parent, last, module)
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Do what `__import__` does, for the modules imported here."""
        if level:
            name = importlib.util.resolve_name("." * level + name, (globals or {})["__package__"])
        if fromlist and name in self._stand_ins:
            return self._stand_ins[name]
        if name != self._package and not name.startswith(f"{self._package}."):
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        module = self.module(name)
        for part in fromlist or ():
            if part != "*" and not hasattr(module, part):
                self.module(f"{name}.{part}")
        return module if fromlist else self._modules[self._package]
