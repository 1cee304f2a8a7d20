import json
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.evidence import Evidence, read, read_evidence
from tests.data_pipelines.evidence.crafted import (
    FORMATS,
    camera_photo,
    jpeg_with,
    jumbf,
    png_with,
    text_png,
    user_comment,
    with_manifest,
    with_xmp,
    xmp_of,
)
from tests.fuzzing.files import hostile_files
from tests.fuzzing.seeds import EXTREMES, crafted_seeds

ADDRESS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
PACKET = xmp_of(
    f'Iptc4xmpExt:DigitalSourceType="{ADDRESS}trainedAlgorithmicMedia"',
    'photoshop:Credit="Made with Google AI"',
)
KINDS = {"camera_exif", "generator", "digital_source_type", "c2pa", "limits", "file"}


def seeds():
    """Small files that hold every kind of evidence."""
    yield from (with_xmp(kind, PACKET) for kind in FORMATS)
    yield from (with_manifest(kind, jumbf()) for kind in FORMATS)
    yield from (camera_photo(kind) for kind in FORMATS)
    yield text_png("parameters", "a fox\nSteps: 20, Sampler: Euler a, CFG scale: 7")
    yield png_with((b"zTXt", b"prompt\0\0x\x9c"), (b"iTXt", b"a\0\1\0en\0b\0"), (b"tEXt", b""))
    yield jpeg_with(
        (0xFE, b"Midjourney"), (0xED, b"\x1c\x02\x6e\0\5hello"), (0xE1, user_comment("a"))
    )


SEEDS = tuple(seeds())


def check(found):
    """Every answer has the promised form and size."""
    assert isinstance(found, tuple) and found
    for item in found:
        assert isinstance(item, Evidence)
        assert item.kind in KINDS
        assert item.says in ("photo", "generated", "nothing")
        assert item.text.isprintable() and item.text.endswith((".", "”"))
        assert len(item.text) < 1500
        line = json.dumps(item.to_json(), allow_nan=False)
        assert len(line) < 8000
    assert len(found) <= 24


@pytest.mark.parametrize("kind", FORMATS)
def test_all_kinds_together(kind):
    found = {item.kind: item for item in read_evidence("x", with_xmp(kind, PACKET))}
    assert found["camera_exif"].says == "nothing"
    assert found["generator"].says == found["digital_source_type"].says == "generated"
    assert next(iter(found)) == "camera_exif"
    check(tuple(found.values()))


def test_a_file_is_read_where_no_bytes_are_given(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(camera_photo())
    assert read_evidence(path) == read_evidence(str(path)) == read_evidence("x", camera_photo())


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_cannot_be_read_gives_a_sentence(tmp_path, content):
    path = tmp_path / "photo.jpg"
    if content is not None:
        path.write_bytes(content)
    (item,) = read_evidence(path)
    assert (item.kind, item.says) == ("file", "nothing")
    assert item.text.startswith("The file could not be read: ")


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF"])
def test_bytes_that_are_no_image(data):
    found = read_evidence("x", data)
    check(found)
    assert found[0].text.startswith("EXIF could not be read: ")


def test_to_json_is_plain():
    item = Evidence("c2pa", "nothing", "A sentence.", {"a": [1]})
    assert item.to_json() == {
        "kind": "c2pa",
        "says": "nothing",
        "text": "A sentence.",
        "details": {"a": [1]},
    }


@pytest.mark.parametrize(
    "name",
    [
        "camera_evidence",
        "read_embedded",
        "generator_evidence",
        "source_type_evidence",
        "c2pa_evidence",
    ],
)
@pytest.mark.parametrize("error", [ValueError("bad\x1b"), MemoryError(), RecursionError()])
def test_one_kind_that_fails_stops_no_other(monkeypatch, name, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(read, name, fail)
    found = read_evidence("x", with_xmp("JPEG", PACKET))
    check(found)
    assert any("could not be read" in item.text for item in found)
    if name != "read_embedded":
        assert len(found) >= 3


def test_texts_of_100_megabytes_give_a_sentence_quickly():
    start = time.monotonic()
    found = read_evidence("x", text_png("parameters", "Steps: 1, Sampler: x, " + "a" * 100_000_000))
    assert time.monotonic() - start < 5
    check(found)
    assert [item.kind for item in found] == ["camera_exif", "generator", "limits"]


def test_deep_json_is_only_searched():
    deep = '{"class_type": ' + "[" * 200_000
    found = read_evidence("x", text_png("prompt", deep))
    check(found)
    assert found[1].details["tool"] == "ComfyUI"


def bounded(data):
    """Reads evidence, in memory that the file's size alone decides."""
    tracemalloc.start()
    try:
        found = read_evidence("x", data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    check(found)
    assert peak < 24 * 2**20 + 8 * len(data)


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_files_never_raise(data):
    changed = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(changed) - 1))
        if data.draw(st.booleans()):
            changed[at] = data.draw(st.integers(0, 255))
        else:
            extreme = data.draw(st.sampled_from(EXTREMES))
            changed[at : at + 4] = extreme.to_bytes(
                4, data.draw(st.sampled_from(("big", "little")))
            )
    bounded(bytes(changed))


@settings(max_examples=60)
@given(seed=st.sampled_from(SEEDS), share=st.floats(0, 1))
def test_truncated_files_never_raise(seed, share):
    bounded(seed[: int(share * len(seed))])


@settings(max_examples=60)
@given(start=st.sampled_from([b"", *(seed[:40] for seed in SEEDS)]), rest=st.binary(max_size=500))
def test_random_bytes_never_raise(start, rest):
    bounded(start + rest)


def test_hostile_files_never_raise():
    for _, data in hostile_files([*SEEDS, *crafted_seeds(64)], 100, seed=3):
        check(read_evidence("x", data))


def test_real_photos_are_never_said_to_be_generated(real_data):
    photos = sorted((real_data / "dev" / "photos").glob("*/*.jpg"))
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, 60).astype(int)]
    for path in chosen:
        found = read_evidence(path)
        check(found)
        assert [item.kind for item in found] == ["camera_exif"]
        assert found[0].says == "photo"


def test_generated_images_without_metadata_are_never_said_to_be_photos(real_data):
    images = sorted(p for p in (real_data / "dev" / "generated").glob("*/*") if p.is_file())
    for path in images[:: max(1, len(images) // 60)]:
        assert {item.says for item in read_evidence(path)} == {"nothing"}


def test_whole_originals(real_data):
    for path in sorted((real_data / "dev" / "full" / "photos").glob("*")):
        assert read_evidence(path)[0].details["status"] == "consistent"
