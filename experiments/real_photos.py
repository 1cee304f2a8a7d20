r"""Does the method work on real photographs: the whole of it, beside untrained and trivial ones?

python experiments/real_photos.py --data DATA --work DIR

DATA holds MANIFEST.csv, photos/ and generated/: 256x256 windows of photographs with EXIF and of
generated images. The public commands do everything, with the full-size network; this file lays out
the images, starts the commands and compares the scores. DIR/results.md and .json are written last.
Started again, it continues: commands that finished say so. `--tiny` checks the script in minutes: a
few images and a narrow network, whose numbers mean nothing.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from comparison import PARTS, Comparison, table
from photos import (
    CONDITIONS,
    SEED,
    Plan,
    lay_out,
    log,
    make_plan,
    start,
)

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.records import open_records
from exif_jax.evaluation.evaluate import MEAN

ROOT = Path(__file__).resolve().parents[1]
# Detector: its stage, the pretext extractor it uses, the condition of the images it is made from.
DETECTORS = {
    f"{stage}_{teacher}_{condition}": (stage, teacher, condition)
    for stage, teacher, condition in (
        *(("one_class", t, c) for c in CONDITIONS for t in ("trained", "untrained")),
        ("binary", "trained", "equalised"),
        ("binary", "untrained", "equalised"),
        ("binary", "trained", "original"),
    )
}
# Stage -> what decides its results; all else is as in configs/.
_GRADIENT = {"batch_size": 16, "data.patches": 4, "optimizer.learning_rate": 3e-4, "log_every": 5}
SETTINGS: dict[str, dict[str, Any]] = {
    "pretext": {**_GRADIENT, "steps": 500, "eval_every": 100, "checkpoint_every": 100},
    "one_class": {"data.patches": 8, "pca": 64, "num_components": "1,2,5"},
    "binary": {**_GRADIENT, "steps": 100, "eval_every": 25, "checkpoint_every": 25},
}
_FEW = {"batch_size": 4, "data.patches": 2, "steps": 2, "eval_every": 1, "checkpoint_every": 1}
TINY: dict[str, dict[str, Any]] = {
    "pretext": {**_FEW, "model.width": 8},
    "one_class": {"data.patches": 2, "pca": 4, "num_components": "1,2"},
    "binary": _FEW,
}


def run(work: Path, name: str, *words: object) -> None:
    """Runs `python WORDS` from the repository's root, its output in DIR/logs/NAME.log.

    Raises:
        UserError: it failed.
    """
    log.info("%s ...", name)
    output = work / "logs" / f"{name}.log"
    output.parent.mkdir(exist_ok=True)
    with output.open("a") as out:
        done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, stdout=out, stderr=out)
    if done.returncode:
        tail = output.read_text(errors="replace")[-3000:]
        raise UserError(f"{name} ended with status {done.returncode}; the end of {output}:\n{tail}")


def make_runs(work: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Prepares records, trains every extractor and detector and scores the test images."""

    def train(name: str, stage: str, **fields: Any) -> None:
        config = {"seed": SEED, **settings[stage], **fields}
        words = [f"--config.{field}={value}" for field, value in config.items()]
        words = ["train.py", f"--config=configs/{stage}.py", *words, f"--workdir={work / name}"]
        run(work, name, *words)

    for condition in CONDITIONS:
        run(
            work,
            f"records_{condition}",
            *("-m", "exif_jax.cli", "prepare", work / f"photos_{condition}"),
            *("--out", work / f"records_{condition}"),
            *("--split-by", "camera", "--validation-fraction", 0.2, "--seed", SEED),
        )
    photos = {"data.photos": work / "records_original"}
    train("pretext_trained", "pretext", **photos)
    train("pretext_untrained", "pretext", **photos, steps=0)
    for name, (stage, teacher, condition) in DETECTORS.items():
        data: dict[str, Any] = {"data.photos": work / f"records_{condition}"}
        if stage == "binary":
            images = work / f"labelled_{condition}"
            data = {"data.images": images, "data.validation_fraction": 0.2}
        train(name, stage, extractor=work / f"pretext_{teacher}", **data)
    for condition in CONDITIONS:
        out = work / f"evaluation_{condition}"
        # What was learnt from the original files is also asked about equalised ones.
        tested = [n for n in DETECTORS if n.endswith(condition) or n == "binary_trained_original"]
        run(
            work,
            out.name,
            *("eval.py", "--config=configs/evaluation.py", "--config.perturbations=none"),
            f"--config.detectors={','.join(str(work / n / 'detector') for n in tested)}",
            f"--config.data.images={work / f'test_{condition}'}",
            f"--workdir={out}",
        )


