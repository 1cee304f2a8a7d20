"""Least chip hours, and their price, of passes over photos: computed, never run. See docs/pods.md.

python launch/cost.py --photos=50e6 --passes=100 --price=1.5     # of a chip hour, today's, yours
"""

import argparse

from exif_jax.chips import GPUS, TPUS, Chip

# Of an image of 16 patches in the published pretext step in bfloat16, between memory and core, as
# the TPU compiler counts them for v5e:16x16 with 64 images a chip (docs/plan.md).
BYTES_AN_IMAGE = 28.5e9 / 64


def images_per_second(chip: Chip) -> float:
    """At most, of one chip that does nothing but move these bytes."""
    return chip.hbm_bandwidth / BYTES_AN_IMAGE


def table(photos: float, passes: float, price: float | None) -> str:
    """Rows of Markdown, a chip each."""
    head = ["chip", "GB/s", "images/s a chip, at most", "chip hours, at least"]
    rows = [head + ["money, at least"] * (price is not None)]
    rows.append(["---"] * len(rows[0]))
    for chip in (*TPUS.values(), *GPUS.values()):
        rate = images_per_second(chip)
        hours = photos * passes / rate / 3600
        row = [chip.name, f"{chip.hbm_bandwidth / 1e9:,.0f}", f"{rate:,.0f}", f"{hours:,.2f}"]
        rows.append(row + ([] if price is None else [f"{hours * price:,.2f}"]))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=float, default=900_000, help="images of a pass")
    parser.add_argument("--passes", type=float, default=1)
    parser.add_argument("--price", type=float, help="of a chip hour; none is known here")
    options = parser.parse_args()
    print(table(options.photos, options.passes, options.price))
    print("\nComputed, not run: the bytes that were counted for v5e, by the bandwidth of each.")


if __name__ == "__main__":
    main()
