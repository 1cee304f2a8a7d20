"""`exif-jax detect` on what is damaged, odd or hostile: one clear line each, nothing stops."""

import io
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
from tests.exif_jax.cli.judged import edit, encoded, judged
from tests.exif_jax.noise_detector import NOISY, picture, write_noise_detector
from tests.fuzzing.seeds import deflated_zeros, jpeg_segment, png_chunk

ROOT = Path(__file__).resolve().parents[3]
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


# Detectors


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
