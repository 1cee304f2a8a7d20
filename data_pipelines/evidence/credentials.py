"""C2PA manifests ("content credentials"): whether there is one, and what it says if it is intact.

c2pa-python (the extra `c2pa`) checks that neither manifest nor pixels changed since they were
signed. Who signed is not checked: that needs lists of trusted certificates, and so the network,
which is off in every form. Anyone can sign with a certificate made at home.
"""

import functools
import importlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from data_pipelines.evidence.embedded import MAX_MANIFEST, Embedded
from data_pipelines.evidence.item import Claim, Evidence, quote
from data_pipelines.evidence.source_type import meaning_of, term_of
from data_pipelines.evidence.texts import Text

_KIND: Final = "c2pa"
_SETTINGS: Final = {
    "version": 1,
    "verify": {
        "verify_trust": False,
        "verify_timestamp_trust": False,
        "ocsp_fetch": False,
        "remote_manifest_fetch": False,
    },
    "core": {
        "allowed_network_hosts": [],  # none, whatever else would ask for one
        "allow_redirects": False,
        "decode_identity_assertions": False,  # they may name a host to ask
        "max_decompressed_manifest_size_in_mb": 32,
    },
}
_FORMATS: Final = {"JPEG": "image/jpeg", "PNG": "image/png", "WebP": "image/webp"}
_MAX_PARENTS: Final = 8
_MAX_LISTED: Final = 8
_TERMS: Final = re.compile(rb"digitalsourcetype/([A-Za-z]{1,64})")


def c2pa_evidence(data: bytes, embedded: Embedded) -> list[Evidence]:
    """Returns one piece of evidence if the file has a manifest or names one elsewhere, else none.

    Args:
        data: the file.
        embedded: what `read_embedded` found in it.
    """
    if not embedded.manifest:
        return _elsewhere(embedded.texts)
    details: dict[str, Any] = {"manifest_bytes": embedded.manifest_bytes, "verified": False}
    if embedded.manifest_bytes > MAX_MANIFEST:
        text = f"A C2PA manifest of {embedded.manifest_bytes:,} bytes: too large to be read."
        return [Evidence(_KIND, "nothing", text, details)]
    library = _library()
    if library is None:
        return [_unverified(embedded, details)]
    try:
        store = _verified(library, data, embedded.container)
    except Exception as error:  # the library's own, and whatever its answer makes json raise
        reason = quote(str(error)) or type(error).__name__
        text = f"A C2PA manifest that could not be read: {reason}."
        return [Evidence(_KIND, "nothing", text, details)]
    return [_described(store, details | {"verified": True})]


def _elsewhere(texts: Iterable[Text]) -> list[Evidence]:
    """A manifest that is kept on a server."""
    for text in texts:
        if text.where == "XMP" and text.key == "provenance" and text.text.startswith("http"):
            sentence = "The file has no C2PA manifest, but names an address of one (not fetched)."
            return [Evidence(_KIND, "nothing", sentence, {"address": quote(text.text)})]
    return []


def _unverified(embedded: Embedded, details: dict[str, Any]) -> Evidence:
    found = dict.fromkeys(term.decode() for term in _TERMS.findall(embedded.manifest))
    terms = list(found)[:_MAX_LISTED]
    text = "A C2PA manifest (content credentials) is present"
    if terms:
        text += f" and mentions the source type {', '.join(terms)}"
    text += "; it was not verified (pip install 'exif-jax[c2pa]')."
    return Evidence(_KIND, "nothing", text, details | {"source_types": terms})


@functools.cache
def _library() -> Any:
    """Returns the module c2pa and the settings to read with, None without the package."""
    try:
        module = importlib.import_module("c2pa")
        return module, module.Context.from_dict(_SETTINGS)
    except Exception:  # also a shared library that does not fit the system
        return None


def _verified(library: Any, data: bytes, container: str) -> dict[str, Any]:
    module, context = library
    with module.Reader(_FORMATS.get(container), io.BytesIO(data), context=context) as reader:
        store = json.loads(reader.json())
    if not isinstance(store, dict):
        raise TypeError("the answer of the C2PA library is no object")
    return store


def _described(store: Mapping[str, Any], details: dict[str, Any]) -> Evidence:
    state = str(store.get("validation_state", ""))
    intact = state in ("Valid", "Trusted")
    manifests = list(_with_parents(store))
    active = manifests[0] if manifests else {}
    generator, signer = _generator_of(active), _text(_get(active, "signature_info"), "issuer")
    terms = list(dict.fromkeys(term for manifest in manifests for term in _terms_of(manifest)))
    terms = terms[:_MAX_LISTED]
    failures = list(_failures(store))[:_MAX_LISTED]
    text = "A C2PA manifest (content credentials)" + (f" by {generator}" if generator else "")
    if intact:
        text += ", unchanged since it was signed"
        text += f" in the name of {signer} (who that is was not checked)" if signer else ""
        said = "; ".join(f"{term}: {meaning_of(term)[1]}" for term in terms)
        text += f", says {said}." if said else ", says nothing of the picture's source."
    else:
        reasons = ", ".join(failures) or "no reason given"
        text += f" that does not verify ({reasons}), so what it says does not count."
    details |= {
        "validation_state": quote(state, 32),
        "generator": generator,
        "signer": signer,
        "source_types": terms,
        "failures": failures,
    }
    return Evidence(_KIND, _claim_of(terms) if intact else "nothing", text, details)


def _claim_of(terms: Iterable[str]) -> Claim:
    """What a picture's history claims: one generated step makes all of it generated."""
    claims = {meaning_of(term)[0] for term in terms}
    return "generated" if "generated" in claims else "photo" if "photo" in claims else "nothing"


def _with_parents(store: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the active manifest and those of the pictures that it was made from, at most some."""
    manifests, label = _get(store, "manifests"), store.get("active_manifest")
    for _ in range(_MAX_PARENTS):
        manifest = manifests.get(label) if isinstance(label, str) else None
        if not isinstance(manifest, dict):
            return
        yield manifest
        parents = [
            item
            for item in _list(manifest, "ingredients")
            if isinstance(item, dict) and item.get("relationship") == "parentOf"
        ]
        label = parents[0].get("active_manifest") if parents else None


def _terms_of(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yields the source types that the actions of a manifest state."""
    for assertion in _list(manifest, "assertions"):
        if not isinstance(assertion, dict) or "c2pa.actions" not in str(assertion.get("label")):
            continue
        for action in _list(_get(assertion, "data"), "actions"):
            value = action.get("digitalSourceType") if isinstance(action, dict) else None
            if isinstance(value, str) and (term := term_of(value)):
                yield term


def _generator_of(manifest: Mapping[str, Any]) -> str:
    info = next((i for i in _list(manifest, "claim_generator_info") if isinstance(i, dict)), {})
    name = " ".join(filter(None, (_text(info, "name"), _text(info, "version"))))
    return name or _text(manifest, "claim_generator")


def _failures(store: Mapping[str, Any]) -> Iterator[str]:
    active = _get(_get(store, "validation_results"), "activeManifest")
    for failure in _list(active, "failure"):
        if isinstance(failure, dict):
            yield _text(failure, "code")


def _get(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return quote(found, 64) if isinstance(found, str) else ""
