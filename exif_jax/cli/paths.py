"""`~` in what a user gives: the home directory, or ~NAME somebody's, where no shell expands it.

A shell leaves `--flag=~/x`, lists such as `~/a,~/b`, `NAME:~/x` and configuration files alone.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.storage import expand_user, is_uri

_HOME = re.compile(r"(^|[=,:]\s*)(~[\w.-]*)(?=/|,|$)")


def expand_home(text: str) -> str:
    """A word of the command line, or the text of a field, with each `~` that begins a path."""
    return _HOME.sub(lambda found: found[1] + expand_user(found[2]), text)


def local_output(text: str) -> Path:
    """The place that a flag gives for what is written to the local disk alone.

    Raises:
        UserError: it is in object storage.
    """
    if is_uri(text):
        raise UserError(f"{text}: this is written to local folders only; copy it there afterwards")
    return Path(text)


def expand_homes(config: Any) -> None:
    """Expands every text of a configuration, in place."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            expand_homes(value)
        elif isinstance(value, str) and "~" in value:
            setattr(config, field.name, expand_home(value))
