"""What came out of `real_photos.py`, as text and as a picture; every sentence from the numbers."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from real_data import EQUAL_QUALITY, UNSEEN_GENERATORS
from real_scores import CALIPER, FEWEST_SOURCES

from data_pipelines.files import write_text

Results = dict[str, Any]
_MATCHED = "matched pairs"
_PARTS = ("all", "unseen generators", "seen generators", _MATCHED)
_BOTH = ("generated", "photographs")
# Label, colour, marker and the name of the scores in a panel's condition.
_SERIES = (
    ("pretext trained", "#0072B2", "o", "{kind}_trained_{condition}"),
    ("pretext untrained", "#D55E00", "s", "{kind}_untrained_{condition}"),
    ("trivial: residual variance", "#000000", "x", "cue: residual"),
)
_PANELS = (("one_class", "original"), ("one_class", "equalised"), ("binary", "equalised"))


def _cell(entry: dict[str, Any], signed: bool = False) -> str:
    if entry["value"] is None:
        return "n/a"
    form = "{:+.3f}" if signed else "{:.3f}"
    text = form.format(entry["value"])
    if entry["interval"]:
        text += " [" + ", ".join(form.format(x) for x in entry["interval"]) + "]"
    return text


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return [*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""]


def _foreseen(rule: dict[str, Any] | None) -> str:
    """The false-positive rate that the held-out photographs promise, with its 95 % interval."""
    if rule is None or rule["interval"] is None:
        return "n/a"
    low, high = rule["interval"]
    return f"{rule['expected_rate']:.3f} [{low:.3f}, {high:.3f}]"


def _verdict(name: str, entry: dict[str, Any]) -> str:
    """A sentence on a difference of AUROCs."""
    if entry["value"] is None or entry["interval"] is None:
        return f"{name}: not determined."
    low, high = entry["interval"]
    meaning = (
        "better by more than the choice of test images explains"
        if low > 0
        else "worse by more than the choice of test images explains"
        if high < 0
        else "no difference that this test set can show"
    )
    return f"{name}: {_cell(entry, signed=True)}, {meaning}."


def _pretext(results: Results) -> list[str]:
    rows = results["pretext"]
    lines = [
        "## Pretext: tags of photographs from unseen cameras",
        "",
        "Concordance: fraction of comparable pairs of photos ranked right, chance 0.5. Balanced "
        "accuracy: mean recall of the classes present; chance is what naming one of them always "
        "gives, and a tag with one class among these photos says nothing (n/a). `best` is the "
        "highest value over the checkpoints, chosen on the same photos, so too good. `n` counts "
        "pairs or photos; pairs share photos and photos cameras, so it overstates the evidence.",
        "",
        *_table(
            ("tag", "metric", "n", "chance", "untrained", "trained, last", "trained, best"),
            (
                (
                    row["tag"],
                    row["metric"].replace("_", " "),
                    row["count"],
                    "n/a" if row["chance"] is None else f"{row['chance']:.3f}",
                    "n/a" if row["untrained"] is None else f"{row['untrained']:.3f}",
                    f"{row['trained_last']:.3f}",
                    f"{row['trained_best']:.3f}",
                )
                for row in rows
            ),
        ),
    ]
    told = [row for row in rows if row["chance"] is not None]
    if told:
        above = sum(row["trained_last"] > row["chance"] for row in told)
        better = sum(row["trained_last"] > row["untrained"] for row in told)
        mean = sum(row["trained_last"] - row["chance"] for row in told) / len(told)
        lines += [
            f"Of {len(told)} tags that can be judged, {above} are above chance after the last step "
            f"(by {mean:+.3f} on average over all) and {better} above the untrained network.",
            "",
        ]
    return lines


def _condition(part: Results) -> list[str]:
    areas = part["auroc"]
    names = {key: areas["cue: residual"][key] for key in _PARTS}
    sizes = "; ".join(
        f"{key}: {size['generated']} generated windows of {size['sources']} source images, "
        f"{size['photographs']} photographs, {size['pairs']} pairs"
        for key, size in names.items()
    )
    trivial = part["cues"]["residual"]
    lines = [
        f"## Detection, {part['condition']} files",
        "",
        f"AUROC with 95 % intervals. {sizes}.",
        "",
        *_table(
            ("score", *_PARTS),
            ((name, *(_cell(values[key]) for key in _PARTS)) for name, values in areas.items()),
        ),
        f"Trivial score: {'higher' if trivial['sign'] > 0 else 'lower'} residual variance = "
        f"generated, a sign taken from the training images (AUROC {trivial['training_auroc']:.3f} "
        f"there). On the matched pairs it is left with {_cell(areas['cue: residual'][_MATCHED])}; "
        "perfectly matched, it would be 0.5.",
        "",
        *_table(
            (
                *("detector", "threshold", "FPR foreseen", "FPR", "TPR", "accuracy"),
                *("TPR at 5 % FPR", "chosen"),
            ),
            (
                (
                    name,
                    f"{row['threshold']:.3f}",
                    _foreseen(row["threshold_details"]),
                    f"{row['false_positive_rate']:.3f}",
                    f"{row['true_positive_rate']:.3f}",
                    f"{row['accuracy']:.3f}",
                    f"{row['tpr_at_fpr_5pct']:.3f}",
                    f"{row['num_components']} components"
                    if row["num_components"]
                    else f"step {row['step']}",
                )
                for name, row in part["decisions"].items()
            ),
        ),
        f"Accuracy depends on the numbers of images: calling all of them generated gives "
        f"{names['all']['generated'] / sum(names['all'][k] for k in _BOTH):.3f}. The foreseen "
        "FPR and its interval take the held-out windows as independent. For the last column but "
        "one the threshold is chosen on the test photographs themselves.",
        "",
        "What the learnt extractor adds:",
        "",
    ]
    for name, values in part["differences"].items():
        if "cue: " not in name:
            lines += [f"- {_verdict(f'{name}, {key}', values[key])}" for key in ("all", _MATCHED)]
    lines += [
        "",
        "Differences from the trivial score:",
        "",
        *_table(
            ("difference of AUROC", *_PARTS),
            (
                (name, *(_cell(values[key], signed=True) for key in _PARTS))
                for name, values in part["differences"].items()
                if "cue: " in name
            ),
        ),
    ]
    kinds = [key for key in areas["cue: residual"] if key not in _PARTS]
    shown = [name for name in areas if not name.startswith("cue: ") or name == "cue: residual"]
    return [
        *lines,
        "",
        *_table(
            ("generator", "n", "sources", "binary training", *shown),
            (
                (
                    kind,
                    areas["cue: residual"][kind]["generated"],
                    areas["cue: residual"][kind]["sources"],
                    "no" if kind in UNSEEN_GENERATORS else "other images of it",
                    *(_cell(areas[name][kind]) for name in shown),
                )
                for kind in kinds
            ),
        ),
    ]


def write_report(results: Results, path: Path) -> None:
    """Writes results.md."""
    settings = results["settings"]
    lines = [
        "# Real photographs",
        "",
        *(
            ["**A check of the script, not a measurement: few images, narrow network.**", ""]
            if settings["tiny"]
            else []
        ),
        f"Machine: {results['machine']}. Settings: "
        + ", ".join(f"{k} {v}" for k, v in settings.items() if k != "tiny")
        + ".",
        "",
        "Photographs are divided by camera model, generated images by generator and source image. "
        "The pretext is trained once, on the original files; everything after it is made and "
        "tested separately in two conditions. *original*: files as published (photographs JPEG, "
        "most generated images PNG), so format alone can give the class away. *equalised*: both "
        f"classes decoded and written as JPEG of quality {EQUAL_QUALITY}, 4:2:0, 256x256. "
        "Intervals: bootstrap over whole cameras of the photographs and whole source images of "
        f"the generated windows; none is given under {FEWEST_SOURCES} source images. *Matched* "
        f"pairs differ by less than {CALIPER} standard deviations in the trivial score, the "
        "log-variance of a fixed high-pass residual. *untrained*: the same network with its "
        "random initial weights as extractor or teacher; *alone*: binary with alpha 0; the last "
        "word of a name is the condition that a detector learnt from. Cameras "
        "held out from the pretext set the one-class thresholds (5 % false positives wanted).",
        "",
        *_table(
            ("images", "windows", "source images", "camera models or generators"),
            (
                (name, *row.values())
                for name, row in results["counts"].items()
                if isinstance(row, dict)
            ),
        ),
        *_pretext(results),
        *(line for part in results["conditions"] for line in _condition(part)),
        "![AUROC per generator](plots/auroc_per_generator.png)",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(results)),
        "",
        "## Commands",
        "",
        "In this order; the script lays out DIR/photos_*, DIR/labelled_* and DIR/test_* before.",
        "",
        "```",
        *(
            f"{step['command']}   # {step['seconds']:.0f} s"
            for step in results["steps"]
            if step["command"]
        ),
        "```",
        "",
    ]
    write_text(path, "\n".join(lines))


def _limits(results: Results) -> list[str]:
    settings, counts = results["settings"], results["counts"]
    pretext = counts["pretext photographs"]
    binary = counts["binary generated"]
    return [
        f"{pretext['source images']} photographs ({pretext['windows']} windows) and "
        f"{settings['steps']} steps of {settings['batch_size']} windows; the published pretext "
        "used 900,000 photographs.",
        f"The binary detectors learnt from {binary['windows']} generated windows of "
        f"{binary['source images']} images and as many photographs; windows of one generated "
        "image may lie on both sides of their own validation split, which only chooses the "
        "checkpoint.",
        "One seed of every run: the intervals know nothing of the spread between trainings.",
        "Test cameras are unseen models, often of makers seen in training; "
        f"{counts['test photographs published beside training ones']} of "
        f"{counts['test photographs']['windows']} test photographs come from a repository that "
        "training photographs also come from, so scenes may recur.",
        "Content differs between the classes (photographs: objects, buildings, night scenes; "
        "generated: illustration), which equal compression and matching do not remove.",
        "Photographs are cut at full resolution, generated images are small and sharper per pixel. "
        "Matching removes that in one number, the residual variance, not in others.",
        "The equalised photographs were compressed twice, most generated images once.",
    ]


def draw(results: Results, path: Path) -> None:
    """Draws the AUROC of every generator: trained, untrained and trivial."""
    figure = Figure(figsize=(9, 9.5), layout="constrained", dpi=120)
    panels = figure.subplots(len(_PANELS), 1, sharex=True)
    by_condition = {part["condition"]: part["auroc"] for part in results["conditions"]}
    first = by_condition["original"]["cue: residual"]
    kinds = sorted(
        (k for k in first if k not in _PARTS),
        key=lambda k: (k in UNSEEN_GENERATORS, -first[k]["generated"]),
    )
    shown = [*kinds, "all", _MATCHED]
    for axes, (kind, condition) in zip(panels, _PANELS, strict=True):
        for index, (label, colour, marker, pattern) in enumerate(_SERIES):
            areas = by_condition[condition][pattern.format(kind=kind, condition=condition)]
            for place, name in enumerate(shown):
                entry = areas[name]
                if entry["value"] is None:
                    continue
                x = place + 0.2 * (index - 1)
                if entry["interval"]:
                    axes.plot([x, x], entry["interval"], color=colour, linewidth=1, alpha=0.5)
                axes.plot(
                    x,
                    entry["value"],
                    color=colour,
                    marker=marker,
                    markersize=5,
                    linestyle="none",
                    label=label if place == 0 else None,
                )
        axes.axhline(0.5, color="0.6", linewidth=1)
        seen = sum(k not in UNSEEN_GENERATORS for k in kinds)
        for edge in (seen - 0.5, len(kinds) - 0.5):
            axes.axvline(edge, color="0.8", linewidth=1)
        axes.set(
            ylim=(-0.02, 1.02),
            ylabel="AUROC",
            title=f"{kind.replace('_', '-')} detector, {condition} files",
        )
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(loc="lower left", ncols=3, fontsize=8)
    panels[-1].set_xticks(
        range(len(shown)),
        [f"{name.removeprefix('api_misc/')} ({first[name]['generated']})" for name in shown],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    panels[-1].set_xlabel(
        "left to the first line: other images of the generator were in binary training; "
        "(n generated windows)"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
