"""docs/research.md: every block runs, and does what the page says."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from exif_jax.training.mapping import to_host

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "research.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)(?: (\S+))?\n(.*?)^```", PAGE, flags=re.M | re.S)

_ONE_AFTER_THE_OTHER = """
import json, sys
from exif_jax.cli.__main__ import main
for words in json.loads(sys.argv[1]):
    status = main(words)
    if status:
        sys.exit(f"{words}: exit status {status}")
"""


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def session(records, simulated, tmp_path_factory):
    """The names of the page after all its Python blocks, and what they printed."""
    names = {
        "RECORDS": str(records),
        "LABELLED": str(simulated / "labelled" / "train"),
        "WORKDIR": tmp_path_factory.mktemp("research") / "run",
    }
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for language, file, code in BLOCKS:
            if language == "python" and not file:
                exec(compile(code, "research.md", "exec"), names)
    return names, printed.getvalue()


def test_the_loop_of_ones_own_trains_and_evaluates(session):
    names, printed = session
    assert "concordance/mean" in printed and "loss" in printed
    assert np.isfinite(names["numbers"]["loss"])


def test_an_objective_of_ones_own_takes_the_place_of_the_tags(session):
    names, _ = session
    numbers = names["regression"].evaluate(to_host(names["regression"].state.params))
    assert "correlation/ISO" in numbers and "concordance/ISO" not in numbers
    assert "balanced_accuracy/Make" in numbers


def test_a_task_that_is_not_exif_is_learned_beside_exif(session):
    names, printed = session
    assert "['loss/ISO', 'loss/Make', 'loss/detail']" in printed
    numbers = names["both"].evaluate(to_host(names["both"].state.params))
    assert 0 <= numbers["concordance/detail"] <= 1 and numbers["count/detail"] > 0


def test_only_the_mixer_moves(session):
    names, _ = session
    before, after = names["stage"].state.params, to_host(names["after"].params)
    for part, moves in (("encoder", False), ("mixer", True)):
        pairs = zip(
            jax.tree.leaves(before["extractor"][part]),
            jax.tree.leaves(after["extractor"][part]),
            strict=True,
        )
        assert any((np.asarray(a) != b).any() for a, b in pairs) is moves


def test_seeds_at_once_are_single_runs(session):
    names, _ = session
    single = names["over_devices"](
        names["make_train_step"](names["loss"], names["optimizer"]),
        names["stage"].mesh,
        (names["REPLICATED"], names["REPLICATED"], names["SHARDED"], names["REPLICATED"]),
        names["REPLICATED"],
    )
    batches = names["itertools"].islice(names["stage"].data, 2)
    key = jax.random.key(1)
    state, key = names["replicate"]((names["new_state"](key), key), names["stage"].mesh)
    for batch in batches:
        state, metrics = single(state, {}, names["stage"].put(batch), key)
    np.testing.assert_allclose(metrics["loss"], names["metrics"]["loss"][1], rtol=1e-5)
    stacked = jax.tree.map(lambda x: x[1], to_host(names["states"].params))
    for a, b in zip(jax.tree.leaves(to_host(state.params)), jax.tree.leaves(stacked), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_every_intermediate_can_be_read(session):
    _, printed = session
    assert "'f1': (1, 4, 32, 32, 4)" in printed and "'f4'" not in printed and "'f5'" in printed


def test_the_vision_transformer_is_short_and_runs_through_everything(records, simulated, tmp_path):
    files = {file: code for _, file, code in BLOCKS if file}
    assert len(files["small_vit.py"].splitlines()) < 60
    for file, code in files.items():
        (tmp_path / file).write_text(code)
    labelled = simulated / "labelled" / "train"
    commands = re.search(r"^```sh\n(export .*?)^```", section("Change the encoder"), re.M | re.S)[1]
    lines = commands.replace("RECORDS", str(records)).replace("LABELLED", str(labelled))
    small = "--config.batch_size=8 --config.data.patches=2"
    steps = "--config.steps=2 --config.checkpoint_every=2 --config.eval_every=2"
    extra = {
        "vit_pretext.py": f"{small} {steps}",
        "one_class ": "--config.num_components=1 --config.covariance_type=diag",
        "binary ": f"{small} {steps} --config.data.validation_fraction=0.34",
        "evaluation ": "--config.perturbations=none",
    }
    environment = os.environ | {
        "EXIF_JAX_PLUGINS": "small_vit",
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    words = [
        line.split()[1:]
        + [
            word
            for name, more in extra.items()
            if f"--config={name}" in line + " "
            for word in more.split()
        ]
        for line in lines.splitlines()[1:]
    ]
    # In one process, which loads the libraries once.
    done = subprocess.run(
        [sys.executable, "-c", _ONE_AFTER_THE_OTHER, json.dumps(words)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "runs" / "vit_eval" / "results.json").is_file()
    assert "photo" in done.stdout
    # Without the plugin the name is unknown, and the message says what to do.
    del environment["EXIF_JAX_PLUGINS"]
    done = subprocess.run(
        [sys.executable, "-m", "exif_jax.cli", *lines.splitlines()[-1].split()[1:]],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "EXIF_JAX_PLUGINS" in done.stderr
    assert "Traceback" not in done.stderr
