"""Fixed descriptions of images, computed once and kept in a folder that many runs may share.

A row is named after all that its numbers depend on: the bytes of the image, the version made of it,
and the encoder. So neither a changed file nor other versions read stale numbers, and runs share
what they have in common. Rows are kept in parts, under a folder for each encoder:

    NAME.npy     float32 [rows, S]
    NAME.jsonl   an object a row, with its name and version; written last, so that it is complete

Several processes begin at different places and each computes what it does not find yet. Where they
share the folder, no row is computed by all; where they do not, each computes every one.
"""

import hashlib
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import replacing_file, write_json_lines
from data_pipelines.images import ImageError
from data_pipelines.perturbations import NO_PERTURBATION
from data_pipelines.photo_sources import ImageSource
from data_pipelines.versions import Version, draw_versions
from exif_jax.detection.features import extract_descriptions
from exif_jax.models.extractor import FixedExtractor

FORMAT: Final = 1
"""Of what is kept and of how versions are made; another one reads nothing of this."""
_PART_ROWS = 1024
_SAMPLE = 16384  # rows at most from which constants are computed

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class _Place(NamedTuple):
    """Where a row is: its file, and the first byte of its numbers."""

    path: Path
    offset: int


class _Wanted(NamedTuple):
    """An image that is to be described.

    Attributes:
        image: the image.
        versions: of it.
        names: of the rows, one for each version.
    """

    image: ImageSource
    versions: list[Version]
    names: list[str]


@dataclass(frozen=True)
class Descriptions:
    """Descriptions of n images in V versions each, read from the disk when they are asked for.

    Attributes:
        places: [n] of [V], of readable images.
        versions: [n] of [V], of readable images.
        errors: why the other images cannot be read, by position.
        size: S, the numbers of a description.
    """

    places: Sequence[Sequence[_Place]]
    versions: Sequence[Sequence[Version]]
    errors: dict[int, ImageError]
    size: int

    @property
    def readable(self) -> np.ndarray:
        """Positions of the readable images, ascending."""
        return np.array([i for i in range(len(self.places)) if i not in self.errors], int)

    def row(self, image: int, version: int = 0) -> np.ndarray:
        """The description float32 [S] of one version of a readable image."""
        path, offset = self.places[image][version]
        # Opened anew for every row: a process may have fewer open files than there are parts.
        return np.fromfile(path, np.float32, self.size, offset=offset)

    def rows(self, images: Iterable[int] | None = None, version: int = 0) -> np.ndarray:
        """Those [m, S] of some images, of all readable ones by default."""
        chosen = self.readable if images is None else images
        rows = [self.row(image, version) for image in chosen]
        return np.stack(rows) if rows else np.zeros((0, self.size), np.float32)

    def draw(self, image: int, rng: np.random.Generator) -> tuple[np.ndarray, ImageError | None]:
        """The description of a version drawn at random; zeros and why, of an unreadable image."""
        if image in self.errors:
            return np.zeros(self.size, np.float32), self.errors[image]
        return self.row(image, int(rng.integers(len(self.places[image])))), None

    def sample(self) -> np.ndarray:
        """Descriptions of all versions of readable images, or of so many, evenly spread."""
        every = [(i, v) for i in self.readable for v in range(len(self.places[i]))]
        step = -(-len(every) // _SAMPLE)
        return np.stack([self.row(*one) for one in every[:: max(1, step)]])


@dataclass(frozen=True)
class Describer:
    """Describes images by a fixed encoder.

    Attributes:
        extractor: the encoder.
        folder: where descriptions are kept; made when needed.
        prepare: perturbation that every image goes through, last.
        threads: that read, decode and perturb.
    """

    extractor: FixedExtractor
    folder: Path
    prepare: str = NO_PERTURBATION.name
    threads: int = 8

    def windows(
        self, images: Sequence[ImageSource], augmented: int = 0, seed: int = 0
    ) -> Descriptions:
        """Descriptions of the central window of each image, and of augmented random ones.

        Args:
            images: n of them.
            augmented: versions beside the central window, see `draw_versions`.
            seed: of what is drawn for them.

        Raises:
            UserError: no image is readable, or the folder is damaged or cannot be written.
        """

        def versions(_: ImageSource, content: bytes) -> list[Version]:
            return draw_versions(content, augmented, seed, self.prepare)

        return self._describe(images, versions, 0)

    def whole(self, images: Sequence[ImageSource], limit: int = 0) -> Descriptions:
        """Descriptions of whole images, or of at most `limit` patches of each.

        Raises:
            UserError: see `windows`.
        """

        def versions(image: ImageSource, _: bytes) -> list[Version]:
            return [Version("central" if image.is_window else "whole", prepare=self.prepare)]

        return self._describe(images, versions, limit)

    def _describe(
        self,
        images: Sequence[ImageSource],
        versions: Callable[[ImageSource, bytes], list[Version]],
        limit: int,
    ) -> Descriptions:
        encoder = f"{FORMAT} {self.extractor.description_name}"
        store = _Store(self.folder / hashlib.sha256(encoder.encode()).hexdigest()[:16])
        errors: dict[int, ImageError] = {}
        wanted: dict[int, _Wanted] = {}
        with ThreadPoolExecutor(self.threads) as pool:
            for i, content in enumerate(_ahead(pool, self.threads, _content, images)):
                if isinstance(content, ImageError):
                    errors[i] = content
                    continue
                made = versions(images[i], content)
                wanted[i] = _Wanted(images[i], made, [_name(content, v, limit) for v in made])
            self._complete(store, pool, wanted, limit, errors)
        if len(errors) == len(images):
            why = f", the first: {errors[0]} ({images[0].path})" if images else ""
            raise UserError(f"none of {len(images)} images could be read{why}")
        readable = [wanted[i] if i not in errors else None for i in range(len(images))]
        return Descriptions(
            [[store.places[name] for name in one.names] if one else [] for one in readable],
            [one.versions if one else [] for one in readable],
            errors,
            store.size,
        )

    def _complete(
        self,
        store: "_Store",
        pool: ThreadPoolExecutor,
        wanted: dict[int, _Wanted],
        limit: int,
        errors: dict[int, ImageError],
    ) -> None:
        """Computes what the store lacks, part by part."""
        process, processes = jax.process_index(), jax.process_count()
        parts = list(_parts([i for i, one in wanted.items() if not store.has(one)], wanted))
        first = len(parts) * process // processes
        total = sum(len(part) for part in parts)
        hidden = True if process else None
        with tqdm(total=total, unit="image", desc="describe", disable=hidden) as progress:
            for part in parts[first:] + parts[:first]:
                if processes > 1:
                    store.refresh()
                left = [i for i in part if not store.has(wanted[i])]
                progress.update(len(part) - len(left))
                rows: dict[str, dict[str, Any]] = {}  # by name, so that no row is there twice

                def images(
                    left: list[int] = left, rows: dict[str, dict[str, Any]] = rows
                ) -> Iterator[np.ndarray]:
                    def make(i: int) -> list[tuple[str, Version, np.ndarray]] | ImageError:
                        return _make(wanted[i], store)

                    for i, made in zip(left, _ahead(pool, self.threads, make, left), strict=True):
                        progress.update()
                        if isinstance(made, ImageError):
                            errors[i] = made
                            continue
                        for name, version, pixels in made:
                            if name not in rows:
                                path = wanted[i].image.path
                                rows[name] = {"row": name, "path": path, "version": version.text}
                                yield pixels

                values = extract_descriptions(self.extractor, images(), limit=limit)
                if rows:
                    store.add(list(rows.values()), values)


def _content(image: ImageSource) -> bytes | ImageError:
    try:
        return hashlib.sha256(image.content()).digest()
    except ImageError as error:
        return error


def _name(content: bytes, version: Version, limit: int) -> str:
    """Name of a row within an encoder's folder."""
    patches = f" {limit} patches" if limit else ""
    return hashlib.sha256(content + f"{version.text}{patches}".encode()).hexdigest()[:32]


def _make(wanted: _Wanted, store: "_Store") -> list[tuple[str, Version, np.ndarray]] | ImageError:
    """The pixels of all versions that are not kept yet, with the names of their rows."""
    try:
        image = wanted.image.read()
    except ImageError as error:
        return error
    versions = zip(wanted.names, wanted.versions, strict=True)
    return [(name, v, v.of(image)) for name, v in versions if name not in store.places]


def _parts(images: Iterable[int], wanted: dict[int, _Wanted]) -> Iterator[list[int]]:
    """Images in parts of about as many rows."""
    part: list[int] = []
    rows = 0
    for i in images:
        part.append(i)
        rows += len(wanted[i].names)
        if rows >= _PART_ROWS:
            yield part
            part, rows = [], 0
    if part:
        yield part


def _ahead(
    pool: ThreadPoolExecutor, threads: int, function: Callable[[_In], _Out], inputs: Iterable[_In]
) -> Iterator[_Out]:
    """Results in order, some of them computed before they are asked for."""
    rest = iter(inputs)
    waiting: deque[Future[_Out]] = deque(
        pool.submit(function, one) for one in itertools.islice(rest, threads + 1)
    )
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, one) for one in itertools.islice(rest, 1))
        yield result


