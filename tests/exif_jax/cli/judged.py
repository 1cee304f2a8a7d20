"""Pictures as files, and what `exif-jax detect` says of them."""

import io
import json
from pathlib import Path

from PIL import Image

from exif_jax.cli import __main__ as cli


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


def edit(directory, change):
    path = directory / "detector.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