def pretext_rows(work: Path) -> list[dict[str, Any]]:
    """Validation of every tag, unseen cameras: chance, untrained, trained.

    Chance is what naming one class always gives: where the held-out photos have one class only (no
    unseen camera has a known model), there is nothing to measure.
    """
    last: dict[str, dict[str, Any]] = {}
    for name in ("untrained", "trained"):
        lines = (work / f"pretext_{name}" / "metrics.jsonl").read_text().splitlines()
        *_, last[name] = (x for x in map(json.loads, lines) if x["split"] == "validation")
    records, rows = open_records(work / "records_original"), []
    for target, column in zip(records.targets, records.labels("validation").T, strict=True):
        ranked = target.kind == "ranked"
        metric = "concordance" if ranked else "balanced_accuracy"
        key = f"{metric}/{target.name}"
        if key not in last["trained"]:
            continue
        present = len(np.unique(column[np.isfinite(column)]))
        rows.append(
            {
                **{"tag": target.name, "metric": metric.replace("_", " ")},
                "n": last["trained"][f"count/{target.name}"],
                "chance": 0.5 if ranked else 1 / present if present > 1 else None,
                **{name: line.get(key) for name, line in last.items()},
            }
        )
    return rows


def compare(work: Path, condition: str, comparison: Comparison, files: Sequence[Path]) -> Any:
    """All numbers of one condition: every detector, every cue, and the differences that matter."""
    evaluation, scores = work / f"evaluation_{condition}", {}
    with (evaluation / "scores.csv").open(newline="", encoding="utf-8") as file:
        of = {(row["detector"], row["path"]): float(row["score"]) for row in csv.DictReader(file)}
    for name in dict.fromkeys(name for name, _ in of):
        scores[name] = np.array([of[name, str(path)] for path in files])
    areas = {f"cue: {cue}": comparison.areas(x) for cue, x in comparison.trivial.items()}
    areas |= {name: comparison.areas(x) for name, x in scores.items()}
    decisions = []
    for row in read_json(evaluation / "results.json"):
        name, threshold = row["detector"], row["threshold"]
        if row["test_set"] != MEAN:
            shown = {key: row[key] for key in ("detector", "threshold", "accuracy")}
            shown["TPR at 5 % FPR"] = row["tpr_at_fpr_5pct"]
            decisions.append(shown | comparison.rates(scores[name], threshold))
    names = ("one_class", "binary")
    pairs = [(f"{n}_trained_{condition}", f"{n}_untrained_{condition}") for n in names]
    pairs += [(name, "cue: residual") for name in scores]
    return {
        "condition": condition,
        "sizes": comparison.sizes,
        "auroc": {name: comparison.summary(values) for name, values in areas.items()},
        "decisions": decisions,
        "differences": {
            f"{a} - {b}": comparison.summary({k: areas[a][k] - areas[b][k] for k in areas[a]})
            for a, b in pairs
            if a in areas and b in areas
        },
    }


def counts(plan: Plan) -> list[dict[str, Any]]:
    """Sizes of every part of the plan."""
    rows = []
    for use, items in vars(plan).items():
        for label, name in enumerate(("photographs", "generated")):
            if chosen := [item for item in items if item.label == label]:
                row = {"images": f"{use} {name}", "windows": len(chosen)}
                row["source images"] = len({item.source for item in chosen})
                row["camera models or generators"] = len({item.kind for item in chosen})
                rows.append(row)
    return rows


def condition_text(part: dict[str, Any]) -> list[str]:
    """The tables of one condition."""
    areas, sizes = part["auroc"], part["sizes"]
    return [
        f"## Detection, {part['condition']} files",
        table([{"part": key, **sizes[key]} for key in PARTS]),
        "AUROC with 95 % intervals; of single generators in results.json.",
        table([{"score": name, **values} for name, values in areas.items()], "score", *PARTS),
        table(part["decisions"]),
        table(
            [{"difference of AUROC": n, **values} for n, values in part["differences"].items()],
            "difference of AUROC",
            *PARTS,
        ),
    ]


def report(results: dict[str, Any]) -> str:
    """The page, in Markdown."""
    settings = results["settings"]
    warning = "**A check of the script, not a measurement: few images, narrow network.**"
    parts = [
        "# Real photographs",
        *[warning] * (settings == TINY),
        f"Machine: {results['machine']}. Settings: {json.dumps(settings)}.",
        "How the parts were made and what the words mean: experiments/README.md.",
        table(results["counts"]),
        "## Pretext: tags of photographs from unseen cameras",
        table(results["pretext"]),
        *(text for part in results["conditions"] for text in condition_text(part)),
        f"Of the test photographs {results['beside']} were published beside training ones.",
    ]
    return "\n\n".join(parts) + "\n"


def experiment(data: Path, work: Path, tiny: bool) -> None:
    """Runs everything and writes the results."""
    settings = TINY if tiny else SETTINGS
    work.mkdir(parents=True, exist_ok=True)
    plan = make_plan(data, tiny)
    log.info("laying out the files ...")
    files = {condition: lay_out(plan, data, work, condition) for condition in CONDITIONS}
    make_runs(work, settings)
    repositories = {item.repository for item in plan.pretext}
    results = {
        "settings": settings,
        "machine": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "counts": counts(plan),
        "beside": sum(i.label == 0 and i.repository in repositories for i in plan.test),
        "pretext": pretext_rows(work),
        "conditions": [
            compare(work, condition, Comparison(plan, of), of["test"])
            for condition, of in files.items()
        ],
    }
    write_json(work / "results.json", results)
    write_text(work / "results.md", report(results))
    log.info("%s is written", work / "results.md")


if __name__ == "__main__":
    start(__doc__, experiment)
