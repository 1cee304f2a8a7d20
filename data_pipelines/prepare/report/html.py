"""HTML for the report page: elements that escape by construction, numbers, the page's frame."""

import html
from collections.abc import Sequence
from typing import Final


class Html(str):
    """Text that is markup already; every other text is escaped when it gets into an element."""


_VOID: Final = {"meta", "rect", "line", "wbr"}
"""Elements that close themselves."""


def printable(text: str) -> str:
    """Returns a text in which control, direction and other invisible characters are spelled out.

    Names of files and cameras come from anyone: they must not steer a terminal or a browser.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def el(name: str, *children: object, **attributes: object) -> Html:
    """Returns an element.

    Args:
      name: Of the element.
      *children: Markup as it is, other things as escaped text; None and "" are left out.
      **attributes: "class_" is "class", "aria_label" is "aria-label"; None is left out.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{words}/>")
    return Html(f"<{name}{words}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Returns markup of several things one after the other, see `el`."""
    return Html(
        "".join(
            child if isinstance(child, Html) else html.escape(printable(str(child)))
            for child in children
            if child is not None
        )
    )


def number(value: int) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,}"


def amount(value: int, word: str) -> str:
    """2, "photo" -> "2 photos"; 1, "photo" -> "1 photo"."""
    return f"{value:,} {word if value == 1 else f'{word}s'}"


def percent(part: float, whole: float) -> str:
    """Returns a percentage that is 0% or 100% only if it is exactly that."""
    if not whole:
        return "-"
    fraction = part / whole
    if 0 < fraction < 0.001:
        return "<0.1%"
    if 0.999 < fraction < 1:
        return ">99.9%"
    return f"{fraction:.0%}" if fraction in (0, 1) else f"{fraction:.1%}"


def table(head: tuple[str, ...], rows: Sequence[tuple[object, ...]], label: str) -> Html:
    """Returns a table; the first cell of each row is its heading.

    Args:
      head: Headings of the columns.
      rows: Cells; texts that start like a number are aligned to the right.
      label: Read to those who do not see the table.
    """
    numeric = [False, *map(_is_number, rows[0][1:])] if rows else [False] * len(head)
    headings = (
        el("th", text, scope="col", class_="n" if n else None)
        for text, n in zip(head, numeric, strict=True)
    )
    body = (
        el(
            "tr",
            el("th", row[0], scope="row"),
            *(el("td", cell, class_="n" if _is_number(cell) else None) for cell in row[1:]),
        )
        for row in rows
    )
    header = el("thead", el("tr", *headings))
    return el("table", header, el("tbody", *body), aria_label=label)


def _is_number(cell: object) -> bool:
    return not isinstance(cell, Html) and str(cell)[:1] in set("0123456789<>-")


def breakable(name: str) -> Html:
    """Returns a name that may go on in the next line after an underscore."""
    first, *others = name.split("_")
    return join(first, *(join("_", el("wbr"), part) for part in others))


def with_code(text: str) -> Html:
    """Returns a text whose parts between backticks are shown as code."""
    parts = text.split("`")
    return join(*(el("code", part) if i % 2 else part for i, part in enumerate(parts)))


def details(summary: str, body: Html, wanted: bool) -> Html | None:
    """Returns a part that opens on a click, None if it is not wanted."""
    return el("details", el("summary", summary), body) if wanted else None


