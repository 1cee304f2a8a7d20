"""Telling by EXIF that no camera wrote a file: scanners, screenshots, games, generators, editors.

Only what is named in `RULES` is told. Camera firmware ("Ver.1.00", "HDR+ 1.0", "14.4.2", a phone's
build number), camera apps and programs that store the camera's file as it is are left alone. An
editor's output is told because it is coded anew, often resized too, so that the camera's traces
are gone or changed. Exports of Apple Photos, iPhoto and Aperture are such output: they name the
program, while originals taken out of these programs keep the camera's entry.
"""

import dataclasses
import re
from functools import cached_property
from typing import Final

from data_pipelines.camera_names import clean_text, normalise_make
from data_pipelines.tags import RawExif, to_number

MAX_TEXT_LENGTH: Final = 256
"""Only so much of a text is looked at."""
MAX_SIDE: Final = 1_000_000
"""Larger sides of an image are not plausible."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """Names that tell a kind of source.

    A name is found in any case, as words of their own; between its words there may be any
    punctuation or none, and a number may follow: "Capture One" is found in "CaptureOne_23".

    Attributes:
        kind: what the source is, for people.
        fields: EXIF fields that are searched.
        names: what they are searched for.
        whole: the field must be a name and nothing else but a version number after it. For names
            that are common words.
        make: canonical maker that the file must name, if not empty.
    """

    kind: str
    fields: tuple[str, ...]
    names: tuple[str, ...]
    whole: bool = False
    make: str = ""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """One group for each name."""
        names = "|".join(f"({_words(name)})" for name in self.names)
        before, after = (r"\A", r"(?:\W*[\d.]+)?\Z") if self.whole else (r"(?<![^\W_])", "")
        return re.compile(f"{before}(?:{names}){after}", re.IGNORECASE)

    def find(self, raw: RawExif) -> str | None:
        """Returns "field: name" of the first name that is found, else None."""
        if self.make and normalise_make(raw.get("Make")) != self.make:
            return None
        for field in self.fields:
            text = clean_text(raw.get(field), max_length=MAX_TEXT_LENGTH)
            match = self._pattern.search(text) if text else None
            if match and match.lastindex:
                return f"{field}: {self.names[match.lastindex - 1]}"
        return None


def _words(name: str) -> str:
    """Pattern of a name that ends where its last word does, or goes on with a number."""
    end = r"(?![^\W_])" if name[-1].isdigit() else r"(?![^\W\d_])"
    return r"[\W_]*".join(map(re.escape, re.findall(r"[^\W_]+", name))) + end


_SOFTWARE: Final = ("Software",)
_MODEL: Final = ("Model",)
_ANY: Final = ("Software", "Model", "Make")

RULES: Final = (
    Rule(
        "scanner",
        _ANY,
        (
            "CanoScan", "Scanjet", "ScanSnap", "ScanMaker", "ScanGear", "Coolscan", "Frontier SP",
            "Noritsu", "Plustek", "OpticFilm", "OpticPro", "SilverFast", "VueScan", "EPSON Scan",
            "EPSON Perfection", "EPSON Expression", "Perfection V", "MP Navigator",
            "IJ Scan Utility", "Nikon Scan", "PaperPort", "Flextight", "Microtek", "Doxie",
            "Flip Pal", "HP Officejet", "HP LaserJet", "HP PSC", "Lexmark", "Xerox", "PFU",
        ),
    ),
    Rule("scanner", _MODEL, ("Perfection", "Expression", "GT-X", "Stylus"), make="Epson"),
    Rule("scanner", _MODEL, ("LiDE",), make="Canon"),
    # With the maker: Olympus sells cameras that are called SP-500 and the like.
    Rule(
        "scanner", _MODEL, tuple(f"SP-{n}" for n in (500, 1500, 2000, 2500, 3000)), make="Fujifilm"
    ),
    Rule(
        "scanner", _MODEL, ("LS-30", "LS-40", "LS-50", *(f"LS-{n}000" for n in (1, 2, 4, 5, 8, 9))),
        make="Nikon",
    ),
    Rule(
        "screenshot",
        _ANY,
        (
            "Screenshot", "Screen shot", "screencapture", "Screen capture", "Snipping Tool",
            "Snip & Sketch", "Greenshot", "ShareX", "Lightshot", "Snagit", "Flameshot", "PicPick",
            "Skitch",
        ),
    ),
    Rule(
        "game",
        _ANY,
        (
            "Polyphony Digital", "Gran Turismo", "NVIDIA Ansel", "GeForce Experience",
            "Second Life", "PlayStation", "Xbox", "Forza", "Nintendo Switch", "ReShade",
            "Unreal Engine",
        ),
    ),
    Rule(
        "render",
        _SOFTWARE,
        ("Blender", "V-Ray", "KeyShot", "Cinema 4D", "DAZ Studio", "POV-Ray", "Lumion", "Enscape"),
    ),
    Rule(
        "generator",
        _ANY,
        (
            "DALL-E", "Midjourney", "Stable Diffusion", "ComfyUI", "Adobe Firefly", "NovelAI",
            "Made with Google AI", "AUTOMATIC1111", "InvokeAI", "Fooocus", "DreamStudio",
            "Leonardo.Ai", "Ideogram", "Bing Image Creator", "ChatGPT", "OpenAI", "Craiyon",
            "NightCafe", "Artbreeder", "Playground AI", "Draw Things",
        ),
    ),
    Rule(
        "editor",
        _SOFTWARE,
        (
            # Adobe
            "Adobe Photoshop", "Adobe Lightroom", "Photoshop", "Lightroom", "Camera Raw",
            "Adobe Bridge", "Adobe ImageReady", "Adobe",
            # Free programs
            "GIMP", "darktable", "RawTherapee", "UFRaw", "dcraw", "LightZone", "Rawstudio",
            "digiKam", "Krita", "Inkscape", "gThumb", "Shotwell", "Hugin", "ImageMagick",
            "GraphicsMagick", "Paint.NET", "PhotoFiltre", "FFmpeg", "Lavc", "LibreOffice",
            # Viewers that save what they show
            "Picasa", "ACDSee", "FastStone", "IrfanView", "XnView", "Windows Photo Viewer",
            "Windows Photo Editor", "Photo Gallery", "Microsoft Windows Photo",
            "Microsoft Photo Editor", "Microsoft Office Picture Manager",
            "Microsoft Digital Image", "Microsoft Paint",
            # Commercial programs
            "Affinity", "Capture One", "DxO PhotoLab", "DxO Optics Pro", "DxO FilmPack",
            "DxO PureRAW", "DxO ViewPoint", "Luminar", "Skylum", "Aurora HDR", "ON1 Photo",
            "ON1 RAW", "ON1 Effects", "Corel", "PaintShop", "Paint Shop", "Ulead", "PhotoImpact",
            "AfterShot", "Bibble", "Photomatix", "HDR Efex", "Nik Collection", "Topaz Photo",
            "Topaz Labs", "Topaz DeNoise", "Topaz Sharpen", "Topaz Gigapixel", "Pixelmator",
            "PhotoScape", "Zoner", "ArcSoft PhotoStudio", "PTGui", "Autopano", "JPEGmini",
            "Iridient", "Photo Ninja", "PhotoDirector", "Apple Photos", "Procreate", "Clip Studio",
            # Camera makers' programs
            "ViewNX", "Capture NX", "NX Studio", "Nikon Editor", "Digital Photo Professional",
            "ZoomBrowser", "Silkypix", "Image Data Converter", "PlayMemories", "Imaging Edge",
            "OLYMPUS Master", "OLYMPUS Studio", "OLYMPUS Viewer", "OLYMPUS Workspace",
            "OM Workspace", "PENTAX PHOTO Laboratory", "Digital Camera Utility", "SIGMA Photo Pro",
            "Phocus", "RAW File Converter", "HS-V3",
            # Phones and the web
            "Snapseed", "Instagram", "VSCO", "VSCOcam", "PicsArt", "Snapchat", "Hipstamatic",
            "Retrica", "Polarr", "Fotor", "BeFunky", "Pixlr", "Canva", "Afterlight", "FaceApp",
            "Facetune", "Photo Editor", "PhotoGrid", "BeautyPlus", "Lensa", "Remini",
        ),
    ),
    Rule("editor", _SOFTWARE, ("Photos", "iPhoto", "Aperture", "Paint"), whole=True),
)  # fmt: skip
"""The names, kind by kind; the first that is found is given."""

_FILE_SOURCES: Final = {1: "film scanner", 2: "reflection print scanner"}


def not_a_camera(raw: RawExif) -> str | None:
    """Says why a file is not a photo as a camera wrote it, None if nothing tells so.

    It is one line for people, "Software: Adobe Photoshop" or the like, and has the rule's words,
    never the file's.
    """
    source = to_number(raw.get("FileSource"))
    if source in _FILE_SOURCES:
        return f"FileSource: {_FILE_SOURCES[int(source)]}"
    return next((found for rule in RULES if (found := rule.find(raw)) is not None), None)


def pixel_size_differs(raw: RawExif, width: int, height: int) -> bool:
    """Tells whether EXIF states another size than the image has: it was resized or cropped.

    Sides may be swapped, as programs that rotate a photo do not all change what EXIF states. False
    if EXIF states no size, or none that is plausible.
    """
    stated = [to_number(raw.get(field)) for field in ("PixelXDimension", "PixelYDimension")]
    sides = [side for side in stated if side is not None and 1 <= side <= MAX_SIDE]
    return len(sides) == 2 and sorted(sides) != sorted((width, height))
