"""Tables and plot of `few_photos.py`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure


def _area(part: dict[str, Any]) -> str:
    low, high = part["interval"]
    return f"{part['value']:.3f} [{low:.3f}, {high:.3f}]"


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    machine = results["machine"]
    lines = [
        "# Density of few photographs",
        "",
        f"{machine['device']}, {machine['date']}, jax {machine['versions']['jax']}. "
        f"{results['about']}",
        "",
    ]
    for extractor in ("trained", "untrained"):
        rows = [row for row in results["rows"] if row["extractor"] == extractor]
        lines += [
            f"## {extractor.capitalize()} extractor",
            "",
            "| projection | covariances | K | numbers a parameter | fitted | held-out "
            "| AUROC, all | AUROC, matched pairs | FPR | TPR |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        whole = [row for row in rows if not row["pca"]]
        best = max(whole, key=lambda row: row["heldout"])
        for row in rows:
            name = f"**{row['covariances']}**" if row is best else row["covariances"]
            lines.append(
                f"| {row['pca'] or 'none'} | {name} | {row['components']} "
                f"| {row['rows_per_parameter']:.2g} | {row['fitted']:.1f} | {row['heldout']:.1f} "
                f"| {_area(row['all'])} | {_area(row['matched pairs'])} "
                f"| {row['false_positive_rate']:.3f} | {row['true_positive_rate']:.3f} |"
            )
        lines.append("")
    lines += [
        "Bold: what the held-out likelihood chooses among the mixtures of all 528 numbers. Behind "
        "different projections the likelihoods are of different numbers and cannot be compared.",
        "",
        "## Float32 against float64",
        "",
        "The same fit from the same start in both precisions, then log-densities of the held-out "
        "and the test images (first rows: of held-out photographs).",
        "",
        "| data | covariances | K | rows | median difference, nats | standard deviation, nats "
        "| median relative | over 1e-3 relative | same verdicts | scikit-learn in float32 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    single = [("every patch put first", row["rows"], row, row) for row in results["many_rows"]] + [
        (
            f"photographs, projection {row['pca'] or 'none'}",
            results["photographs"],
            row,
            row["float32"],
        )
        for row in results["rows"]
        if row["extractor"] == "trained"
    ]
    for data, count, row, found in single:
        lines.append(
            f"| {data} | {row['covariances']} | {row['components']} | {count} "
            f"| {found['median_difference']:.2g} | {found['deviation_of_log_density']:.3g} "
            f"| {found['median_relative']:.1e} | {found['rows_over_1e-3']:.2%} "
            f"| {found['same_verdicts']:.2%} | {found['scikit_learn']} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """AUROC over held-out likelihood, of the mixtures of all numbers, for both extractors."""
    with mpl.rc_context({"font.size": 9, "figure.dpi": 120}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, extractor in zip(panels, ("trained", "untrained"), strict=True):
            shown = [r for r in rows if r["extractor"] == extractor and not r["pca"]]
            best = max(row["heldout"] for row in shown)
            for marker, kind in zip(
                "osD^v*", dict.fromkeys(r["covariances"].split()[0] for r in shown), strict=False
            ):
                of_kind = [r for r in shown if r["covariances"].split()[0] == kind]
                # Likelihoods fall without bound; on a logarithm of the loss they stay in sight.
                loss = [best - r["heldout"] + 1 for r in of_kind]
                panel.plot(
                    loss, [r["all"]["value"] for r in of_kind], marker, label=kind, alpha=0.8
                )
            panel.axhline(0.5, color="0.6", linewidth=1)
            panel.set(
                xscale="log",
                xlabel="held-out log-likelihood below the best, nats + 1",
                title=f"{extractor} extractor",
            )
            panel.invert_xaxis()
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("AUROC, unseen cameras against generated")
        panels[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        figure.savefig(path)
