"""Plans of the published network's pretext step on TPU pods, compiled and never run.

python benchmarks/plan.py [TOPOLOGY ...]

Needs no TPU, but its compiler: pip install 'exif-jax[tpu]'. Each row is one `exif-jax plan`, some
minutes on two idle cores. Rows that results/plan.json has are kept, so that it goes on where it was
stopped; delete the file to make all anew. Without topologies, those of `TOPOLOGIES`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

TOPOLOGIES = ("v5e:16x16", "v6e:16x16", "v5p:8x8x4")  # 256 chips each; a v5p-512 counts two cores
IMAGES = (64, 2)  # of a chip; 2 is the published batch of 512
DTYPES = ("bfloat16", "float32")
RESULTS = Path(__file__).parent / "results"
CHIPS = 256
HEADINGS = (
    *("topology", "convolutions in", "batch", "peak memory, GB", "TFLOP", "GB accessed"),
    *("collectives", "arithmetic ms", "memory ms", "interconnect ms", "images/s at most"),
    *("of a host", "compiler"),
)


def command(topology: str, images: int, dtype: str) -> list[str]:
    """The command that makes a row, without the interpreter."""
    return [
        *("plan", "--config=pretext", f"--topology={topology}", "--step-only", "--json"),
        *(f"--config.batch_size={images * CHIPS}", f"--config.model.dtype={dtype}"),
    ]


def table(plans: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    for key, plan in plans.items():
        row = [plan["topology"], key.split()[2], str(plan["batch_size"])]
        limit = plan["hbm_bytes"] / 1e9
        if not plan["fits"]:
            row += [f"does not fit {limit:.1f}", *["n/a"] * 8]
        else:
            bounds = plan["bounds_seconds"]
            exchanged = (
                f"{c['count']} {c['kind']} {c['bytes'] / 1e6:.2f} MB" for c in plan["collectives"]
            )
            row += [
                f"{plan['peak_memory_bytes'] / 1e9:.2f} of {limit:.1f}",
                f"{plan['flops_per_device'] / 1e12:.3f}",
                f"{plan['bytes_accessed_per_device'] / 1e9:.2f}",
                ", ".join(exchanged),
                *(f"{1e3 * bounds[k]:.2f}" for k in ("arithmetic", "memory", "interconnect")),
                f"{plan['images_per_second_at_most']:,.0f}",
                f"{plan['images_per_second_per_host_at_most']:,.0f}",
            ]
        lines.append("| " + " | ".join([*row, plan["compiler"]]) + " |")
    return "\n".join(lines) + "\n"


def main(topologies: list[str]) -> None:
    """Makes the rows that are missing, and writes the table after each."""
    stored = RESULTS / "plan.json"
    plans = json.loads(stored.read_text()) if stored.exists() else {}
    for images in IMAGES:
        for dtype in DTYPES:
            for topology in topologies or TOPOLOGIES:
                key = f"{topology} {images} {dtype}"
                if key in plans:
                    continue
                words = [sys.executable, "-m", "exif_jax.cli", *command(topology, images, dtype)]
                done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
                if not done.stdout:
                    sys.exit(f"{key}: exif-jax plan failed with status {done.returncode}")
                plans[key] = json.loads(done.stdout)
                stored.write_text(json.dumps(plans, indent=1) + "\n")
                (RESULTS / "plan.md").write_text(table(plans))
                print(key, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
