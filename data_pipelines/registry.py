"""Kinds by name, open to one's own: every seam has one registry.

Names come from configs and from stored files; the code behind them only from what this program
imports and from plugins, which the user names. No module is imported because a file names it.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, Final, Generic, TypeVar

from data_pipelines.errors import UserError

PLUGINS_VARIABLE: Final = "EXIF_JAX_PLUGINS"
"""Environment variable: modules that register kinds, separated by commas."""
PLUGINS_GROUP: Final = "exif_jax.plugins"
"""Entry points of an installed package: likewise."""

T = TypeVar("T")


class Registry(Generic[T]):
    """What is known by name: the kinds that come with the program, and registered ones.

    Args:
        what: what a name stands for, as in "encoder"; for messages.
        builtin: the kinds that come with the program.
    """

    def __init__(self, what: str, builtin: Mapping[str, T] | None = None) -> None:
        self._what = what
        self._kinds = dict(builtin or {})

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that makes a class or function known by a name, and returns it unchanged.

        The same definition may come again, as when a notebook's cell is run twice: it replaces the
        one before.

        Raises:
            UserError: the name is taken by something else.
        """

        def add(kind: T) -> T:
            known = self._kinds.get(name, kind)
            if known is not kind and _definition(known) != _definition(kind):
                raise UserError(
                    f"{self._what} {name!r}: {kind!r} cannot be registered, as {known!r} has this "
                    "name; choose another one"
                )
            self._kinds[name] = kind
            return kind

        return add

    def __getitem__(self, name: str) -> T:
        """Returns what is known by a name; where it is unknown, plugins are imported first.

        Raises:
            UserError: the name is unknown, or a plugin cannot be found.
        """
        if name not in self:
            raise UserError(
                f"{self._what} {name!r} is not known; known are {', '.join(self.names())}. "
                f"One of your own: name the module that registers it in {PLUGINS_VARIABLE}, and "
                "its folder in PYTHONPATH"
            )
        return self._kinds[name]

    def __contains__(self, name: str) -> bool:
        """Whether a name is known, if need be after importing the plugins."""
        if name not in self._kinds:
            _import_plugins()
        return name in self._kinds

    def names(self) -> tuple[str, ...]:
        """Returns the names known by now, those that come with the program first."""
        return tuple(self._kinds)


def _definition(kind: Any) -> object:
    """Where a class or function was written; anything else stands for itself."""
    kind = inspect.unwrap(kind)
    name = getattr(kind, "__qualname__", "<lambda>")
    return kind if "<lambda>" in name else (getattr(kind, "__module__", ""), name)


def _import_plugins() -> None:
    for text in os.environ.get(PLUGINS_VARIABLE, "").split(","):
        module = text.strip()
        try:
            if module:
                importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module.split(".")[0] and error.name != module:
                raise  # one that the plugin itself imports
            raise UserError(
                f"{PLUGINS_VARIABLE}: there is no module {module!r}; name its folder in PYTHONPATH"
            ) from error
    for plugin in metadata.entry_points(group=PLUGINS_GROUP):
        plugin.load()