@dataclass
class _Store:
    """The parts of one encoder.

    Attributes:
        folder: of the parts.
        places: of all rows known so far, by name.
        size: numbers of a row; 0 as long as there is none.
    """

    folder: Path
    places: dict[str, _Place] = field(default_factory=dict)
    size: int = 0

    def __post_init__(self) -> None:
        self._parts: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self.refresh()

    def has(self, wanted: _Wanted) -> bool:
        """Whether all rows of an image are kept."""
        return all(name in self.places for name in wanted.names)

    def refresh(self) -> None:
        """Reads what parts there are by now."""
        for path in sorted(self.folder.glob("*.jsonl")):
            if path.stem not in self._parts:
                self._read(path)

    def add(self, rows: list[dict[str, Any]], values: np.ndarray) -> None:
        """Writes a part."""
        name = hashlib.sha256("".join(row["row"] for row in rows).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.jsonl"
        try:
            numbers = path.with_suffix(".npy")
            with replacing_file(numbers) as temporary, temporary.open("wb") as file:
                np.save(file, values.astype(np.float32))
            write_json_lines(path, rows)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        self._read(path)

    def _read(self, path: Path) -> None:
        numbers = path.with_suffix(".npy")
        try:
            names = [json.loads(line)["row"] for line in path.read_text().splitlines()]
            values = np.load(numbers, mmap_mode="r")
            if values.dtype != np.float32 or values.ndim != 2 or len(values) != len(names):
                raise ValueError(f"{values.dtype} {values.shape} for {len(names)} rows")
            if self.size not in (0, values.shape[1]):
                raise ValueError(f"rows of {values.shape[1]} numbers among those of {self.size}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: damaged, or {numbers.name} beside it ({error}); delete the two, then "
                "they are computed again"
            ) from error
        self.size = values.shape[1]
        first, step = numbers.stat().st_size - values.nbytes, 4 * self.size
        for row, name in enumerate(names):
            self.places[name] = _Place(numbers, first + row * step)
        self._parts.add(path.stem)


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: cannot keep descriptions there ({error.strerror or error}); give another "
        "folder as --config.data.descriptions"
    )
