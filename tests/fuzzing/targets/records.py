"""Folders of prepared records: any file changed, cut or missing."""

import json
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.photo_sources import open_photos
from data_pipelines.prepare.report.tag_report import REPORT_FILE
from data_pipelines.records import open_records
from exif_jax.cli import __main__ as cli
from tests.fuzzing import made
from tests.fuzzing.target import Case, Target, refused, run_command
from tests.fuzzing.texts import changed, damaged, dumped


def make(rng: Generator) -> Case:
    """One or two files of a folder changed, half of the time what `exif-jax tags` shows."""
    case = dict(made.files_of(made.records()))
    names = [*sorted(case), *[REPORT_FILE] * len(case)]
    for _ in range(int(rng.choice([1, 1, 2]))):
        name = names[int(rng.integers(len(names)))]
        if name not in case:
            continue
        if rng.integers(12) == 0:
            del case[name]
        elif name.endswith(".json") and rng.integers(4):
            case[name] = dumped(changed(rng, json.loads(case[name])))
        else:
            case[name] = damaged(rng, case[name])
    return case


def run(case: Case, folder: Path) -> str:
    """Reads all that training, `exif-jax tags` and the one-class stage read."""
    made.put_files(case, folder / "records")
    outcome = "refused"
    try:
        records = open_records(folder / "records")
        for split in records.splits:
            records.labels(split)
        for photo in open_photos(folder / "records"):
            try:
                photo.read()
                outcome = "read"
            except ImageError as error:
                outcome = refused(error)
    except UserError as error:
        outcome = refused(error)
    words = ["tags", str(folder / "records")]
    if case.get(REPORT_FILE) != made.files_of(made.records())[REPORT_FILE]:  # plots take long
        words += ["--html", str(folder / "page.html")]
    run_command(cli.main, words)
    return outcome


TARGET = Target(make, run, cases=10, seconds=60.0)
