"""Camera makers and models: one spelling for each, from the dozens that cameras write.

Makers write their name padded with blanks or NULs, in capitals or not, with legal suffixes, under
former and later company names. The rules here are, in this order:

1. Text is decoded where its coding is certain (`text_coding`) and ends at the first NUL;
   unprintable characters are dropped and blanks collapsed.
2. A maker whose name starts with an entry of `MAKERS` gets that entry's name. Companies that
   merged or sold their camera business keep one name as long as the product line went on; brands
   that are product lines of their own (Contax, Honor, Sony Ericsson, Hasselblad in DJI's drones)
   keep theirs. Pentax cameras since 2013 name Ricoh Imaging as their maker and are Ricoh's here:
   only the maker is looked at, never the model.
3. Any other maker loses its legal suffixes ("Corporation", "Co., Ltd.", ...).
4. A model loses the maker's name where it repeats it, and gets the canonical one in front:
   "Canon" + "Canon EOS 700D" and "Canon" + "EOS 700D" are both "Canon EOS 700D".
"""

import contextlib
import re
from typing import Final

from data_pipelines.text_coding import decode_text

MAX_TEXT_LENGTH: Final = 64
"""Longer texts are no names: such a value counts as missing."""
_MAX_RAW_LENGTH: Final = 4096  # more, padding and all, is not looked at

# Brands that are told by their own name. Contax is one of Kyocera's, but a line of its own.
_BRANDS: Final = (
    "Acer", "Agfa", "Aiptek", "Alcatel", "APEMAN", "Apple", "Asus", "Autel", "BenQ", "BlackBerry",
    "Blackmagic", "Blackview", "BLU", "Canon", "Casio", "Concord", "Contax", "Coolpad", "Cubot",
    "DJI", "Doogee", "Epson", "Fairphone", "Fujifilm", "GE", "Gionee", "Google", "GoPro",
    "Hasselblad", "Hisense", "Honor", "HP", "HTC", "Huawei", "Infinix", "Insta360", "Itel",
    "Jenoptik", "Kodak", "Kyocera", "LeEco", "Leica", "Lenovo", "LG", "Mamiya", "Meitu", "Meizu",
    "Microsoft", "Minolta", "Motorola", "Nextbase", "Nikon", "Nintendo", "Nokia", "Nothing",
    "Nubia", "Nvidia", "Olympus", "OnePlus", "OPPO", "Oukitel", "Palm", "Panasonic", "Pantech",
    "Parrot", "Pentax", "Phase One", "Polaroid", "Raspberry Pi", "Razer", "Realme", "Ricoh",
    "Rollei", "Samsung", "Sanyo", "Sharp", "Siemens", "Sigma", "SJCAM", "Skanhex", "Smartisan",
    "Sony", "Sony Ericsson", "TCL", "Tecno", "Toshiba", "Ulefone", "Umidigi", "Vivitar", "Vivo",
    "Wiko", "Xiaomi", "Yashica", "YI", "ZTE",
)  # fmt: skip
# Canonical name -> what the name as written may start with instead, in lower case.
_SPELLINGS: Final = {
    "Agfa": ("agfaphoto",),  # licensed the name
    "BlackBerry": ("research in motion", "rim"),  # the former company name
    "Epson": ("seiko epson",),
    "Essential": ("essential products",),
    "Fujifilm": ("fuji photo",),  # FUJI PHOTO FILM CO., LTD.
    "GE": ("gedsc", "general imaging"),  # made cameras under General Electric's name
    "HMD Global": ("hmd",),
    "HP": ("hewlett", "hewlett-packard"),
    "HTC": ("ht",),  # a cut-off spelling seen in HTC One photographs
    "Insta360": ("arashi vision",),  # its company
    "Kodak": ("eastman kodak", "jk imaging"),  # the latter makes and sells Kodak PixPro
    "LeEco": ("lemobile", "letv"),
    "LG": ("lg electronics", "lge"),
    "Minolta": ("konica", "konica minolta"),
    "Olympus": ("om digital", "om system"),  # took over Olympus' cameras
    "Palm": ("palmone",),
    "Pentax": ("asahi",),  # Asahi Optical, the former company name
    "Raspberry Pi": ("raspberrypi",),
    "Sony Ericsson": ("sonyericsson",),
    "Xiaomi": ("poco", "redmi"),
    "YI": ("xiaoyi",),
}
MAKERS: Final[dict[str, str]] = {name.lower(): name for name in _BRANDS} | {
    start: name for name, starts in _SPELLINGS.items() for start in starts
}
"""Start of the name as written, in lower case (the longest match counts) -> canonical name."""

# Brands that stand for their maker in Make, yet are part of the model's name.
_MODEL_LINES: Final = frozenset({"poco", "redmi"})
_LEGAL_SUFFIX = re.compile(
    r"[\s,.]+(?:corporation|corp|incorporated|inc|company|co|limited|ltd|gmbh|ag|llc|s\.?a|b\.?v"
    r"|electronics|electric|imaging|international"
    r"|technology|technologies|mobility|communications?|telecommunications?)\b[\s.,]*$",
    re.IGNORECASE,
)
# Makers' names that a model is often prefixed with although Make holds another word.
_MODEL_PREFIXES: Final[dict[str, tuple[str, ...]]] = {
    "HP": ("hewlett-packard", "hp"),
    "Kodak": ("eastman kodak", "kodak"),
    "Minolta": ("konica minolta", "minolta"),
}


def clean_text(value: object, *, max_length: int | None = None) -> str | None:
    """Returns printable text without padding, or None where there is none.

    Text is cut at `max_length`; without it, it is a name: text that is longer is none, nor is text
    that lost letters, nor are bytes whose coding is not certain. With it, it is searched: bytes of
    no certain coding are read as Latin-1.
    """
    if isinstance(value, str) and "\0" in value:  # a reader of EXIF took the bytes for Latin-1
        with contextlib.suppress(UnicodeEncodeError):
            value = value[:_MAX_RAW_LENGTH].encode("latin-1")
    if isinstance(value, bytes):
        data = value[:_MAX_RAW_LENGTH]
        text = decode_text(data)
        value = data.decode("latin-1") if text is None and max_length else text
    if not isinstance(value, str):
        return None
    value = value[:_MAX_RAW_LENGTH].split("\0", 1)[0]
    if max_length is not None:
        value = value[:max_length]
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    if len(text) > (max_length or MAX_TEXT_LENGTH) or not any(c.isalnum() for c in text):
        return None
    # Programs write question marks for letters that their coding lacks.
    return text if max_length or "?" not in text else None


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
    """Returns "Maker Model" with the maker named once; the model alone if the maker is unknown."""
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
    names -= _MODEL_LINES
    for name in sorted(names, key=len, reverse=True) * 2:  # twice: "HP HP PhotoSmart"
        if _starts_with_words(model.lower(), name):
            model = model[len(name) :].lstrip(" ,-_*") or model
    return f"{maker} {model}"
