"""Camera makers and models: one spelling for each, from the dozens that cameras write.

Makers write their name padded with blanks or NULs, in capitals or not, with legal suffixes, under
former and later company names. The rules here are, in this order:

1. Text ends at the first NUL; unprintable characters are dropped and blanks collapsed.
2. A maker whose name starts with an entry of `MAKERS` gets that entry's name. Companies that
   merged or sold their camera business keep one name as long as the product line went on.
3. Any other maker loses its legal suffixes ("Corporation", "Co., Ltd.", ...).
4. A model loses the maker's name where it repeats it, and gets the canonical one in front:
   "Canon" + "Canon EOS 700D" and "Canon" + "EOS 700D" are both "Canon EOS 700D".
"""

import re
from typing import Final

MAX_TEXT_LENGTH: Final = 64
"""Longer texts are no names: such a value counts as missing."""

# Start of the name as written (lower case, longest match first) -> canonical name.
MAKERS: Final[dict[str, str]] = {
    "acer": "Acer",
    "apple": "Apple",
    "asahi": "Pentax",  # Asahi Optical, Pentax's former company name
    "asus": "Asus",
    "blackberry": "BlackBerry",
    "canon": "Canon",
    "casio": "Casio",
    "concord": "Concord",
    "dji": "DJI",
    "eastman kodak": "Kodak",
    "epson": "Epson",
    "essential products": "Essential",
    "fairphone": "Fairphone",
    "fuji photo": "Fujifilm",  # FUJI PHOTO FILM CO., LTD.
    "fujifilm": "Fujifilm",
    "google": "Google",
    "gopro": "GoPro",
    "hasselblad": "Hasselblad",
    "hewlett": "HP",
    "hewlett-packard": "HP",
    "hmd": "HMD Global",
    "honor": "Honor",
    "hp": "HP",
    "ht": "HTC",  # a cut-off spelling seen in HTC One photographs
    "htc": "HTC",
    "huawei": "Huawei",
    "jk imaging": "Kodak",  # makes and sells Kodak PixPro
    "kodak": "Kodak",
    "konica": "Minolta",  # Konica Minolta
    "konica minolta": "Minolta",
    "kyocera": "Kyocera",
    "leica": "Leica",
    "lenovo": "Lenovo",
    "lg": "LG",
    "lge": "LG",
    "lg electronics": "LG",
    "meizu": "Meizu",
    "microsoft": "Microsoft",
    "minolta": "Minolta",
    "motorola": "Motorola",
    "nikon": "Nikon",
    "nokia": "Nokia",
    "nothing": "Nothing",
    "olympus": "Olympus",
    "om digital": "Olympus",  # took over Olympus' cameras
    "oneplus": "OnePlus",
    "oppo": "OPPO",
    "panasonic": "Panasonic",
    "parrot": "Parrot",
    "pentax": "Pentax",
    "phase one": "Phase One",
    "polaroid": "Polaroid",
    "realme": "Realme",
    "ricoh": "Ricoh",
    "samsung": "Samsung",  # also Samsung Techwin, Samsung Electronics
    "sanyo": "Sanyo",
    "seiko epson": "Epson",
    "sharp": "Sharp",
    "sigma": "Sigma",
    "sony": "Sony",
    "sony ericsson": "Sony Ericsson",
    "sonyericsson": "Sony Ericsson",
    "tecno": "Tecno",
    "vivo": "Vivo",
    "xiaomi": "Xiaomi",
    "zte": "ZTE",
}

_LEGAL_SUFFIX = re.compile(
    r"[\s,.]+(?:corporation|corp|incorporated|inc|company|co|limited|ltd|gmbh|ag|llc|s\.?a|b\.?v"
    r"|electronics|electric|imaging|international)\b[\s.,]*$",
    re.IGNORECASE,
)
# Makers' names that a model is often prefixed with although Make holds another word.
_MODEL_PREFIXES: Final[dict[str, tuple[str, ...]]] = {
    "HP": ("hewlett-packard", "hp"),
    "Kodak": ("eastman kodak", "kodak"),
    "Minolta": ("konica minolta", "minolta"),
}


def clean_text(value: object) -> str | None:
    """Returns printable text without padding, or None where there is none.

    Args:
      value: What EXIF held: `str`, or `bytes` (read as UTF-8, else Latin-1); anything else is no
        text.
    """
    if isinstance(value, bytes):
        value = _decode(value)
    if not isinstance(value, str):
        return None
    value = value.split("\0", 1)[0]
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    if len(text) > MAX_TEXT_LENGTH or not any(c.isalnum() for c in text):
        return None
    return text


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _starts_with_words(text: str, words: str) -> bool:
    """True if `text` begins with `words` and does not go on within the last one."""
    return text.startswith(words) and not text[len(words) : len(words) + 1].isalnum()


def normalise_make(value: object) -> str | None:
    """Returns the canonical name of a camera maker, None where `value` names none."""
    text = clean_text(value)
    if text is None:
        return None
    lower = text.lower()
    matches = [start for start in MAKERS if _starts_with_words(lower, start)]
    if matches:
        return MAKERS[max(matches, key=len)]
    while (shorter := _LEGAL_SUFFIX.sub("", text)) != text and shorter:
        text = shorter
    # Spellings of an unknown maker differ mostly in case.
    return text.upper() if len(text) <= 4 else text.title()


def normalise_model(value: object, make: object) -> str | None:
    """Returns "Maker Model" with the maker named once; the model alone if the maker is unknown.

    Args:
      value: The model as written.
      make: The maker as written.
    """
    model = clean_text(value)
    if model is None:
        return None
    maker = normalise_make(make)
    if maker is None:
        return model
    written = clean_text(make) or maker
    names = {written.lower(), maker.lower(), *_MODEL_PREFIXES.get(maker, ())}
    first_word = written.split()[0]
    if normalise_make(first_word) == maker:
        names.add(first_word.lower())
    for name in sorted(names, key=len, reverse=True) * 2:  # twice: "HP HP PhotoSmart"
        if _starts_with_words(model.lower(), name):
            model = model[len(name) :].lstrip(" ,-_*") or model
    return f"{maker} {model}"
