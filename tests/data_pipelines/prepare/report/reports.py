"""Reports on photos that are given by their tag values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.prepare.catalogue import Catalogue, CatalogueBuilder, count_words
from data_pipelines.prepare.report.tag_report import Report, build_report
from data_pipelines.targets import build_targets

Values = Mapping[str, str | float]


def catalogue_of(
    photos: Sequence[Values],
    rejects: Sequence[tuple[str, str, str]] = (),
    differing: int = 0,
    untimed: int = 0,
) -> Catalogue:
    builder = CatalogueBuilder()
    for i, values in enumerate(photos):
        builder.add_photo(
            photo=i,
            camera=str(values.get("Model", "")),
            time=None,
            timed=i >= untimed,
            place=-1,
            digest=0,
            size_differs=i < differing,
            file=i,
            width=600,
            height=300,
            offset=0,
            values=values,
            windows=[(0, 0, 9), (256, 0, 9)],
            skipped_windows={"flat": 1},
        )
    for reason, name, detail in rejects:
        builder.add_reject(reason, name, detail, {"black": 1})
    return builder.build()


def report_of(
    photos: Sequence[Values],
    rejects: Sequence[tuple[str, str, str]] = (),
    *,
    held: Sequence[int] = (0,),
    differing: int = 0,
    untimed: int = 0,
    sidecars: Mapping[str, Any] | None = None,
) -> Report:
    """Reports on photos of which two in a row are a burst."""
    heldout = np.zeros(len(photos), bool)
    heldout[[i for i in held if i < len(photos)]] = True
    catalogue = catalogue_of(photos, rejects, differing, untimed)
    return build_report(
        catalogue,
        build_targets(count_words(catalogue, ~heldout), any_value=True),
        group=np.arange(len(photos)) // 2,
        heldout=heldout,
        sidecars=sidecars,
    )
