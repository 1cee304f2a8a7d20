"""Where compiled programs are kept: in the user's cache, or where he says, or nowhere."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = """
import jax
from exif_jax.cli.compiled import keep_compiled
keep_compiled()
print(jax.jit(lambda x: x + 1)(1), jax.config.jax_compilation_cache_dir)
"""


def place(**environment):
    """Where a process keeps its programs, after it compiled one."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("JAX_")}
    kept |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    words = [sys.executable, "-c", CODE]
    done = subprocess.run(words, env=kept, capture_output=True, text=True, check=True)
    assert not done.stderr
    number, _, folder = done.stdout.strip().partition(" ")
    assert number == "2"
    return folder


def test_programs_are_kept_in_the_users_cache(tmp_path):
    folder = Path(place(XDG_CACHE_HOME=str(tmp_path)))
    assert folder.parent == tmp_path / "exif_jax" / "compiled"
    assert any(folder.iterdir())


def test_a_place_of_the_users_stays(tmp_path):
    own = tmp_path / "own"
    cache = {"XDG_CACHE_HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": str(own)}
    assert place(**cache) == str(own)
    assert not (tmp_path / "exif_jax").exists()


def test_without_a_folder_nothing_is_kept(tmp_path):
    (tmp_path / "exif_jax").write_text("a file in the way")
    assert place(XDG_CACHE_HOME=str(tmp_path)) == "None"
