import json
import time
import zlib

import pytest

from data_pipelines.evidence.generators import MARKS, generator_evidence
from data_pipelines.evidence.texts import Text
from tests.data_pipelines.evidence.crafted import (
    FORMATS,
    camera_photo,
    exif_of,
    file_of,
    jpeg_with,
    of_kind,
    png_with,
    text_png,
    the_only,
    user_comment,
    with_xmp,
    xmp_of,
)

WEB_UI = "AUTOMATIC1111's web UI or a tool that writes settings like it"
SETTINGS = (
    "a red fox in the snow, <lora:x:1>\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: v1-5"
)
GRAPH = json.dumps({"3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20}}})
WORKFLOW = json.dumps({"last_node_id": 9, "nodes": [{"id": 1, "type": "KSampler"}]})
JOB = "a fox --v 5.2 Job ID: 01234567-89ab-cdef-0123-456789abcdef"

PNG_TEXTS = [
    ("parameters", SETTINGS, WEB_UI),
    ("prompt", GRAPH, "ComfyUI"),
    ("workflow", WORKFLOW, "ComfyUI"),
    ("invokeai_metadata", '{"app_version": "4.2"}', "InvokeAI"),
    ("sd-metadata", '{"model": "stable diffusion"}', "InvokeAI"),
    ("Dream", '"a fox" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms', "InvokeAI"),
    ("Software", "NovelAI", "NovelAI"),
    ("Source", "NovelAI Diffusion V3 C1E1DE52", "NovelAI"),
    ("fooocus_scheme", "fooocus", "Fooocus"),
    ("parameters", SETTINGS + ", Version: Fooocus v2.5.5", "Fooocus"),
    ("parameters", '{"sui_image_params": {"prompt": "a fox"}}', "SwarmUI"),
    ("use_stable_diffusion_model", "sd-v1-5", "Easy Diffusion"),
    ("Description", JOB, "Midjourney"),
    ("Software", "ChatGPT", "ChatGPT"),
    ("AIGC", '{"Label":"1","ContentProducer":"x"}', "AIGC"),
]
EXIF_TEXTS = [
    ({0x9286: user_comment(SETTINGS)}, WEB_UI),
    ({0x010F: "workflow:" + WORKFLOW, 0x0110: "prompt:" + GRAPH}, "ComfyUI"),
    ({0x010E: "Workflow: " + WORKFLOW}, "ComfyUI"),
    ({0x0131: "AI generated;txt2img;flux", 0x010F: "Black Forest Labs"}, "FLUX"),
    ({0x0131: "Fooocus v2.5.5", 0x9286: user_comment("a fox")}, "Fooocus"),
    ({0x0131: "Adobe Firefly"}, "Adobe Firefly"),
    ({0x010E: JOB}, "Midjourney"),
    (
        {
            0x010E: "Signature: " + "aB3/" * 20 + "==",
            0x013B: "01234567-89ab-cdef-0123-456789abcdef",
        },
        "Grok",
    ),
]
XMP_TEXTS = [
    (xmp_of('photoshop:Credit="Made with Google AI"'), "Google AI"),
    (xmp_of('photoshop:Credit="Edited with Google AI"'), "Google AI"),
    (xmp_of('photoshop:Credit="Apple Photos Clean Up"'), "Apple Photos Clean Up"),
    (xmp_of('xmp:CreatorTool="Draw Things"'), "Draw Things"),
    (xmp_of(inside="<stEvt:softwareAgent>Adobe Firefly</stEvt:softwareAgent>"), "Adobe Firefly"),
    (xmp_of(inside="<Iptc4xmpExt:AISystemUsed>DALL-E 3</Iptc4xmpExt:AISystemUsed>"), "DALL-E"),
    (xmp_of('Iptc4xmpExt:AISystemUsed="A System Nobody Knows"'), "A System Nobody Knows"),
    (xmp_of("TC260:AIGC='{&quot;Label&quot;:&quot;1&quot;}'"), "AIGC"),
]


def check(item, tool):
    assert item.says == "generated"
    assert tool in item.details["tool"]
    assert tool in item.text
    assert len(item.details["quote"]) <= 200
    assert len(item.text) < 500
    assert item.text.isprintable()


@pytest.mark.parametrize(("key", "text", "tool"), PNG_TEXTS)
def test_texts_of_png_files(key, text, tool):
    check(the_only(text_png(key, text), "generator"), tool)


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt", b"iTXt compressed"])
def test_compressed_and_international_texts(name):
    text = SETTINGS.encode()
    if name == b"zTXt":
        body = b"parameters\0\0" + zlib.compress(text)
    elif name == b"iTXt":
        body = b"parameters\0\0\0en\0Parameter\0" + text
    else:
        body = b"parameters\0\1\0\0\0" + zlib.compress(text)
    check(the_only(png_with((name[:4], body)), "generator"), WEB_UI)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("fields", "tool"), EXIF_TEXTS)
def test_exif_texts_in_every_container(kind, fields, tool):
    data = file_of(kind, exif=exif_of(fields))
    found = of_kind(data, "generator")
    check(found[0], tool)
    assert len(found) == 1


def test_the_camera_directory_is_searched_too():
    data = file_of("JPEG", exif=exif_of({}, {0x9286: user_comment(SETTINGS)}))
    check(the_only(data, "generator"), WEB_UI)


@pytest.mark.parametrize("coding", [b"ASCII\0\0\0", bytes(8), b""])
def test_user_comments_in_other_codings(coding):
    data = file_of("WEBP", exif=exif_of({0x9286: coding + SETTINGS.encode()}))
    check(the_only(data, "generator"), WEB_UI)
    little = b"UNICODE\0" + SETTINGS.encode("utf-16-le")
    check(the_only(file_of("JPEG", exif=exif_of({0x9286: little})), "generator"), WEB_UI)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("packet", "tool"), XMP_TEXTS)
