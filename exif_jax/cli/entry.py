"""What `train` and `eval` share: flags, typed configuration, one clear error for a mistake."""

import contextlib
import dataclasses
import difflib
import importlib.util
import os
import re
import reprlib
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from data_pipelines.errors import Interrupted, UserError
from data_pipelines.terminal import say
from exif_jax import config as config_types
from exif_jax.cli.paths import expand_homes
from exif_jax.config import ENCODERS, flat, to_json

_HELP = {"--help", "-h", "-help"}
_FLAGS_HELP = """\
flags:
  --config=CONFIG     a file whose get_config() gives the configuration, or the name of one of ours
                      ({ours})
  --config.FIELD=...  sets a field; with --config=CONFIG, --help lists them
  --workdir=DIR       of the run: made, or continued; local, gs:// or s3://
  --distributed       one of several processes; the cluster tells which
  --coordinator=HOST:PORT --processes=N --process=I
                      the same, where no cluster tells: that of process 0, their number, this one"""


def run_with_config(
    main: Callable[[Any, Path, Any], None], usage: str | None, words: Sequence[str]
) -> int:
    """Parses --config, its overrides and --workdir, and calls `main(config, workdir, watch)`.

    Args:
        main: gets the typed configuration, the workdir, and what hears of SIGTERM.
        usage: text above the flags in --help.
        words: of the command line.

    Returns:
        The exit status.

    Raises:
        UserError: a misspelt field, a value of the wrong type, or what `main` raises.
    """
    given = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=given)
    flags.DEFINE_bool("distributed", False, "", flag_values=given)
    flags.DEFINE_string("coordinator", None, "", flag_values=given)
    flags.DEFINE_integer("processes", None, "", flag_values=given)
    flags.DEFINE_integer("process", None, "", flag_values=given)
    asks_for_help = not _HELP.isdisjoint(words)
    config = load_config([word for word in words if word not in _HELP], given)
    if asks_for_help:
        ours = textwrap.fill(", ".join(our_configs()), 77).replace("\n", "\n" + 23 * " ")
        print(f"{usage}\n{_FLAGS_HELP.format(ours=ours)}")
        if config is not None:
            fields = (f"  --config.{k}={v}" for k, v in flat(to_json(config)).items())
            say("fields and their values (exif_jax/config.py says what they mean):", *fields)
        return 0
    missing = [f"--{n}" for n, x in (("config", config), ("workdir", given.workdir)) if x is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} must be given")
    with _watching(given) as watch:
        from exif_jax.training.runs import run_folder  # imports JAX

        with run_folder(given.workdir) as workdir:
            main(config, workdir, watch)
    return 0


def load_config(words: Sequence[str], given: flags.FlagValues | None = None) -> Any:
    """The configuration that a command line gives; None if it gives none.

    Args:
        words: --config=CONFIG, its overrides, and flags of `given`.
        given: further flags, which are parsed with it.

    Raises:
        UserError: no such configuration, a misspelt field, or a value of the wrong type.
    """
    given = flags.FlagValues() if given is None else given
    words, text = ["exif-jax", *words], None
    for index in reversed(range(1, len(words))):
        flag, equals, value = words[index].partition("=")
        if flag in ("--config", "-config") and (equals or words[index + 1 :]):
            text = value if equals else words[index + 1]
            del words[index : index + (1 if equals else 2)]
            break
    config = None if text is None else _read(text)
    # absl would print all its flags for a misspelt one, and a stack trace for a bad value.
    try:
        if config is not None:
            config_flags.DEFINE_config_dataclass(
                "config", config, flag_values=given, sys_argv=words
            )
        rest = given(words)[1:]
    except (flags.Error, LookupError, TypeError, ValueError) as error:
        raise UserError(_explain(error)) from error
    if rest:
        raise UserError(f"unexpected arguments: {' '.join(rest)}")
    if config is None:
        return None
    expand_homes(given.config)
    return given.config


def _read(text: str) -> Any:
    """Runs a configuration file."""
    name, _, argument = config_file(text).partition(":")
    spec = importlib.util.spec_from_file_location(f"config_{Path(name).stem}", name)
    if spec is None or spec.loader is None:
        raise UserError(f"--config={text}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of its own look for their types
    spec.loader.exec_module(module)
    get_config = getattr(module, "get_config", None)
    config = get_config(*[argument] if argument else []) if get_config else None
    if not dataclasses.is_dataclass(config):
        raise UserError(f"--config={text}: no get_config() that returns a configuration of ours")
    return config


def our_configs() -> dict[str, Path]:
    """Files of the package `configs`, by name."""
    # Found by name: configurations are above this package and import it.
    spec = importlib.util.find_spec("configs")
    folders = (spec.submodule_search_locations if spec else None) or []
    files = sorted(path for folder in folders for path in Path(folder).glob("[!_]*.py"))
    return {path.stem: path for path in files}


def config_file(text: str) -> str:
    """The file of a configuration, which is given as one or by the name of one of ours.

    A text after a colon, FILE:TEXT, is an argument of its get_config().

    Raises:
        UserError: there is none.
    """
    name, colon, argument = text.partition(":")
    ours = our_configs()
    if name in ours:
        return f"{ours[name]}{colon}{argument}"
    if os.path.isfile(name):  # noqa: PTH113  (allows impossible names)
        return text
    close = difflib.get_close_matches(Path(name).stem, ours, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"--config={text}: no such configuration file; {hint}Ours are {', '.join(ours)}"
    )


@contextlib.contextmanager
def _watching(given: flags.FlagValues) -> Iterator[Any]:
    """Joins the other processes, if there are any; gives a `Watch`.

    Of several processes, one that fails ends at once: the others hear of it and end, too.
    """
    from exif_jax.training.preemption import Watch  # imports JAX
    from exif_jax.training.processes import join
    from exif_jax.training.runs import log_to_terminal

    watch, peers = Watch(), None
    if threading.current_thread() is threading.main_thread():
        watch.start()
    try:
        if given.distributed or given.coordinator:
            peers = join(given.coordinator, given.processes, given.process)
            watch.meet(peers)
        log_to_terminal()
        yield watch
    except KeyboardInterrupt:
        stop = Interrupted("interrupted; the same command continues")
        raise (stop if peers is None else peers.exit_of(stop)) from None
    except Exception as error:
        if peers is None:
            raise
        raise peers.exit_of(error) from error
    finally:
        watch.close()


def _explain(error: Exception) -> str:
    """One line for what absl or ml_collections found wrong with the command line."""
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object}: no valid UTF-8 text"
    text = str(error.args[0] if isinstance(error, LookupError) and error.args else error).strip()
    misspelt = re.match(
        r"Field (\w+) not found on dataclass|Attribute <class .*>\.(\w+) does", text
    )
    holder = re.search(r"<class '[\w.]+\.(\w+)'>", text)
    if misspelt is None or holder is None:
        return text
    name = misspelt[1] or misspelt[2]
    encoders = {ENCODERS[kind].__name__: ENCODERS[kind] for kind in ENCODERS.names()}
    known = [
        field.name for field in dataclasses.fields({**vars(config_types), **encoders}[holder[1]])
    ]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"the configuration has no field {reprlib.repr(name)}; {hint}"
