"""Texts by which image generators name themselves, or leave their settings.

The table holds what the programs' own code writes or what several readers of such files agree on.
Texts are searched with patterns whose time grows with the length alone; JSON is not parsed, so its
depth does not matter. A text that only speaks of a generator ("not made with Midjourney") is not
told from one that names it: this is evidence, not proof.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Final

from data_pipelines.evidence.item import Evidence, quote
from data_pipelines.evidence.texts import Text
from data_pipelines.prepare.not_cameras import RULES, Rule

MAX_EVIDENCE: Final = 8
"""Different tools of one file that are listed."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """How a tool is told.

    Attributes:
        tool: its name, for people.
        keys: names of the fields that are searched, in lower case.
        pattern: what is searched for; empty where the field itself tells.
        partly: whether the tool changes parts of a picture.
    """

    tool: str
    keys: tuple[str, ...]
    pattern: str = ""
    partly: bool = False

    def found_in(self, text: Text) -> bool:
        """Whether a text bears this mark."""
        return text.key.lower() in self.keys and bool(re.search(self.pattern, text.text))


# Where settings go: PNG text, else EXIF, in whatever field the writer knew.
_SETTINGS: Final = (
    *("parameters", "postprocessing", "extras", "comment", "usercomment"),
    *("description", "imagedescription"),
)
_GRAPHS: Final = ("prompt", "workflow", "make", "model", "usercomment", "imagedescription")
_NAMES: Final = (
    *("software", "creatortool", "softwareagent", "aisystemused", "source", "creator", "author"),
    *("artist", "credit", "title", "make", "model"),
)
_CREDIT: Final = ("credit",)
_NUMBER: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

MARKS: Final = (
    Mark("Fooocus", ("fooocus_scheme",)),
    Mark("Fooocus", (*_SETTINGS, "software"), r"\bFooocus v\d|\"metadata_scheme\": ?\"fooocus\""),
    Mark("SwarmUI", _SETTINGS, r'"sui_image_params"'),
    Mark("InvokeAI", ("invokeai_metadata", "invokeai_graph", "invokeai_workflow", "sd-metadata")),
    Mark("InvokeAI", ("dream",), r"-s ?\d+ .{0,200}-S ?\d+"),
    Mark("Easy Diffusion", ("use_stable_diffusion_model", "stable diffusion model")),
    Mark("Easy Diffusion", _SETTINGS, r'"(?:use_stable_diffusion_model|Stable Diffusion model)"'),
    Mark("ComfyUI", _GRAPHS, r'"class_type"\s?:|"last_node_id"\s?:'),
    Mark("ComfyUI", ("make", "model"), r"\A(?:workflow|prompt):\s?\{"),
    Mark("NovelAI", ("software", "source", "title"), r"\bNovelAI\b"),
    Mark("Draw Things", ("creatortool", "software"), r"\ADraw Things\b"),
    # Steps come first in this line, and a comma and another setting after them.
    Mark(
        "AUTOMATIC1111's web UI or a tool that writes settings like it",
        _SETTINGS,
        r"\bSteps: \d{1,6}, [A-Z][\w ]{1,30}: ",
    ),
    Mark("Midjourney", ("description", "imagedescription"), rf"\bJob ID: ?{_NUMBER}"),
    Mark("FLUX", ("software",), r"\AAI generated;.{0,40}\bflux\b"),
    Mark("FLUX", ("make",), r"\ABlack Forest Labs\b"),
    Mark("Google AI", _CREDIT, r"\bMade with Google AI\b|\bAI-Generated with Google\b"),
    Mark("Google AI", _CREDIT, r"\bEdited with Google AI\b", partly=True),
    Mark("Apple Photos Clean Up", _CREDIT, r"\bApple Photos Clean Up\b", partly=True),
    # The Chinese standard GB 45438 labels what services generate; 2 and 3 mean "perhaps".
    Mark(
        "a label of the Chinese standard for generated content (AIGC)",
        ("aigc", *_SETTINGS),
        r'"?Label"?\s?:\s?"?1\b',
    ),
)  # fmt: skip

# Product names that stand alone. The first rule's are those that photos are refused by.
_NAMED: Final = (
    *(rule for rule in RULES if rule.kind == "generator"),
    Rule(
        "generator",
        ("Software",),
        (
            "GPT-4o", "gpt-image", "Sora", "Google Imagen", "Imagen 3", "Imagen 4", "Gemini",
            "FLUX.1", "FLUX.2", "Black Forest Labs", "Grok", "xAI", "Stability AI",
            "Stable Image", "SwarmUI", "Easy Diffusion", "Bria AI", "fal-ai", "Microsoft Designer",
        ),
    ),
)  # fmt: skip
# The fields that hold a program's name; there a common word is one.
_PRODUCT_KEYS: Final = ("software", "creatortool", "softwareagent", "aisystemused")

# Grok signs its files: a signature, and a number for an artist. Either alone is common.
_SIGNATURE: Final = re.compile(r"\ASignature:\s?[A-Za-z0-9+/=]{64,}")
_UUID: Final = re.compile(rf"\A{_NUMBER}\Z", re.IGNORECASE)


def generator_evidence(texts: Iterable[Text]) -> list[Evidence]:
    """Returns one piece of evidence for each tool that the texts name."""
    found: dict[str, Evidence] = {}
    for tool, text, partly in _found(list(texts)):
        if tool not in found and len(found) < MAX_EVIDENCE:
            found[tool] = _evidence(tool, text, partly)
    return list(found.values())


def _evidence(tool: str, text: Text, partly: bool) -> Evidence:
    shown = quote(text.text)
    claim = "says that parts of the picture were changed by" if partly else "names"
    return Evidence(
        "generator",
        "generated",
        f"{text.where} ({quote(text.key, 64)}) {claim} {tool}" + (f": “{shown}”" if shown else "."),
        {
            "tool": tool,
            "where": text.where,
            "field": quote(text.key, 64),
            "quote": shown,
            "partly": partly,
        },
    )


def _found(texts: list[Text]) -> Iterator[tuple[str, Text, bool]]:
    known = set()
    for text in texts:
        mark = next((mark for mark in MARKS if mark.found_in(text)), None)
        if mark is not None:
            known.add(text)
            yield mark.tool, text, mark.partly
    for text in texts:
        if text not in known and (name := _product(text)):
            yield name, text, False
    artists = [text for text in texts if text.key == "Artist" and _UUID.match(text.text.strip())]
    for text in texts:
        if artists and text.key == "ImageDescription" and _SIGNATURE.match(text.text):
            yield "Grok (xAI), by its kind of signature", text, False


def _product(text: Text) -> str | None:
    """Returns the generator that a text names as the program that wrote the file."""
    key = text.key.lower()
    if key not in _NAMES:
        return None
    rules = _NAMED if key in _PRODUCT_KEYS else _NAMED[:-1]
    found = (rule.find({"Software": text.text}) for rule in rules)
    other = quote(text.text, 64) if key == "aisystemused" else None  # nothing else has this field
    return next((name.partition(": ")[2] for name in found if name), other)
