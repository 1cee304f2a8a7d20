r"""Evaluates detectors on labelled test sets, plain and perturbed: tables, scores and plots.

  exif-jax eval --config=evaluation --config.detectors=RUN2/detector,RUN3/detector \
      --config.data.images=LABELLED --config.perturbations=none,jpeg:95,blur:1.0 --workdir=RUN4

LABELLED: every top folder with folders of photographs and of generated images (0_real and 1_fake,
at any depth) is a test set. Benchmarks that lie otherwise are recognised, and a CSV list with the
columns path,label does as well: docs/labelled.md. The workdir gets results.json, results.csv,
scores.csv, skipped.jsonl and plots/. A killed evaluation goes on with the images that are not yet
scored; a finished one says so. If detectors or images (their names and sizes) have changed since,
all is done anew. On a pod, start the same command in every process with --distributed: each scores
its share; another number of processes goes on with what is left.

example: exif-jax eval --config=evaluation --config.detectors=runs/one_class,runs/binary \
             --config.data.images=labelled_test --workdir=runs/evaluation
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.storage import valid_text
from exif_jax.cli.entry import run_with_config


def main(words: Sequence[str]) -> int:
    """`exif-jax eval` and eval.py; returns the exit status."""
    return run_with_config(lambda config, workdir, _: evaluate(config, workdir), __doc__, words)


def evaluate(config: object, workdir: Path) -> None:
    """Runs the evaluation.

    Raises:
        UserError: the configuration, its inputs or the workdir do not fit.
    """
    # Imported here, so that --help and a misspelt flag answer at once.
    from data_pipelines.errors import UserError
    from data_pipelines.fingerprints import fingerprint_of_files
    from data_pipelines.labelled import find_test_sets
    from data_pipelines.mirrors import shown
    from data_pipelines.object_storage import path_of
    from data_pipelines.perturbations import parse_perturbations
    from data_pipelines.terminal import say
    from exif_jax.config import EvaluationConfig, check_positive, check_set
    from exif_jax.detection.detectors import load_detector
    from exif_jax.evaluation.evaluate import evaluate, format_table
    from exif_jax.evaluation.journal import Journal
    from exif_jax.evaluation.plots import plot_evaluation
    from exif_jax.training.runs import open_run
    from exif_jax.training.shares import first_alone

    if not isinstance(config, EvaluationConfig):
        raise UserError(
            f"--config gives a {type(config).__name__}, which `eval` cannot run; stages are run by "
            "`train`"
        )
    check_set("detectors", config.detectors)
    check_set("data.images", config.data.images)
    check_positive(config, "batch_size")
    loaded = [load_detector(path.strip()) for path in config.detectors.split(",")]
    detectors = {detector.name: detector for detector in loaded}
    if len(detectors) < len(loaded):
        raise UserError(
            f"config.detectors: two detectors have the same name ({', '.join(detectors)}): a "
            "detector is named after its run's directory, so rename one of them"
        )
    images_at = path_of(config.data.images)
    test_sets = find_test_sets(images_at, config.data.layout)
    perturbations = parse_perturbations(config.perturbations)
    images = fingerprint_of_files(
        images_at,
        {
            f"{what} of {test_set.name}": paths
            for test_set in test_sets
            for what, paths in (
                ("photographs", test_set.real),
                ("generated images", test_set.generated),
            )
        },
    )
    open_run(workdir, config, "evaluation", lambda: {"data.images": images}, begins_anew=True)
    where = f"results.json, results.csv, scores.csv and plots/ are in {shown(workdir)}"
    identity = {
        "detectors": {d.name: _digest_of_files(d.extractor.source) for d in loaded},
        "images": hashlib.sha256(json.dumps(images.to_json()).encode()).hexdigest(),
    }
    journal = Journal(workdir / "scored.jsonl", identity)
    if journal.finished and (workdir / "results.json").is_file():
        first_alone(lambda: say(f"this evaluation is finished: {where}"))
        return
    rows, scores = evaluate(
        *(detectors, test_sets, perturbations, workdir),
        batch_size=config.batch_size,
        journal=journal,
    )

    def report() -> None:
        plot_evaluation(rows, scores, workdir / "plots")
        journal.finish()
        print(format_table(rows))
        say(where)

    first_alone(report)


def _digest_of_files(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        digest.update(f"{valid_text(path.name)} {len(data)}\n".encode() + data)
    return digest.hexdigest()
