"""Camera makers and models: one spelling for each, from the dozens that cameras write.

Makers write their name padded with blanks or NULs, in capitals or not, with legal suffixes, under
former and later company names. The rules here are, in this order:

1. Text ends at the first NUL; unprintable characters are dropped and blanks collapsed.
2. A maker whose name starts with an entry of `MAKERS` gets that entry's name. Companies that
   merged or sold their camera business keep one name as long as the product line went on; brands
   that are product lines of their own (Contax, Honor, Sony Ericsson, Hasselblad in DJI's drones)
   keep theirs. Pentax cameras since 2013 name Ricoh Imaging as their maker and are Ricoh's here:
   only the maker is looked at, never the model.
3. Any other maker loses its legal suffixes ("Corporation", "Co., Ltd.", ...).
4. A model loses the maker's name where it repeats it, and gets the canonical one in front:
   "Canon" + "Canon EOS 700D" and "Canon" + "EOS 700D" are both "Canon EOS 700D".
"""

import re
from typing import Final

MAX_TEXT_LENGTH: Final = 64
"""Longer texts are no names: such a value counts as missing."""
_MAX_RAW_LENGTH: Final = 4096  # more, padding and all, is not looked at

# Start of the name as written (lower case, longest match first) -> canonical name.
MAKERS: Final[dict[str, str]] = {
    "acer": "Acer",
    "agfa": "Agfa",
    "agfaphoto": "Agfa",  # licensed the name
    "aiptek": "Aiptek",
    "alcatel": "Alcatel",
    "apeman": "APEMAN",
    "apple": "Apple",
    "arashi vision": "Insta360",  # Insta360's company
    "asahi": "Pentax",  # Asahi Optical, Pentax's former company name
    "asus": "Asus",
    "autel": "Autel",
    "benq": "BenQ",
    "blackberry": "BlackBerry",
    "blackmagic": "Blackmagic",
    "blackview": "Blackview",
    "blu": "BLU",
    "canon": "Canon",
    "casio": "Casio",
    "concord": "Concord",
    "contax": "Contax",  # Kyocera's brand, a line of its own
    "coolpad": "Coolpad",
    "cubot": "Cubot",
    "dji": "DJI",
    "doogee": "Doogee",
    "eastman kodak": "Kodak",
    "epson": "Epson",
    "essential products": "Essential",
    "fairphone": "Fairphone",
    "fuji photo": "Fujifilm",  # FUJI PHOTO FILM CO., LTD.
    "fujifilm": "Fujifilm",
    "ge": "GE",
    "gedsc": "GE",
    "general imaging": "GE",  # made cameras under General Electric's name
    "gionee": "Gionee",
    "google": "Google",
    "gopro": "GoPro",
    "hasselblad": "Hasselblad",
    "hewlett": "HP",
    "hewlett-packard": "HP",
    "hisense": "Hisense",
    "hmd": "HMD Global",
    "honor": "Honor",
    "hp": "HP",
    "ht": "HTC",  # a cut-off spelling seen in HTC One photographs
    "htc": "HTC",
    "huawei": "Huawei",
    "infinix": "Infinix",
    "insta360": "Insta360",
    "itel": "Itel",
    "jenoptik": "Jenoptik",
    "jk imaging": "Kodak",  # makes and sells Kodak PixPro
    "kodak": "Kodak",
    "konica": "Minolta",  # Konica Minolta
    "konica minolta": "Minolta",
    "kyocera": "Kyocera",
    "leeco": "LeEco",
    "leica": "Leica",
    "lemobile": "LeEco",
    "lenovo": "Lenovo",
    "letv": "LeEco",
    "lg": "LG",
    "lg electronics": "LG",
    "lge": "LG",
    "mamiya": "Mamiya",
    "meitu": "Meitu",
    "meizu": "Meizu",
    "microsoft": "Microsoft",
    "minolta": "Minolta",
    "motorola": "Motorola",
    "nextbase": "Nextbase",
    "nikon": "Nikon",
    "nintendo": "Nintendo",
    "nokia": "Nokia",
    "nothing": "Nothing",
    "nubia": "Nubia",
    "nvidia": "Nvidia",
    "olympus": "Olympus",
    "om digital": "Olympus",  # took over Olympus' cameras
    "om system": "Olympus",
    "oneplus": "OnePlus",
    "oppo": "OPPO",
    "oukitel": "Oukitel",
    "palm": "Palm",
    "palmone": "Palm",
    "panasonic": "Panasonic",
    "pantech": "Pantech",
    "parrot": "Parrot",
    "pentax": "Pentax",
    "phase one": "Phase One",
    "poco": "Xiaomi",
    "polaroid": "Polaroid",
    "raspberry pi": "Raspberry Pi",
    "raspberrypi": "Raspberry Pi",
    "razer": "Razer",
    "realme": "Realme",
    "redmi": "Xiaomi",
    "research in motion": "BlackBerry",  # the former company name
    "ricoh": "Ricoh",
    "rim": "BlackBerry",
    "rollei": "Rollei",
    "samsung": "Samsung",  # also Samsung Techwin, Samsung Electronics
    "sanyo": "Sanyo",
    "seiko epson": "Epson",
    "sharp": "Sharp",
    "siemens": "Siemens",
    "sigma": "Sigma",
    "sjcam": "SJCAM",
    "skanhex": "Skanhex",
    "smartisan": "Smartisan",
    "sony": "Sony",
    "sony ericsson": "Sony Ericsson",
    "sonyericsson": "Sony Ericsson",
    "tcl": "TCL",
    "tecno": "Tecno",
    "toshiba": "Toshiba",
    "ulefone": "Ulefone",
    "umidigi": "Umidigi",
    "vivitar": "Vivitar",
    "vivo": "Vivo",
    "wiko": "Wiko",
    "xiaomi": "Xiaomi",
    "xiaoyi": "YI",
    "yashica": "Yashica",
    "yi": "YI",
    "zte": "ZTE",
}

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

    Args:
        value: what EXIF held: `str`, or `bytes` (read as UTF-8, else Latin-1); anything else is no
            text.
        max_length: text is cut there. None: text longer than a name is none.
    """
    if isinstance(value, str | bytes):
        value = value[:_MAX_RAW_LENGTH]
    if isinstance(value, bytes):
        value = _decode(value)
    if not isinstance(value, str):
        return None
    value = value.split("\0", 1)[0]
    if max_length is not None:
        value = value[:max_length]
    text = " ".join("".join(c if c.isprintable() else " " for c in value).split())
    if len(text) > (max_length or MAX_TEXT_LENGTH) or not any(c.isalnum() for c in text):
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
        value: the model as written.
        make: the maker as written.
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
    names -= _MODEL_LINES
    for name in sorted(names, key=len, reverse=True) * 2:  # twice: "HP HP PhotoSmart"
        if _starts_with_words(model.lower(), name):
            model = model[len(name) :].lstrip(" ,-_*") or model
    return f"{maker} {model}"
