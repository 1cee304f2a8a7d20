"""IPTC DigitalSourceType: the standard field for where a picture comes from.

The terms are those of the vocabulary at http://cv.iptc.org/newscodes/digitalsourcetype/, retired
ones too; C2PA manifests use the same.
"""

import re
from collections.abc import Iterable
from typing import Final

from data_pipelines.evidence.item import Claim, Evidence, quote
from data_pipelines.evidence.texts import Text

TERMS: Final[dict[str, tuple[Claim, str]]] = {
    "trainedAlgorithmicMedia": ("generated", "created by generative AI"),
    "compositeWithTrainedAlgorithmicMedia": ("generated", "parts of it made by generative AI"),
    "compositeSynthetic": ("generated", "composed of pieces, some of them synthetic"),
    "algorithmicMedia": ("generated", "made by an algorithm that learned from no pictures"),
    "digitalCapture": ("photo", "captured from real life by a digital camera"),
    "computationalCapture": ("photo", "computed from several exposures of real life"),
    "compositeCapture": ("photo", "composed of pieces that are all captured from real life"),
    "negativeFilm": ("photo", "digitised from a negative on film"),
    "positiveFilm": ("photo", "digitised from a positive on film"),
    "print": ("nothing", "digitised from a print"),
    "screenCapture": ("nothing", "a picture of a screen"),
    "virtualRecording": ("nothing", "a recording of a virtual event"),
    "humanEdits": ("nothing", "edited by people with tools that do not generate"),
    "minorHumanEdits": ("nothing", "slightly edited by people"),
    "algorithmicallyEnhanced": ("nothing", "enhanced by an algorithm"),
    "composite": ("nothing", "composed of several pieces"),
    "digitalCreation": ("nothing", "created by a person with digital tools"),
    "digitalArt": ("nothing", "created by a person with digital tools"),
    "dataDrivenMedia": ("nothing", "drawn from data"),
    "softwareImage": ("nothing", "created by software"),
}
"""Term -> what it claims, and its meaning."""

_KEYS: Final = ("DigitalSourceType", "DigitalSourceFileType")
# A web address, a short form of one, or the term alone.
_TERM: Final = re.compile(r"(?:\A|[/:#])([A-Za-z]{1,64})/?\s*\Z")


def term_of(value: str) -> str:
    """Returns the term in a value, "" if there is none."""
    match = _TERM.search(value[-256:])
    return match[1] if match else ""


def meaning_of(term: str) -> tuple[Claim, str]:
    """Returns what a term claims, and its meaning; of unknown ones nothing."""
    return TERMS.get(term, ("nothing", "a term outside the vocabulary"))


def source_type_evidence(texts: Iterable[Text]) -> list[Evidence]:
    """Returns one piece of evidence for each different value of the field."""
    found: dict[str, Evidence] = {}
    for text in texts:
        if text.key not in _KEYS or text.where != "XMP":
            continue
        term = term_of(text.text) or quote(text.text, 64)
        claim, meaning = meaning_of(term)
        sentence = f"The IPTC field DigitalSourceType says {term}: {meaning}."
        found.setdefault(term, Evidence("digital_source_type", claim, sentence, {"value": term}))
    return list(found.values())[:8]
