"""How commands end: one line each, no trace; signals and pipes are real, in small processes."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines import command_line
from data_pipelines.errors import Interrupted, UserError

ROOT = Path(__file__).resolve().parents[2]
FULL = Path("/dev/full")
START = """
import gc, os, signal, sys, threading, time
from data_pipelines import command_line
def ready():
    print("ready", flush=True)
"""


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("a: b; c"), 2, "error: a: b; c\n"),
        (UserError("a\x1b[2J\nphoto b"), 2, "error: a\\x1b[2J\\nphoto b\n"),
        (UserError("\udcff\u202e"), 2, "error: \\udcff\\u202e\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Interrupted("interrupted; a\nb"), 130, "interrupted; a\\nb\n"),
        (BrokenPipeError(), 0, ""),
        (command_line.Exit(143, "saved; a\nb"), 143, "saved; a\\nb\n"),
        (
            OSError(errno.ENOSPC, "full", "runs/x"),
            2,
            "error: runs/x: No space left on device; free some space and run the same command "
            "again\n",
        ),
        (
            ValueError("Error: I/O error: No space left on device (os error 28)"),
            2,
            "error: standard output: No space left on device; free some space and run the same "
            "command again\n",
        ),
        (
            PermissionError(errno.EACCES, "no", "a\nb"),
            2,
            "error: a\\nb: Permission denied; change its permissions, or give another place\n",
        ),
        (OSError(errno.EIO, "x", b"a\xff"), 2, "error: a\\udcff: Input/output error\n"),
        (IsADirectoryError(errno.EISDIR, "x", Path("a")), 2, "error: a: Is a directory\n"),
        (OSError("of a library"), 2, "error: of a library\n"),
    ],
)
def test_an_end_is_one_line(error, status, said, capsys):
    handlers = signal.getsignal(signal.SIGINT), sys.unraisablehook, sys.excepthook
    assert command_line.run(raising(error), is_process=False) == status
    assert capsys.readouterr() == ("", said)
    assert handlers == (signal.getsignal(signal.SIGINT), sys.unraisablehook, sys.excepthook)


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        command_line.run(lambda: 1 // 0, is_process=False)
    assert command_line.run(lambda: 7, is_process=False) == 7


def process(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", f"{START}{code}\nsys.exit(command_line.run(main, is_process=True))"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
    )


SLEEP = "def main():\n    ready()\n    time.sleep(60)\n"
CLEANING = """
def main():
    try:
        ready()
        time.sleep(60)
    finally:
        ready()
        time.sleep(60)
"""
# A library's callback, out of which nothing can be raised.
CALLBACK = """
def main():
    def callback(phase, info):
        if phase == "start" and not called:
            called.append(1)
            ready()
            time.sleep(60)
    called = []
    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(60)
"""
# Threads that are at work and would print, or hinder the end.
THREADS = """
def main():
    def work():
        while True:
            time.sleep(0.001)
    threading.Thread(target=work).start()
    ready()
    time.sleep(60)
"""
GENERATOR = """
def main():
    def forever():
        try:
            while True:
                yield
        finally:
            raise RuntimeError("in a generator that nobody closes")
    items = forever()
    next(items)
    ready()
    time.sleep(60)
"""


@pytest.mark.parametrize("code", [SLEEP, CALLBACK, THREADS, GENERATOR])
def test_ctrl_c_is_one_line(code):
    run = process(code)
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (130, "", "interrupted\n")


def test_a_second_ctrl_c_ends_what_the_first_one_waits_for():
    run = process(CLEANING)
    for _ in range(2):
        assert run.stdout.readline() == "ready\n"
        run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30) == ("", "")
    assert run.returncode == -signal.SIGINT


def test_ctrl_c_after_the_end_leaves_no_trace():
    code = "def main():\n    threading.Thread(target=time.sleep, args=[60]).start()\n    return 0\n"
    run = process(f"{code}import atexit\nthreading._register_atexit(ready)")
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30) == ("", "")
    assert run.returncode == -signal.SIGINT


@pytest.mark.parametrize("code", [SLEEP, CALLBACK, THREADS])
def test_many_signals_leave_no_trace(code):
    run = process(code)
    assert run.stdout.readline() == "ready\n"
    for _ in range(5):
        run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode in (130, -signal.SIGINT)
    assert out == "" and err in ("", "interrupted\n")


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_closed_pipe_is_the_end_and_no_error(lines):
    code = f"    for i in range({lines}): print(i)\n    return 0\n"
    with process(f"def main():\n    ready()\n{code}") as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == "" and run.wait() == 0


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_is_full_is_one_line(lines):
    with FULL.open("w") as full:
        run = process(
            f"def main():\n    for i in range({lines}): print(i)\n    return 0\n", stdout=full
        )
        _, err = run.communicate(timeout=30)
    assert run.returncode == 2
    assert err.startswith("error: standard output: No space left on device; free some space")
    assert err.count("\n") == 1


# Imports of libraries, and C++, turn the interruption into errors of their own.
TAKEN = """
def main():
    try:
        ready()
        time.sleep(60)
    except KeyboardInterrupt:
        raise {error}
"""


@pytest.mark.parametrize("error", ["AttributeError('half imported')", "RuntimeError('a\\nb')"])
def test_ctrl_c_that_a_library_took_for_an_error_of_its_own_is_one_line(error):
    run = process(TAKEN.format(error=error))
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    assert run.communicate(timeout=30) == ("", "interrupted\n")
    assert run.returncode == 130


def test_nothing_slow_is_loaded_before_ctrl_c_is_heeded():
    code = "import sys, exif_jax.cli.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"numpy", "etils", "jax", "asyncio", "PIL"} & set(done.stdout.split())


# A module that is imported for a second, and takes an interruption for something else.
IMPORTS = """
import importlib.util
def main():
    class Loader:
        def create_module(self, spec):
            return None
        def exec_module(self, module):
            ready()
            try:
                for _ in range({parts}):
                    time.sleep(0.01)
            except KeyboardInterrupt:
                raise SystemError("crashed") from None
    sys.meta_path.insert(0, type("Finder", (), dict(find_spec=lambda name, path, target=None:
        importlib.util.spec_from_loader(name, Loader()) if name == "slow" else None)))
    import slow
    print("imported", flush=True)
    time.sleep(60)
"""


def test_ctrl_c_waits_until_an_import_is_done():
    run = process(IMPORTS.format(parts=30))
    assert run.stdout.readline() == "ready\n"
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (130, "interrupted\n")
    assert out in ("", "imported\n")  # it is repeated every 50 ms


def test_a_second_ctrl_c_does_not_wait_for_an_import():
    run = process(IMPORTS.format(parts=6000))
    assert run.stdout.readline() == "ready\n"
    for _ in range(60):
        run.send_signal(signal.SIGINT)
        try:
            out, err = run.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            continue
    assert (run.returncode, out) in ((130, ""), (-signal.SIGINT, ""))
    assert err in ("", "interrupted\n")
