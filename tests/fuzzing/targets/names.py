"""Names of files and folders, of any bytes, through commands, tables and pages."""

import csv
import io
import json
import os
from pathlib import Path

from numpy.random import Generator

from exif_jax.cli import __main__ as cli
from tests.fuzzing import made
from tests.fuzzing.seeds import crafted_photo, encode
from tests.fuzzing.target import Case, FoundError, Target, run_command
from tests.fuzzing.texts import name

_PHOTO = encode(crafted_photo(side=256), "JPEG", quality=90)
_COMMANDS = ("detect", "detect", "detect", "json", "prepare", "eval")


def make(rng: Generator) -> Case:
    """A command, and names of files below names of folders: pictures, photos and texts."""
    command = _COMMANDS[int(rng.integers(len(_COMMANDS)))]
    case: Case = {"command": command.encode()}
    for number in range(int(rng.integers(1, 6))):
        parts = [name(rng) for _ in range(int(rng.integers(2)))]
        parts.append(name(rng, (b".jpg", b".png", b".JPG", b"")[rng.integers(4)]))
        case[f"{number} {('good', 'good', 'bad')[rng.integers(3)]}"] = b"/".join(parts)
    return case


def _put(case: Case, folder: Path) -> None:
    for key, path in case.items():
        if key == "command":
            continue
        target = folder / os.fsdecode(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_PHOTO if key.endswith("good") else b"text")
        except OSError:  # this disk does not take it
            continue


def run(case: Case, folder: Path) -> str:
    """What is shown is printable, tables can be read again, and spreadsheets compute nothing."""
    command = case.get("command", b"detect").decode()
    photos, out = folder / "photos", folder / "out"
    for part in ("0_real", "1_fake") if command == "eval" else ("",):
        (photos / part).mkdir(parents=True)
        _put(case, photos / part)
    words = ["detect", str(photos), "--detector", str(made.detector()), "--no-stability"]
    tables = [folder / "t.csv"]
    match command:
        case "detect":
            words += ["--csv", str(tables[0]), "--html", str(folder / "p.html")]
        case "json":
            words += ["--json", "--out", str(out)]
        case "prepare":
            words = ["prepare", str(photos), "--out", str(out), "--workers=1"]
            words += ["--validation-fraction=0", "--accept=duplicate"]
        case "eval":
            words = ["eval", "--config=evaluation", f"--config.detectors={made.detector()}"]
            words += [f"--config.data.images={photos}", f"--workdir={out}"]
            tables = [out / "scores.csv", out / "results.csv"]
    status, shown, _ = run_command(cli.main, words)
    for table in filter(Path.exists, tables):
        for row in csv.reader(io.StringIO(table.read_text(encoding="utf-8"))):
            if any(x.startswith(("=", "@", "\t")) or not x.isprintable() for x in row):
                raise FoundError(f"a cell: {row}")
    if command == "json":
        for line in shown.splitlines():
            json.loads(line)["path"].encode()
    for lines in out.glob("*.jsonl"):
        for line in lines.read_text(encoding="utf-8").splitlines():
            json.loads(line).get("path", "").encode()  # a journal begins with what it is of
    if command == "detect" and (page := folder / "p.html").exists():
        text = page.read_text(encoding="utf-8")
        if not all(line.isprintable() for line in text.split("\n")):
            raise FoundError("a page with control characters")
    return f"{command}: status {status}"


TARGET = Target(make, run, cases=12, seconds=90.0)
