"""The released label vectors, and tensors."""

import io
import sys

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.prepare.sidecars import load_sidecars
from data_pipelines.prepare.sidecars.sdaie import read_tensor
from data_pipelines.targets import RELEASED

CODED = [2.8, 1, 0.01, 100, 50, 5, 3, 4, -0.5, 5, 3, 1, 2.5, 4]


def named(values):
    labels = {"MeteringMode": "Metering Mode", "WhiteBalance": "White Balance Mode"}
    names = ["a", "b", "c", *(labels.get(name, name) for name in RELEASED)]
    return dict(zip(names, ["x", 0, 0, *values], strict=True))


@pytest.mark.parametrize("form", [lambda v: ["x", 0, None, *v], named], ids=["list", "object"])
def test_values(write, form):
    missing = [*CODED[:12], float("nan"), None]
    content = {"a.jpg": form(CODED), "b.jpg": form(missing), "c.jpg": form(CODED), "d.jpg": [1]}
    path = write("exif_tags.json", content)
    sidecars = load_sidecars([path], ["pkl_256/a.pkl", "pkl_256/b.pkl", "pkl_256/d.pkl"])
    assert sidecars.coded
    assert sidecars.entries["pkl_256/a.pkl"].coded == tuple(CODED)
    assert sidecars.entries["pkl_256/b.pkl"].coded == (*CODED[:12], None, None)
    assert all(entry.raw == {} for entry in sidecars.entries.values())
    assert sidecars.files[0].kind == "sdaie"
    assert (sidecars.files[0].num_entries, sidecars.files[0].num_matched) == (4, 2)
    assert sidecars.unmatched == ["c.jpg"]


@pytest.mark.parametrize("wrong", [7, -1, 0.5])
def test_class_ids_are_checked(write, wrong):
    row = ["x", 0, 0, CODED[0], wrong, *CODED[2:]]
    with pytest.raises(UserError, match=r"exif_tags.json: a.pkl: .* of Make is .* from 0 to 6"):
        load_sidecars([write("exif_tags.json", {"a.jpg": row})], ["a.pkl"])


def test_columns_in_another_order(write):
    row = named(CODED)
    row = dict(sorted(row.items()))
    with pytest.raises(UserError, match="where 'FNumber' is expected"):
        load_sidecars([write("exif_tags.json", {"a.jpg": row})], ["a.pkl"])


def test_no_mixing(write):
    paths = [
        write("exif_tags.json", {"a.jpg": [0, 0, 0, *CODED]}),
        write("other.json", [{"SourceFile": "a.jpg", "ISO": 100}]),
    ]
    with pytest.raises(UserError, match="do not mix"):
        load_sidecars(paths, ["a.pkl"])


def test_tensor_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'exif-jax\[torch\]'"):
        read_tensor(b"")


class TestTensor:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch", reason="PyTorch is optional and not installed")

    @staticmethod
    def saved(torch, value, **kwargs) -> bytes:
        buffer = io.BytesIO()
        torch.save(value, buffer, **kwargs)
        return buffer.getvalue()

    @pytest.mark.parametrize("zipped", [True, False])
    def test_values(self, torch, zipped):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 256, 256), np.uint8)
        tensor = torch.from_numpy(pixels)
        read = read_tensor(self.saved(torch, tensor, _use_new_zipfile_serialization=zipped))
        assert read.dtype == np.uint8 and read.flags.c_contiguous
        np.testing.assert_array_equal(read, pixels.transpose(1, 2, 0))

    def test_wrong_content(self, torch):
        pixels = torch.zeros((3, 256, 256), dtype=torch.uint8)
        wrong = [pixels.float(), pixels[:, :255], pixels[0], {"a": pixels}, [1], torch.nn.ReLU()]
        wrong += [pixels.to_sparse(), pixels.to("meta")]
        for value in wrong:
            with pytest.raises(ImageError) as error:
                read_tensor(self.saved(torch, value))
            assert error.value.reason == "undecodable"
        for data in (b"", b"text", self.saved(torch, pixels)[:-100], b"\x80\x02cos\nsystem\n."):
            with pytest.raises(ImageError):
                read_tensor(data)
