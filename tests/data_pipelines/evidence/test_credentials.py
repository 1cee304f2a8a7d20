import datetime
import http.server
import io
import struct
import sys
import threading

import pytest

from data_pipelines.evidence import credentials
from tests.data_pipelines.evidence.crafted import (
    FORMATS,
    file_of,
    jumbf,
    of_kind,
    the_only,
    with_manifest,
    with_xmp,
    xmp_of,
)

ADDRESS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MIME = {name: f"image/{name.lower()}" for name in FORMATS}


@pytest.fixture
def without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "c2pa", None)
    credentials._library.cache_clear()
    yield
    credentials._library.cache_clear()


@pytest.fixture
def c2pa():
    return pytest.importorskip("c2pa", reason="the optional package c2pa-python is absent")


@pytest.mark.parametrize("kind", FORMATS)
def test_without_the_library_a_manifest_is_only_found(without_the_library, kind):
    store = jumbf(inside=ADDRESS.encode() + b"trainedAlgorithmicMedia\0")
    item = the_only(with_manifest(kind, store), "c2pa")
    assert item.says == "nothing"
    assert "is present and mentions the source type trainedAlgorithmicMedia" in item.text
    assert item.details == {
        "manifest_bytes": len(store),
        "verified": False,
        "source_types": ["trainedAlgorithmicMedia"],
    }


@pytest.mark.parametrize("kind", FORMATS)
def test_no_manifest_is_no_evidence(kind):
    assert not of_kind(file_of(kind), "c2pa")


def test_a_manifest_elsewhere_is_not_fetched():
    packet = xmp_of('dcterms:provenance="https://example.com/manifest"')
    item = the_only(with_xmp("JPEG", packet), "c2pa")
    assert (item.says, item.details) == ("nothing", {"address": "https://example.com/manifest"})
    assert "not fetched" in item.text


def test_a_huge_manifest_is_not_read():
    item = the_only(with_manifest("PNG", jumbf(2**25)), "c2pa")
    assert "too large to be read" in item.text


@pytest.mark.parametrize("kind", FORMATS)
def test_a_malformed_manifest_is_said(c2pa, kind):
    item = the_only(with_manifest(kind, jumbf()), "c2pa")
    assert item.says == "nothing"
    assert "could not be read" in item.text


def box(name, body):
    return struct.pack(">L", 8 + len(body)) + name + body


def super_box(kind, label, *boxes):
    uuid = kind + bytes.fromhex("00110010800000aa00389b71")
    return box(b"jumb", box(b"jumd", uuid + b"\x03" + label + b"\0") + b"".join(boxes))


@pytest.mark.parametrize("claim", [b"\x81", b"\xa1\x61a", b"\xc6", b"\x9f", b"\x5b\0\0\0\x7f"])
def test_deep_and_endless_claims_are_bounded(c2pa, claim):
    assertion = super_box(b"json", b"x", box(b"json", b"[" * 500_000))
    store = super_box(
        b"c2pa",
        b"c2pa",
        super_box(
            b"c2ma",
            b"urn:uuid:1",
            super_box(b"c2as", b"c2pa.assertions", assertion),
            super_box(b"c2cl", b"c2pa.claim", box(b"cbor", claim * 500_000)),
            super_box(b"c2cs", b"c2pa.signature", box(b"cbor", b"\xd2\x84\x40\xa0\x40\x40")),
        ),
    )
    assert "could not be read" in the_only(with_manifest("PNG", store), "c2pa").text


