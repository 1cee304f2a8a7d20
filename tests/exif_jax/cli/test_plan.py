"""exif-jax plan, for CPUs: every number, and one message for what cannot be planned."""

import json

import pytest

from exif_jax.cli import __main__ as cli

TINY = [
    *("--config.model.width=4", "--config.model.stage_depths=(1,1,1)"),
    *("--config.model.mixer_blocks=1", "--config.model.mixer_hidden=8"),
    *("--config.objectives.tags=FNumber,Make", "--config.data.patches=2"),
]


def run(capsys, *arguments):
    """(exit status, standard output, standard error)."""
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_plan_has_every_number(capsys, records):
    status, out, _ = run(
        capsys,
        *("plan", "--config=pretext", "--topology=cpu:8", "--config.batch_size=16", "--json"),
        *(f"--config.data.photos={records}", "--config.data.threads=1", *TINY),
    )
    plan = json.loads(out)
    assert status == 0 and plan["fits"] and plan["devices"] == 8 and plan["batch_size"] == 16
    assert plan["assumptions"] == []
    for name in ("hbm_bytes", "peak_memory_bytes", "flops_per_device", "compile_seconds"):
        assert plan[name] > 0
    parts = plan["memory_bytes"]
    assert plan["peak_memory_bytes"] == sum(parts.values()) - 2 * parts["aliased"]
    # The state is replicated and donated; the batch is divided.
    assert parts["aliased"] > 0 and plan["bytes_accessed_per_device"] > parts["arguments"]
    kinds = {each["kind"]: each for each in plan["collectives"]}
    assert kinds["all-reduce"]["count"] >= 1 and kinds["all-reduce"]["bytes"] > 0
    assert plan["input_images_per_second_per_host"]["measured_here"] > 0
    assert set(plan["programs"]) == {"step", "encode", "mix"}
    assert plan["programs"]["encode"]["collectives"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=pretext"], "--topology must be given"),
        (["--config=pretext", "--topology=v7:3"], "no such topology"),
        (["--config=pretext", "--topology=cpu:8", "--batch=9"], "only auto"),
        (["--config=pretext", "--topology=cpu:8", "--config.batchsize=9"], "batch_size?"),
        (["--config=binary", "--topology=cpu:8", "--pretext=binary"], "--pretext"),
    ],
)
def test_mistakes_are_told_before_anything_is_compiled(capsys, words, message):
    status, out, err = run(capsys, "plan", *words)
    assert (status, out) == (2, "") and message in err and err.startswith("error: ")
