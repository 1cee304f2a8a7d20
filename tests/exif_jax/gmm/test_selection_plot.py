"""The picture of a choice among mixtures."""

import dataclasses
from pathlib import Path

from PIL import Image

from exif_jax.figures import save
from exif_jax.gmm import Candidate, Structure
from exif_jax.gmm.selection_plot import selection_curves


def test_selection_shows_every_fitted_candidate_and_marks_the_choice(tmp_path: Path) -> None:
    table = [
        dataclasses.replace(
            Candidate.of(structure, size, 6), heldout_log_likelihood=-10.0 + size, bic=7.0 - size
        )
        for structure in (Structure("full"), Structure("low_rank", 2))
        for size in (1, 2, 3)
    ]
    table.append(dataclasses.replace(Candidate.of(Structure("tied"), 9, 6), error="too few rows"))
    (axes,) = selection_curves(table, table[2], "heldout").get_axes()
    full, low_rank, mark = axes.lines
    assert [line.get_label() for line in axes.lines] == ["full", "low_rank 2", "chosen"]
    assert full.get_xydata().tolist() == [[1, 2], [2, 1], [3, 0]]
    assert tuple(low_rank.get_ydata()) == tuple(full.get_ydata())
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (3, 0)
    assert axes.yaxis_inverted()  # the best on top
    (axes,) = selection_curves(table, table[2], "bic").get_axes()
    assert list(axes.lines[0].get_ydata()) == [2, 1, 0]
    with Image.open(save(selection_curves(table, table[2], "bic"), tmp_path / "plot.png")) as image:
        assert image.width >= 600
