import ctypes
import ctypes.util
import io
import sys

import pytest
from PIL import Image

from data_pipelines import jpeg_files, libjpeg
from data_pipelines.errors import UserError
from data_pipelines.images import decode_image
from data_pipelines.libjpeg import load_library


def test_a_missing_library_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        return None

    monkeypatch.setattr(libjpeg.importlib.util, "find_spec", absent)
    monkeypatch.setattr(ctypes.util, "find_library", absent)
    libjpeg.load_library.cache_clear()
    with pytest.raises(UserError, match=r"pip install turbojpeg.*--encoding pixels"):
        load_library()
    monkeypatch.undo()
    libjpeg.load_library.cache_clear()
    if sys.version_info < (3, 14):
        load_library()


def test_without_the_library_decoding_says_what_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(file, "JPEG")
    monkeypatch.setattr(libjpeg, "is_available", lambda: False)
    cut = file.getvalue()[:-500] + b"\xff\xd9"
    assert jpeg_files.damage(cut) == ""
    assert decode_image(cut).shape == (64, 64, 3)
