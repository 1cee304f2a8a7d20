"""`exif-jax detect` on what is damaged, odd or hostile: one clear line each, nothing stops."""

import io
import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from safetensors.numpy import load_file, save_file

from exif_jax.cli import __main__ as cli
from exif_jax.detection import shipped
from tests.data_pipelines.evidence.crafted import jumbf
from tests.data_pipelines.jpegs import CUT, WHOLE
from tests.data_pipelines.tiffs import RAW
from tests.exif_jax.noise_detector import NOISY, picture, write_noise_detector
from tests.fuzzing.seeds import deflated_zeros, jpeg_segment, png_chunk

ROOT = Path(__file__).resolve().parents[3]
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def judged(capsys, detector, files, folder):
    """(exit status, rows by name, standard error) of files, name -> bytes."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = [str(folder / name) for name in files]
    words = ["detect", *paths, "--detector", str(detector), "--json", "--no-stability"]
    status = cli.main(words)
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert sorted(row["path"] for row in rows) == sorted(paths)
    return status, {Path(row["path"]).name: row for row in rows}, captured.err


# Detectors


def edit(directory, change):
    path = directory / "detector.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def set_bit(directory):
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def other_arrays(directory):
    path = directory / "model.safetensors"
    save_file(load_file(path) | {"head": np.ones(3)}, path)
    edit(directory, lambda facts: facts.pop("sha256"))


DETECTORS = {
    "newer": (
        lambda d: edit(d, lambda f: f.update(format_version=99, versions={"exif-jax": "9.9"})),
        "format 99 was written by exif-jax 9.9; this version reads up to 1: upgrade exif-jax",
    ),
    "newer, and damaged": (
        lambda d: edit(d, lambda f: f.update(format_version=99, versions=[])),
        "this version reads up to 1: upgrade exif-jax",
    ),
    "one bit": (set_bit, "model.safetensors: damaged, or of another model: its SHA-256"),
    "cut": (
        lambda d: (d / "model.safetensors").write_bytes(b"\x08\0\0"),
        "model.safetensors: damaged, or of another model",
    ),
    "an array in the place of a group": (other_arrays, "model.safetensors: damaged ("),
    "no arrays": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "deep": (
        lambda d: (d / "detector.json").write_text("[" * 100_000),
        "detector.json: not readable as JSON",
    ),
    "model": (
        lambda d: edit(d, lambda f: f["model"].update(features="moon")),
        "the description of its model is damaged",
    ),
    "scale": (lambda d: edit(d, lambda f: f["model"].update(scales=[7])), "config.model.scales"),
    "patches": (
        lambda d: edit(d, lambda f: f.update(patches="moon")),
        "detector.json: patches is 'moon', not a whole number",
    ),
    "details": (
        lambda d: edit(d, lambda f: f.update(threshold_details=[1])),
        "detector.json: threshold_details is no object",
    ),
    "threshold": (
        lambda d: edit(d, lambda f: f.update(threshold=float("nan"))),
        "detector.json: its threshold is missing or no number",
    ),
    "range": (
        lambda d: edit(
            d, lambda f: f["verdicts"].update(trained_range={"smallest_side": float("inf")})
        ),
        "detector.json: verdicts: ",
    ),
}


@pytest.mark.parametrize("damage", DETECTORS)
def test_a_detector_that_cannot_be_used_is_one_line(capsys, detector, tmp_path, damage):
    spoil, message = DETECTORS[damage]
    copy = shutil.copytree(detector, tmp_path / "copy")
    spoil(copy)
    (tmp_path / "a.png").write_bytes(encoded(picture(NOISY, 64, 64)))
    status = cli.main(["detect", str(tmp_path / "a.png"), "--detector", str(copy)])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err.startswith(f"error: {copy}") and message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_an_unknown_name_lists_what_is_shipped(capsys, detector, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    for name in ("binary", "other"):
        (tmp_path / name).symlink_to(detector)
    assert cli.main(["detect", "a.jpg", "--detector", "binray"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: binray: no such detector directory, nor a shipped one")
    assert "shipped are binary, other" in err


# Pictures


def gain_map_jpeg(pixels):
    """As phones write it: a second, smaller picture, listed in a multi-picture block."""
    second = Image.fromarray(pixels[::4, ::4]).convert("L")
    return encoded(pixels, "MPO", quality=98, save_all=True, append_images=[second])


def test_odd_pictures_are_judged_by_what_is_seen_first(capsys, detector, tmp_path):
    noisy = picture(NOISY)
    clear = np.dstack([noisy, np.zeros(noisy.shape[:2], np.uint8)])
    frames = [Image.fromarray(picture(NOISY, seed=seed)) for seed in range(3)]
    more = {"save_all": True, "append_images": frames[1:]}
    files = {
        "one.png": encoded(noisy[:1, :1]),
        "line.png": encoded(picture(NOISY, 1, 20_000)),
        "clear.png": encoded(clear),
        "wide.png": encoded(picture(NOISY, 130, 20_000)),
        "16 bits.png": encoded((noisy[..., 0].astype(np.uint16) << 8) + 77),
        "cmyk.jpg": encoded(Image.fromarray(noisy).convert("CMYK"), "JPEG", quality=98),
        "animated.gif": encoded(frames[0], "GIF", **more),
        "animated.png": encoded(frames[0], "PNG", **more),
        "gain map.jpg": gain_map_jpeg(noisy),
    }
    if features.check("webp"):
        files["animated.webp"] = encoded(frames[0], "WEBP", lossless=True, **more)
    if features.check("avif"):
        files["animated.avif"] = encoded(frames[0], "AVIF", quality=98, **more)
    unsure = {
        "one.png": "too small: 1 x 1",
        "line.png": "too small: 20000 x 1 ",
        "clear.png": "more than half of the picture is saturated",
    }
    status, rows, err = judged(capsys, detector, files, tmp_path)
    assert (status, err) == (0, "")
    for name, row in rows.items():
        assert row["verdict"] == ("unsure" if name in unsure else "photo"), row
        assert unsure.get(name, "") in " ".join(row["reasons"])
    plain = judged(capsys, detector, {"plain.png": encoded(frames[0])}, tmp_path)[1]["plain.png"]
    for name in {"animated.png", "animated.webp"} & rows.keys():
        assert rows[name]["score"] == pytest.approx(plain["score"], rel=1e-4)


def blank_pictures():
    """Pictures that show nothing: name -> file, and a word of the reason."""
    noisy = picture(NOISY)
    clear = np.dstack([noisy, np.zeros(noisy.shape[:2], np.uint8)])
    palette = Image.fromarray(noisy).quantize(16)
    grey = np.dstack([noisy[..., 0], np.zeros_like(noisy[..., 0])])
    faint = np.dstack([noisy, np.full(noisy.shape[:2], 1, np.uint8)])
    files = {
        "one pixel.png": (encoded(noisy[:1, :1]), "too small: 1 x 1"),
        "two pixels.png": (encoded(noisy[:2, :1]), "too small: 1 x 2"),
        "one pixel.jpg": (encoded(noisy[:1, :1], "JPEG"), "too small: 1 x 1"),
        "one pixel.gif": (encoded(noisy[:1, :1], "GIF"), "too small: 1 x 1"),
        "one line.png": (encoded(noisy[:1]), "too small: 256 x 1"),
        "a stamp.png": (encoded(noisy[:63]), "too small: 256 x 63"),
        "clear.png": (encoded(clear), "saturated"),
        "clear grey.png": (encoded(Image.fromarray(grey, "LA")), "saturated"),
        "clear palette.png": (encoded(palette, transparency=bytes(16)), "saturated"),
        "clear palette.gif": (encoded(Image.new("P", (256, 256)), "GIF", transparency=0), "sat"),
        "faint.png": (encoded(faint), "saturated"),
        "white.jpg": (encoded(np.full_like(noisy, 255), "JPEG"), "saturated"),
        "black.png": (encoded(np.zeros_like(noisy)), "black"),
        "grey.png": (encoded(np.full_like(noisy, 99)), "almost constant"),
    }
    if features.check("webp"):
        image = Image.fromarray(clear)
        files["clear.webp"] = (encoded(image, "WEBP", lossless=True), "saturated")
    return files


@pytest.mark.parametrize("rules", ["with verdicts", "thresholds alone", "no verdicts"])
def test_no_detector_has_a_verdict_on_a_picture_that_shows_nothing(
    capsys, detector, tmp_path, rules
):
    copy = shutil.copytree(detector, tmp_path / "copy")
    if rules == "no verdicts":
        edit(copy, lambda facts: facts.pop("verdicts"))
    elif rules == "thresholds alone":
        edit(copy, lambda facts: facts["verdicts"].pop("trained_range"))
    files = blank_pictures()
    good = {"good.png": encoded(picture(NOISY))}
    data = {name: file for name, (file, _) in files.items()} | good
    status, rows, err = judged(capsys, copy, data, tmp_path)
    assert (status, err) == (0, "")
    assert rows.pop("good.png")["verdict"] == "photo"
    for name, row in rows.items():
        assert row["verdict"] == "unsure", row
        (word, reasons) = files[name][1], " ".join(row["reasons"])
        assert word in reasons or (rules == "no verdicts" and "almost constant" in reasons), row


def test_the_summary_of_a_detector_without_verdicts_counts_the_unsure(capsys, detector, tmp_path):
    copy = shutil.copytree(detector, tmp_path / "copy")
    edit(copy, lambda facts: facts.pop("verdicts"))
    (tmp_path / "a.png").write_bytes(encoded(picture(NOISY)))
    words = ["detect", "--detector", str(copy), str(tmp_path / "a.png")]
    assert cli.main(words) == 0
    assert "1 images: 1 photo, 0 generated\n" in capsys.readouterr().out
    (tmp_path / "b.png").write_bytes(encoded(picture(NOISY)[:1, :1]))
    assert cli.main([*words, str(tmp_path / "b.png")]) == 0
    assert "2 images: 1 photo, 0 generated, 1 unsure\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", RAW)
def test_raw_files_are_no_pictures_under_any_name(capsys, detector, tmp_path, name):
    status, rows, _ = judged(capsys, detector, {"a.jpg": RAW[name], "b.tif": RAW[name]}, tmp_path)
    assert status == 1
    for row in rows.values():
        assert row["verdict"] is None
        assert row["error"].startswith("a camera's raw file, or one like it (")


def test_jpeg_files_without_their_end_are_judged_if_all_of_the_image_is_there(
    capsys, detector, tmp_path
):
    data = encoded(picture(NOISY), "JPEG", quality=95)
    whole = {f"whole {name}.jpg": change(data) for name, change in WHOLE.items()}
    cut = {f"cut {name}.jpg": change(data) for name, change in CUT.items()}
    status, rows, _ = judged(capsys, detector, {"plain.jpg": data, **whole, **cut}, tmp_path)
    assert status == 1
    for name in whole:
        assert rows[name]["score"] == rows["plain.jpg"]["score"], name
        assert rows[name]["verdict"] == "photo"
    for name in cut:
        assert rows[name]["verdict"] is None and rows[name]["error"], name


def test_several_pictures_are_judged_as_the_jpeg_that_they_are(capsys, detector, tmp_path):
    first, second = (Image.fromarray(picture(NOISY, seed=seed)) for seed in range(2))
    several = {"save_all": True, "append_images": [second]}
    files = {}
    for quality in (95, 30):
        files[f"{quality} one.jpg"] = encoded(first, "JPEG", quality=quality)
        files[f"{quality} two.jpg"] = encoded(first, "MPO", quality=quality, **several)
    rows = judged(capsys, detector, files, tmp_path)[1]
    for quality in (95, 30):
        one, two = rows[f"{quality} one.jpg"], rows[f"{quality} two.jpg"]
        assert {**one, "path": ""} == {**two, "path": ""}
    assert "quality of about 30" in " ".join(rows["30 two.jpg"]["reasons"])


def test_what_a_folder_holds_besides_is_told_and_changes_no_output(capsys, detector, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(NOISY, 64, 64)))
    for name in ("b.dng", "c.DNG", "d.mov", "notes"):
        (folder / name).write_bytes(b"II*\0")
    words = ["detect", str(folder), "--detector", str(detector), "--json", "--no-stability"]
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == "passed over, by their names: 2 .dng, 1 .mov, 1 no extension\n"
    (row,) = map(json.loads, captured.out.splitlines())
    assert row["path"] == str(folder / "a.png")


def test_the_gain_map_of_a_heic_file_is_not_judged(capsys, detector, tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="HEIC needs the optional pillow-heif")
    noisy, calm = picture(NOISY), np.full((256, 256, 3), 128, np.uint8)
    both = heif.from_pillow(Image.fromarray(noisy))
    both.add_from_pillow(Image.fromarray(calm))
    file = io.BytesIO()
    both.save(file, quality=-1, chroma=444, primary_index=0)
    alone = io.BytesIO()
    heif.from_pillow(Image.fromarray(noisy)).save(alone, quality=-1, chroma=444)
    files = {"two.heic": file.getvalue(), "one.heic": alone.getvalue()}
    _, rows, _ = judged(capsys, detector, files, tmp_path)
    assert rows["two.heic"]["verdict"] == "photo"
    assert rows["two.heic"]["score"] == pytest.approx(rows["one.heic"]["score"], rel=1e-4)


def test_hostile_manifests_change_no_verdict(capsys, detector, tmp_path):
    jpeg, png = (encoded(picture(NOISY), kind) for kind in ("JPEG", "PNG"))

    def in_jpeg(*bodies):
        return jpeg[:2] + b"".join(jpeg_segment(0xEB, body) for body in bodies) + jpeg[2:]

    def in_png(body):
        return png[:33] + png_chunk(b"caBX", body) + png[33:]

    store, first = jumbf(), b"JP\0\1\0\0\0\1"
    huge = b"\xff\xff\xff\xf0" + store[4:]
    header, deep = store[:40], b""
    for _ in range(3000):
        deep = (8 + len(deep)).to_bytes(4, "big") + b"jumb" + deep
    files = {
        "huge.jpg": in_jpeg(first + huge),
        "huge.png": in_png(huge),
        "longest.png": in_png(b"\0\0\0\1jumb" + b"\xff" * 8 + store[8:]),
        "endless.png": in_png(b"\0\0\0\0" + store[4:]),
        "cut.jpg": in_jpeg(first + store[:45]),
        "cut.png": in_png(store[:45]),
        "a third.jpg": in_jpeg(first + store, b"JP\0\1\0\0\0\3" + store[:8] + b"x" * 60_000),
        "deep.jpg": in_jpeg(first + header + deep),
        "deep.png": in_png(header + deep),
        "large.png": in_png(jumbf(50 * MEBIBYTE)),
    }
    status, rows, err = judged(capsys, detector, files, tmp_path)
    assert (status, err) == (0, "")
    plain = {".jpg": jpeg, ".png": png}
    plain = judged(capsys, detector, {f"plain{k}": v for k, v in plain.items()}, tmp_path)[1]
    for name, row in rows.items():
        alone = plain[f"plain{Path(name).suffix}"]
        assert row["score"] == pytest.approx(alone["score"], rel=1e-4)
        assert row["verdict"] == alone["verdict"]
        assert all(len(item["text"]) < 1500 for item in row["evidence"])
    assert "too large to be read" in str(rows["large.png"]["evidence"])


def test_texts_of_a_hundred_megabytes_are_one_clear_line(capsys, detector, tmp_path):
    png, long = encoded(picture(NOISY)), bytes(100 * MEBIBYTE)

    def with_text(name, body, at=33):
        return png[:at] + png_chunk(name, body) + png[at:]

    files = {
        "tEXt.png": with_text(b"tEXt", b"parameters\0" + long),
        "zTXt.png": with_text(b"zTXt", b"parameters\0\0" + zlib.compress(long)),
        "iTXt.png": with_text(b"iTXt", b"parameters\0\1\0\0\0" + deflated_zeros(2**30)),
        "behind.png": with_text(b"zTXt", b"parameters\0\0" + zlib.compress(long), -12),
        "profile.png": with_text(b"iCCP", b"p\0\0" + zlib.compress(long)),
    }
    status, rows, _ = judged(capsys, detector, files | {"good.png": png}, tmp_path)
    assert status == 1
    # What stands behind the pixels does not keep them from being decoded.
    assert rows.pop("good.png")["verdict"] == rows.pop("behind.png")["verdict"] == "photo"
    for row in rows.values():
        assert row["verdict"] is None
        assert row["error"].startswith("its PNG texts or colour profile are larger than 1 MiB")
        assert "a copy without metadata can be read" in row["error"]


def test_memory_of_a_hundred_megapixels_is_that_of_the_pixels(tmp_path):
    """In a process of its own: 3 bytes a pixel, 4 of Pillow's while it decodes, and a constant."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's peak of memory")
    detector = write_noise_detector(tmp_path / "detector", patches=1)  # of each cell: quick
    tile = Image.fromarray(picture(NOISY, 500, 500))
    sides = {"small.png": (1000, 1000), "large.png": (20_000, 5_000)}
    peaks = {}
    for name, (width, height) in sides.items():
        image = Image.new("RGB", (width, height))
        for left in range(0, width, 500):
            for top in range(0, height, 500):
                image.paste(tile, (left, top))
        image.save(tmp_path / name, compress_level=1)
        code = (
            "import re, sys; from exif_jax.cli.__main__ import main; status = main(sys.argv[1:]);"
            "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]);"
            "sys.exit(status)"
        )
        words = ["detect", str(tmp_path / name), "--detector", str(detector), "--no-stability"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "XLA_FLAGS": "",  # one device
                "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        peaks[name] = 1024 * int(done.stdout.splitlines()[-1])
    more = peaks["large.png"] - peaks["small.png"]
    assert more < 7 * (20_000 * 5_000 - 1_000_000) + 100 * MEBIBYTE


# Outputs


@pytest.mark.parametrize("flag", ["--out", "--heatmap", "--csv", "--html"])
def test_a_folder_without_permission_is_told_before_anything_is_judged(
    capsys, detector, tmp_path, flag, monkeypatch
):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # as root everything can be written

        def refused(*_, dir=None, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("exif_jax.cli.detect.tempfile.TemporaryFile", refused)
    (tmp_path / "a.png").write_bytes(encoded(picture(NOISY, 64, 64)))
    target = folder if flag in ("--out", "--heatmap") else folder / "file"
    words = ["detect", str(tmp_path / "a.png"), "--detector", str(detector), flag, str(target)]
    status = cli.main(words)
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    said = f"error: {flag}: {target} cannot be written (Permission denied); give another place\n"
    assert captured.err == said
    folder.chmod(0o700)


def test_a_folder_in_the_place_of_a_file(capsys, detector, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(picture(NOISY, 64, 64)))
    for flag in ("--csv", "--html"):
        words = ["detect", str(tmp_path / "a.png"), "--detector", str(detector)]
        assert cli.main([*words, flag, str(tmp_path)]) == 2
        assert "cannot be written (Is a directory)" in capsys.readouterr().err
