r"""What a stage costs on hardware that is not there: its programs, compiled and never run.

  exif-jax plan --config=pretext --topology=v5e:16x16 --config.batch_size=16384 \
      --config.model.dtype=bfloat16
  exif-jax plan --config=binary --topology=v6e:16x16 --batch auto
  exif-jax plan --config=one_class --topology=v5e:4x4 --config.precision=float32

Compiled are the same functions that the stage runs: the training step (pretext, binary) or an
iteration of EM (one_class) for all devices, and feature extraction for those of one host. Printed
are the memory of one device and its parts, the arithmetic, the traffic between memory and cores,
what devices exchange, and how long a step takes at least by the chip's published peaks. No data
are needed: tags, extractor and photos that are not given are assumed as published, and listed.
Compiling a training step for TPUs takes about three minutes on two idle cores, and needs the extra
`tpu`: pip install 'exif-jax[tpu]'.

flags:
  --config=CONFIG     of a stage, as for `exif-jax train`; --config.FIELD=... sets a field
  --topology=NAME     TPUs as v5e:16x16, v6e:16x16, v5p:8x8x4 (chips in each direction); cpu:8; or
                      gpu, the GPUs of this machine
  --batch=auto        the largest batch that fits, in place of --config.batch_size
  --step-only         without feature extraction, which saves a third of the time
  --pretext=CONFIG    whose model the extractor of binary or one_class will have, if there is none
                      yet (--config.extractor); --pretext.FIELD=... sets a field
  --json              everything, for programs

Exit status: 1 if it does not fit.

example: exif-jax plan --config=pretext --topology=cpu:8 --config.batch_size=64 --json
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from absl import flags

from data_pipelines import command_line
from data_pipelines.errors import UserError
from data_pipelines.terminal import say
from exif_jax.cli.entry import load_config
from exif_jax.planning.topologies import Name, environment, parse


def main(words: Sequence[str]) -> int:
    """`exif-jax plan`; returns the exit status.

    The work is done in a process of its own: the hardware to compile for is chosen by variables
    that JAX reads when it is imported.
    """
    if not {"--help", "-h", "-help"}.isdisjoint(words):
        print(__doc__)
        return 0
    name = _read(words)[1]
    with command_line.not_interrupted():
        child = subprocess.Popen(
            [sys.executable, "-m", "exif_jax.cli.plan", *words],
            env=environment(name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
    try:
        output, _ = child.communicate()
    except BaseException:
        child.kill()
        raise
    print(output.decode("utf-8", "backslashreplace"), end="")
    if child.returncode < 0:
        raise UserError(f"the compiler's process was killed by signal {-child.returncode}")
    return child.returncode


def _read(words: Sequence[str]) -> tuple[Any, Name, Any, flags.FlagValues]:
    """Configuration, topology, the pretext configuration if there is one, and the flags."""
    given = flags.FlagValues()
    flags.DEFINE_string("topology", None, "", flag_values=given)
    flags.DEFINE_string("batch", "", "", flag_values=given)
    flags.DEFINE_bool("step-only", False, "", flag_values=given)
    flags.DEFINE_bool("json", False, "", flag_values=given)
    own = [word for word in words if not word.startswith("--pretext")]
    pretext = load_config(
        [f"--config{word.removeprefix('--pretext')}" for word in words if word not in own]
    )
    config = load_config(own, given)
    missing = [f"--{n}" for n, x in (("config", config), ("topology", given.topology)) if not x]
    if missing:
        raise UserError(f"{' and '.join(missing)} must be given")
    if given.batch not in ("", "auto"):
        raise UserError(f"--batch={given.batch}: only auto; --config.batch_size sets a number")
    if pretext is not None and not hasattr(pretext, "model"):
        raise UserError("--pretext gives no configuration of the pretext stage")
    return config, parse(given.topology), pretext, given


def _plan(words: Sequence[str]) -> int:
    """Compiles and prints, in the process that has the environment of the topology."""
    config, name, pretext, given = _read(words)
    from exif_jax.planning.report import make_plan, misfit
    from exif_jax.planning.text import as_text
    from exif_jax.planning.topologies import open_topology

    plan = make_plan(
        config,
        open_topology(name),
        None if pretext is None else pretext.model,
        auto_batch=given.batch == "auto",
        step_only=bool(given["step-only"].value),
        say=partial(say, file=sys.stderr),
    )
    if given.json:
        print(json.dumps(plan))
    else:
        say(*as_text(plan).split("\n"))
    problem = misfit(plan)
    if problem:
        say(f"error: {problem}", file=sys.stderr)
    return int(bool(problem))


if __name__ == "__main__":
    sys.exit(command_line.run(partial(_plan, sys.argv[1:]), is_process=True))