@pytest.fixture(scope="module")
def signer():
    """A certificate made here, and a function that signs with it."""
    c2pa = pytest.importorskip("c2pa", reason="the optional package c2pa-python is absent")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.COMMON_NAME, name),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Home Made"),
            ]
        )
        for name in ("authority", "signer")
    ]
    certificates = []
    for i, (key, name) in enumerate(zip(keys, names, strict=True)):
        flags = [i == 1, *[False] * 4, i == 0, i == 0, False, False]
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(i + 1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(i == 0, None), True)
            .add_extension(x509.KeyUsage(*flags), True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if i:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(usage, False)
        certificates.append(builder.sign(keys[0], hashes.SHA256()))
    pem = serialization.Encoding.PEM
    chain = b"".join(certificate.public_bytes(pem) for certificate in reversed(certificates))
    private = keys[1].private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = c2pa.Context.from_dict(
        {
            "verify": {"verify_trust": False, "remote_manifest_fetch": False},
            "builder": {"thumbnail": {"enabled": False}},
        }
    )

    def sign(kind, actions, *, parent=None, remote=None):
        info = c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=private, ta_url=None)
        manifest = {
            "claim_generator_info": [{"name": "Test\x1bTool", "version": "1.0"}],
            "format": MIME[kind],
            "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
        }
        builder = c2pa.Builder(manifest, context=context)
        if parent is not None:
            ingredient = {"title": "before", "relationship": "parentOf", "label": "before"}
            builder.add_ingredient(ingredient, MIME[kind], io.BytesIO(parent))
        if remote is not None:
            builder.set_remote_url(remote)
        signed = io.BytesIO()
        source = file_of(kind) if parent is None else parent
        builder.sign(c2pa.Signer.from_info(info), MIME[kind], io.BytesIO(source), signed)
        return signed.getvalue()

    return sign


def created(term):
    return [{"action": "c2pa.created", "digitalSourceType": ADDRESS + term}]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_signed_manifest_is_verified(signer, kind):
    data = signer(kind, created("trainedAlgorithmicMedia"))
    item = the_only(data, "c2pa")
    assert item.says == "generated"
    assert item.details["verified"] is True
    assert item.details["validation_state"] == "Valid"
    assert item.details["generator"] == "Test Tool 1.0"
    assert item.details["signer"] == "Home Made"
    assert item.details["source_types"] == ["trainedAlgorithmicMedia"]
    assert "(who that is was not checked)" in item.text
    assert item.text.isprintable()


def test_a_captured_photo_says_photo(signer):
    assert the_only(signer("JPEG", created("digitalCapture")), "c2pa").says == "photo"


def test_changed_pixels_take_the_claim_away(signer):
    data = bytearray(signer("PNG", created("trainedAlgorithmicMedia")))
    data[-30] ^= 1
    item = the_only(bytes(data), "c2pa")
    assert item.says == "nothing"
    assert item.details["validation_state"] == "Invalid"
    assert item.details["failures"] == ["assertion.dataHash.mismatch"]
    assert "does not verify (assertion.dataHash.mismatch)" in item.text


def test_the_history_of_a_picture_counts(signer):
    photo = signer("JPEG", created("digitalCapture"))
    edit = [
        {"action": "c2pa.opened", "parameters": {"ingredientIds": ["before"]}},
        {
            "action": "c2pa.edited",
            "digitalSourceType": ADDRESS + "compositeWithTrainedAlgorithmicMedia",
        },
    ]
    item = the_only(signer("JPEG", edit, parent=photo), "c2pa")
    assert item.says == "generated"
    assert item.details["source_types"] == [
        "compositeWithTrainedAlgorithmicMedia",
        "digitalCapture",
    ]
    generated = signer("JPEG", created("trainedAlgorithmicMedia"))
    opened = signer("JPEG", edit[:1], parent=generated)
    assert the_only(opened, "c2pa").says == "generated"


def test_nothing_is_asked_of_the_network(signer):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            remote = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
            data = signer("JPEG", created("trainedAlgorithmicMedia"), remote=remote)
            assert the_only(data, "c2pa").details["verified"] is True
            packet = xmp_of(f'dcterms:provenance="{remote}"')
            assert "not fetched" in the_only(with_xmp("JPEG", packet), "c2pa").text
        finally:
            server.shutdown()
            thread.join()
    assert not asked
