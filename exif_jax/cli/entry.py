"""How train.py and eval.py start: flags, typed configuration, one clear error for a mistake."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from data_pipelines.errors import UserError
from exif_jax import config as config_types
from exif_jax.config import flat, to_json


def run_with_config(main: Callable[[Any, Path], None], usage: str | None) -> None:
    """Parses --config, its overrides and --workdir, and calls `main(config, workdir)`.

    A UserError, a misspelt field or a value of the wrong type ends the program with status 2 and
    one message.

    Args:
        main: gets the typed configuration and the workdir.
        usage: text above the flags in --help.
    """
    config_flags.DEFINE_config_file(
        "config", None, "Configuration file, such as configs/pretext.py."
    )
    flags.DEFINE_string("workdir", None, "Directory of the run: created, or continued.")
    flags.DEFINE_bool("distributed", False, "One of several processes; the cluster tells which.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster tells.")
    flags.DEFINE_integer("processes", None, "Their number, with --coordinator.")
    flags.DEFINE_integer("process", None, "Index of this one, with --coordinator.")
    flags.mark_flags_as_required(["config", "workdir"])
    asks_for_help = bool({"--help", "-h", "-help"} & set(sys.argv))
    argv = [word for word in sys.argv if word not in ("--help", "-h", "-help")]
    # absl would print all its flags for a misspelt one, and a stack trace for a bad value.
    try:
        rest = flags.FLAGS(argv if not asks_for_help else [*argv, "--workdir=none"])[1:]
        config = flags.FLAGS.config
    except (flags.Error, LookupError, TypeError, ValueError, OSError) as error:
        if asks_for_help:
            print(
                f"{usage}\nFlags: --config --workdir --distributed --coordinator --processes "
                "--process. With --config=FILE, --help "
                "also lists the fields of that configuration."
            )
            sys.exit(0)
        sys.exit(_fail(_explain(error)))
    if not dataclasses.is_dataclass(config):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        sys.exit(_fail(f"--config={path}: no such configuration file, or it does not run"))
    if asks_for_help:
        fields = "\n".join(f"  --config.{k}={v}" for k, v in flat(to_json(config)).items())
        print(
            f"{usage}\nFields and their values (exif_jax/config.py says what they mean):\n{fields}"
        )
        sys.exit(0)
    if rest:
        sys.exit(_fail(f"unexpected arguments: {' '.join(rest)}"))
    try:
        _run(main, config)
    except (UserError, OSError) as error:  # OSError: no space, no permission; it names the file
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues from the last checkpoint")


def _run(main: Callable[[Any, Path], None], config: Any) -> None:
    import jax

    from exif_jax.training.runs import log_to_terminal

    given = flags.FLAGS
    if given.distributed or given.coordinator:
        jax.distributed.initialize(given.coordinator, given.processes, given.process)
    log_to_terminal()
    main(config, Path(flags.FLAGS.workdir))


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _explain(error: Exception) -> str:
    """One line for what absl or ml_collections found wrong with the command line."""
    text = str(error.args[0] if isinstance(error, LookupError) and error.args else error).strip()
    absent = re.findall(r"Flag (--\w+) must have a value other than None", text)
    if absent:
        return f"{' and '.join(absent)} must be given"
    misspelt = re.match(
        r"Field (\w+) not found on dataclass|Attribute <class .*>\.(\w+) does", text
    )
    holder = re.search(r"<class '[\w.]+\.(\w+)'>", text)
    if misspelt is None or holder is None:
        return text
    name = misspelt[1] or misspelt[2]
    known = [field.name for field in dataclasses.fields(getattr(config_types, holder[1]))]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"the configuration has no field {name!r}; {hint}"