def page(title: str, body: Html) -> str:
    """Returns a whole page that loads nothing and runs nothing."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        # A second lock, should a hostile name ever get through the escaping.
        el(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        el("meta", name_="color-scheme", content="light dark"),
        el("title", title),
        el("style", Html(STYLE)),
    )
    return f"<!DOCTYPE html>\n{el('html', head, el('body', body), lang='en')}\n"


STYLE: Final = """
:root{--bg:#fff;--card:#f6f7f9;--ink:#1b2430;--soft:#566272;--rule:#d8dde4;--bar:#0072B2;
--bar2:#0e8f6d;--bad:#c65a00;--grey:#8a94a1;--track:#e4e8ed;--on:#fff;--warn:#fff4e2}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b212a;--ink:#e8ecf1;--soft:#a5b0bd;
--rule:#364150;--bar:#56B4E9;--bar2:#2fbf95;--bad:#f0a03c;--grey:#7f8a97;--track:#2b3440;
--on:#0b1016;--warn:#33281a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);overflow-wrap:anywhere;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 6px}
h2{font-size:1.35rem;margin:0 0 6px}
h3{font-size:1.05rem;margin:0 0 2px}
table+h3{margin-top:18px}table+p{margin-top:10px}
p{margin:0 0 12px;max-width:75ch}
section{padding:26px 0 4px}
.soft{color:var(--soft)}
.small{font-size:.88rem}
a{color:var(--bar)}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;padding:12px 0;border-bottom:1px solid var(--rule)}
code{font:.92em ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px;
min-width:0;break-inside:avoid}
.card>:last-child{margin-bottom:0}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));
align-items:start}
.equation{display:flex;flex-wrap:wrap;align-items:baseline;gap:4px 16px;margin-bottom:10px}
.equation b{font-size:1.8rem;font-variant-numeric:tabular-nums}
.equation i{font-style:normal;font-size:1.5rem;color:var(--soft)}
.tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));
margin-top:16px}
.tiles div{padding:12px 14px}
.tiles b{display:block;font-size:1.5rem;font-variant-numeric:tabular-nums}
.stack{display:flex;gap:2px;height:26px;border-radius:6px;overflow:hidden;background:var(--track)}
.stack span{min-width:2px}
.key{display:flex;flex-wrap:wrap;gap:4px 18px;margin:6px 0 12px;font-size:.88rem}
.key i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px}
.c0{background:var(--bar)}.c1{background:var(--bad)}.c2{background:var(--bar2)}
ul{margin:0 0 12px;padding-left:1.2em;max-width:80ch}
li{margin-bottom:6px}
.warnings{list-style:none;padding:0;max-width:none}
.warnings li{background:var(--warn);border-left:5px solid var(--bad);border-radius:4px;
padding:8px 12px}
.ok,.bad{font-weight:600}
.ok{color:var(--bar2)}.bad{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:.94rem}
th,td{text-align:left;padding:5px 8px;border-bottom:1px solid var(--rule);vertical-align:top;
font-weight:400}
tr:last-child>*{border-bottom:0}
thead th{color:var(--soft);font-size:.85rem;border-bottom-color:var(--grey)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bars{list-style:none;margin:6px 0 0;padding:0;max-width:none;font-size:.94rem}
.bars li{display:grid;grid-template-columns:1fr auto 3.9rem;align-items:center;margin:0;
padding:3px 0;column-gap:10px}
.bars .n{text-align:right;font-variant-numeric:tabular-nums}
.bars .track{order:1;grid-column:1/-1;margin-top:2px}
@media (min-width:621px){.wide li{grid-template-columns:21rem 1fr 6rem 4.4rem}
.wide .track{order:0;grid-column:auto}}
.track>div{height:10px;border-radius:3px;background:var(--track);overflow:hidden}
.track>div>div{height:100%;background:var(--bar);border-radius:3px}
.track .rest>div{background:var(--grey)}
.track .reject>div{background:var(--bad)}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(66px,1fr));gap:4px 8px;
margin:8px 0}
.facts div{font-size:.94rem;font-variant-numeric:tabular-nums}
.facts span{display:block;color:var(--soft);font-size:.78rem}
svg{display:block;width:100%;height:auto;margin-top:6px}
svg text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
svg .hist{fill:var(--bar)}
svg line{stroke:var(--rule)}
svg .axis{stroke:var(--grey)}
svg .box{fill:var(--bar2);opacity:.45}
svg .whisker{stroke:var(--bar2);stroke-width:2}
svg .median{stroke:var(--ink);stroke-width:3}
details{margin-top:8px}
summary{cursor:pointer;color:var(--bar)}
.map{position:relative;width:100%;margin:10px 0}
.tall{display:none}
.map>div,.map>div>div{position:absolute}
.map>div{border:1px solid var(--bg)}
.map>div>b{position:absolute;inset:0 0 auto;height:20px;line-height:20px;padding:0 5px;z-index:1;
font-size:13px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.map .cells{inset:0;background:var(--bar)}
.map .cell{position:absolute;border:1px solid var(--bg);background:var(--bar);color:var(--on);
container-type:size;overflow:hidden}
.map .cell span{display:block;padding:2px 5px;font-size:12px;line-height:1.25}
@container (max-width:52px) or (max-height:30px){.map .cell span{display:none}}
.reason{display:grid;gap:4px 20px;grid-template-columns:minmax(0,1fr) minmax(0,1fr);
margin-bottom:12px}
.reason h3,.reason .track,.reason details{grid-column:1/-1}
.examples{list-style:none;padding:0;margin:4px 0 0;font-size:.85rem;max-width:none}
footer{margin-top:30px;padding:16px 20px 40px;color:var(--soft);font-size:.88rem}
footer>p{border-top:1px solid var(--rule);padding-top:14px}
@media (max-width:620px){main,header,footer{padding-left:14px;padding-right:14px}
h1{font-size:1.5rem}.equation b{font-size:1.4rem}.tall{display:block}.reason{display:block}
.hide,.landscape{display:none}th,td{padding:4px 5px}}
@media print{body{font-size:11pt}nav,summary{display:none}
.card,.stack,.track>div,.map *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
h2,h3{break-after:avoid}details::details-content{display:block;content-visibility:visible}}
"""
