"""What is known of many photos, in columns instead of a row each: millions fit into memory."""

import dataclasses
import io
import json
from array import array
from collections.abc import Mapping, Sequence

import numpy as np

_VALUES = "tags/"
_WORDS = "/words"


class Numbers:
    """Gathers numbers; NaN is missing."""

    def __init__(self) -> None:
        self._values = array("d")

    def append(self, value: float | str | None) -> None:
        """Adds a number, None if it is missing."""
        self._values.append(float("nan") if value is None else float(value))

    def build(self) -> np.ndarray:
        """Returns float64 [n]."""
        return np.array(self._values)


class Texts:
    """Gathers texts, each stored once; empty ones are missing."""

    def __init__(self) -> None:
        self._codes = array("i")
        self._index: dict[str, int] = {}

    def append(self, value: float | str | None) -> None:
        """Adds a text, None or "" if it is missing."""
        text = str(value or "")
        code = self._index.setdefault(text, len(self._index)) if text else -1
        self._codes.append(code)

    def build(self) -> np.ndarray:
        """Returns int32 [n], indices into `words`, -1 where missing."""
        return np.array(self._codes)

    @property
    def words(self) -> tuple[str, ...]:
        """The different texts, in the order in which they came."""
        return tuple(self._index)


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the n windows of a split of records are, without their pixels.

    Attributes:
        path: object [n] of str, each of the photo that a window was cut from.
        photo: int64 [n], ids, the same for all windows of a photo.
        group: int64 [n], ids, the same for all photos of a burst.
        x: int32 [n], of the window's left edge in the photo, in pixels.
        y: int32 [n], of its upper edge.
        values: by tag name: float32 [n], NaN where missing, or object [n] of str, "" where missing.
    """

    path: np.ndarray
    photo: np.ndarray
    group: np.ndarray
    x: np.ndarray
    y: np.ndarray
    values: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.path)

    def to_bytes(self) -> bytes:
        """Returns a NumPy file that needs no pickle: of texts their codes, and each text once."""
        arrays: dict[str, np.ndarray] = {}
        for name, column in self._named().items():
            if column.dtype == object:
                texts = Texts()
                for text in column:
                    texts.append(text)
                column = texts.build()
                arrays[name + _WORDS] = np.frombuffer(json.dumps(texts.words).encode(), np.uint8)
            arrays[name] = column
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Columns":
        """Reads what `to_bytes` returned.

        Raises:
            Exception: of many types, if it is anything else.
        """
        columns = {}
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            for name in (name for name in file.files if not name.endswith(_WORDS)):
                columns[name] = file[name]
                if name + _WORDS in file.files:
                    words = [*json.loads(file[name + _WORDS].tobytes()), ""]
                    columns[name] = np.array(words, object)[columns[name]]
        return cls._from_named(columns)

    @classmethod
    def join(cls, parts: Sequence["Columns"]) -> "Columns":
        """Returns the rows of several, at least one, one after the other."""
        named = [part._named() for part in parts]
        return cls._from_named({key: np.concatenate([n[key] for n in named]) for key in named[0]})

    def _named(self) -> dict[str, np.ndarray]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values = fields.pop("values")
        return {**fields, **{_VALUES + name: column for name, column in values.items()}}

    @classmethod
    def _from_named(cls, columns: Mapping[str, np.ndarray]) -> "Columns":
        values = {k.removeprefix(_VALUES): v for k, v in columns.items() if k.startswith(_VALUES)}
        return cls(**{k: v for k, v in columns.items() if not k.startswith(_VALUES)}, values=values)
