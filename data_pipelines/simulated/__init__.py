"""Simulated cameras and generators: the embedded data, honest about being simulated.

    scenes -> lens -> sensor -> processing -> JPEG + exif_writer     a photograph
    scenes -> generators -> JPEG                                     its generated counterpart

`python -m data_pipelines.simulated --out DIR` writes a whole data set.
"""

from etils import epy

with epy.lazy_api_imports(globals()):  # the command answers, and can be interrupted, at once
    from data_pipelines.simulated.dataset import make_dataset

__all__ = ["make_dataset"]
