"""A plan as text for people."""

from typing import Any

_HEADINGS = (
    "program", "devices", "images", "peak GB", "TFLOP", "GB moved", "MB exchanged",
    "arithmetic ms", "memory ms", "exchange ms", "images/s at most", "compiled in s",
)  # fmt: skip


def as_text(plan: dict[str, Any]) -> str:
    """The lines of a plan from `make_plan`."""
    batch = "" if plan["batch_size"] is None else f", batch_size {plan['batch_size']}"
    lines = [
        f"{plan['stage']} on {plan['topology']}: {plan['devices']} devices of {plan['hosts']} hosts"
        f"{batch}; {plan['compiler']}",
        f"{plan['computed']}: bounds, not measurements",
        "",
        *_table(plan["programs"]),
        "",
        f"fits: {'yes' if plan['fits'] else 'NO'}, of {_gb(plan['hbm_bytes'])} GB a device",
    ]
    for name, row in plan["programs"].items():
        if "memory_bytes" in row:
            parts = (f"{part} {_gb(size)}" for part, size in row["memory_bytes"].items())
            lines.append(f"memory of {name}, GB: {', '.join(parts)}")
            exchanged = [
                f"{each['count']} {each['kind']} of {each['bytes'] / 1e6:.3f} MB in all"
                for each in row["collectives"]
            ]
            lines.append(f"collectives of {name}: {', '.join(exchanged) or 'none'}")
    lines += ["", *_rates(plan)]
    lines += [f"assumed: {assumption}" for assumption in plan["assumptions"]]
    if plan["chip"]:
        lines.append(f"figures of the chip: {plan['chip']['source']}")
    return "\n".join(lines)


def _rates(plan: dict[str, Any]) -> list[str]:
    if plan.get("bound_by") is None:
        return [f"bounds of time: none, the peaks of {plan['topology']} are not known"]
    rate, host = plan["images_per_second_at_most"], plan["images_per_second_per_host_at_most"]
    given = plan["input_images_per_second_per_host"]
    needed, here = given["needed"], given["measured_here"]
    wanted = "?" if needed is None else f"{needed:,.0f}"
    measured = "not measured (no data given)" if here is None else f"{here:,.0f} by one process"
    return [
        f"a step takes at least {plan['seconds_at_least'] * 1e3:.3f} ms, bound by "
        f"{plan['bound_by']}: at most {rate:,.0f} images/s, {host:,.0f} a host",
        f"input: each host must read up to {wanted} images/s; here: {measured}",
    ]


def _table(programs: dict[str, Any]) -> list[str]:
    rows = [list(_HEADINGS)]
    for name, row in programs.items():
        bounds = row.get("bounds_seconds", {})
        rate = row.get("images_per_second_at_most")
        exchanged = sum(each["bytes"] for each in row.get("collectives", ()))
        rows.append(
            [
                name,
                str(row["devices"]),
                str(row["images"]),
                _gb(row["peak_memory_bytes"]),
                _number(row.get("flops_per_device"), 1e12),
                _gb(row.get("bytes_accessed_per_device")),
                f"{exchanged / 1e6:.3f}" if "collectives" in row else "?",
                *(_number(bounds.get(k), 1e-3) for k in ("arithmetic", "memory", "interconnect")),
                "?" if rate is None else f"{rate:,.0f}",
                f"{row['compile_seconds']:.0f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.rjust, row, widths)) for row in rows]


def _gb(size: float | None) -> str:
    return _number(size, 1e9)


def _number(value: float | None, unit: float) -> str:
    return "?" if value is None else f"{value / unit:.3f}"
