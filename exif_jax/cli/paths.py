"""`~` in what a user gives: his home directory, also where no shell expands it.

A shell leaves `--flag=~/x`, lists such as `~/a,~/b`, `NAME:~/x` and configuration files alone.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

_HOME = re.compile(r"(^|[=,:]\s*)~(?=/|,|$)")


def expand_home(text: str) -> str:
    """A word of the command line, or the text of a field, with each `~` that begins a path."""
    return _HOME.sub(lambda found: f"{found[1]}{Path.home()}", text)


def expand_homes(config: Any) -> None:
    """Expands every text of a configuration, in place."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            expand_homes(value)
        elif isinstance(value, str) and "~" in value:
            setattr(config, field.name, expand_home(value))