def test_xmp_in_every_container(kind, packet, tool):
    item = the_only(with_xmp(kind, packet), "generator")
    check(item, tool)
    assert item.details["partly"] == (tool.startswith("Apple") or b"Edited" in packet)


def test_jpeg_comments_and_iptc():
    check(the_only(jpeg_with((0xFE, SETTINGS.encode())), "generator"), WEB_UI)
    credit = b"Made with Google AI"
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x18\x1c\x02\x6e\0" + bytes([len(credit)])
    check(the_only(jpeg_with((0xED, iptc + credit)), "generator"), "Google AI")


def test_a_comment_of_a_gif():
    check(the_only(file_of("GIF", comment=SETTINGS.encode()), "generator"), WEB_UI)


def test_a_tool_is_named_once_and_several_tools_each():
    data = png_with(
        (b"tEXt", b"prompt\0" + GRAPH.encode()),
        (b"tEXt", b"workflow\0" + WORKFLOW.encode()),
        (b"tEXt", b"parameters\0" + SETTINGS.encode()),
    )
    assert [item.details["tool"] for item in of_kind(data, "generator")] == ["ComfyUI", WEB_UI]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("Software", "Adobe Photoshop 25.0"),
        ("Software", "Ver.1.00"),
        ("Comment", "Steps: three, then a door"),
        ("Description", "A job, ID: 12"),
        ("prompt", "what is your name?"),
        ("Title", "Sora at the airport"),
        ("Author", "Flux Capacitor"),
        ("Model", "Gemini 2"),
    ],
)
def test_other_texts_say_nothing(key, text):
    assert not of_kind(text_png(key, text), "generator")


def test_a_signature_without_the_number_of_an_artist_is_no_generators():
    fields = {0x010E: "Signature: " + "aB3/" * 20, 0x013B: "Jane Doe"}
    assert not of_kind(file_of("JPEG", exif=exif_of(fields)), "generator")


def test_a_camera_photo_names_no_generator():
    assert not of_kind(camera_photo(), "generator")


def test_quotes_have_no_control_characters():
    item = the_only(text_png("parameters", "\x1b]0;x\x07\r\n" + SETTINGS), "generator")
    assert item.text.isprintable()
    assert "<lora:x:1>" in item.text  # not escaped here


def test_every_mark_has_a_pattern_that_is_quick():
    start = time.monotonic()
    for filler in ("Steps: 1, A", "-s 1 -S ", "Job ID: 01234567-", '"Label" : ', " " * 9, "a" * 9):
        for mark in MARKS:
            generator_evidence([Text("EXIF", mark.keys[0], filler * (2**18 // len(filler)))])
    assert time.monotonic() - start < 20
