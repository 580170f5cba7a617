"""One HTML page without any other file: elements whose text is always escaped, pictures inside, light and dark."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image

from spml.visualize.figures import resize

LONGEST = 240  # side of a picture in a page, in pixels
QUALITY = 80  # of a JPEG
VOID = ("img", "meta", "wbr")  # elements without an end tag
STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2126; --soft: #5d6670; --line: #d6dbe0; --row: #f4f6f8;
  --good: 37, 99, 235; --bad: 220, 60, 40; }
@media (prefers-color-scheme: dark) { :root { --paper: #16191d; --ink: #e7eaee; --soft: #9aa4af; --line: #363d45;
  --row: #1f242a; --good: 96, 150, 255; --bad: 255, 110, 90; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p, .note { max-width: 75ch; overflow-wrap: anywhere; } .note { color: var(--soft); font-size: .9rem; }
code { font-size: .85em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } thead th { vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
td.text, th.text { text-align: left; }
td small { color: var(--soft); display: block; white-space: normal; max-width: 19rem; }
.matrix td { text-align: center; padding: .2rem; min-width: 2.1rem; border: 1px solid var(--line); }
.matrix td:first-child { text-align: left; padding: .2rem .5rem; }
.matrix thead th { white-space: nowrap; writing-mode: vertical-rl; transform: rotate(180deg); text-align: left;
  padding: .4rem .2rem; }
.matrix thead th:first-child { writing-mode: horizontal-tb; transform: none; }
figure { margin: 0; } figcaption { font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: .8rem; margin: .5rem 0 1.4rem; align-items: flex-start; }
.figures figure { max-width: 242px; } .pair { display: flex; gap: 2px; }
.figures.small figure { width: 168px; } .figures.lead figure:first-child { margin-right: 1rem; }
.figures.small .tall { height: 152px; display: flex; align-items: end; }
img { display: block; max-width: 100%; height: auto; border: 1px solid var(--line); }
svg { display: block; width: 100%; max-width: 720px; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .4rem 0; padding: 0;
  list-style: none; }
.key i { display: inline-block; width: .9em; height: .9em; margin-right: .35em; border: 1px solid var(--line);
  vertical-align: -.1em; }
.right { color: rgb(var(--good)); } .wrong { color: rgb(var(--bad)); }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .3rem 0; }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; }
a { color: rgb(var(--good)); }
@media (max-width: 700px) { td:first-child small { display: none; } svg { min-width: 540px; } }
"""


class Html(str):
    """Text that is HTML already; `tag` escapes any other."""


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element: `tag("td", "a < b", class_="text")` is `<td class="text">a &lt; b</td>`.

    Args:
        children: `Html`, or anything else, whose text is escaped.
        attributes: their `_` becomes `-`, one at the end goes away; None leaves the attribute out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(str(value))}"')
    start = f"<{' '.join(words)}>"
    return Html(start) if name in VOID else Html(f"{start}{join(children)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts one after the other, escaped where they are no `Html`."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def page(title: str, sections: Sequence[tuple[str, Html]], lead: Html) -> str:
    """A whole page: title, `lead`, links to the sections, and these with their headings."""
    links = [tag("a", heading, href=f"#part{number}") for number, (heading, _) in enumerate(sections)]
    parts = [
        tag("section", tag("h2", heading), content, id=f"part{number}")
        for number, (heading, content) in enumerate(sections)
    ]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("h1", title), lead, tag("nav", *links), *parts)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], text: Sequence[int] = (), class_: str = ""
) -> Html:
    """A table that scrolls where the screen is narrow. A cell that is no element becomes one.

    `text`: the columns, beside the first, that are aligned left.
    """

    def line(kind: str, cells: Sequence[object]) -> Html:
        places = enumerate(cells)
        return tag("tr", *(_cell(kind, cell, "text" if place in text else None) for place, cell in places))

    body = tag("tbody", *(line("td", row) for row in rows))
    found = tag("table", tag("thead", line("th", header)), body, class_=class_ or None)
    return tag("div", found, class_="scroll")


def _cell(kind: str, cell: object, class_: str | None) -> Html:
    if isinstance(cell, Html) and cell.startswith(f"<{kind}"):
        return cell
    if kind == "th" and isinstance(cell, str) and not isinstance(cell, Html):  # long names break between their words
        cell = Html(re.sub("([_/+])", r"\1<wbr>", escape(cell)))
    return tag(kind, cell, class_=class_)


def picture(pixels: np.ndarray, alt: str, longest: int = LONGEST, photo: bool = True) -> Html:
    """An image inside the page, with its longest side at most `longest` pixels.

    Args:
        pixels: (H, W, 3) uint8.
        alt: what it says to those who do not see it.
        photo: JPEG; otherwise PNG, for few colours.
    """
    pixels = shrink(pixels, longest)
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if photo:
        image.save(file, "JPEG", quality=QUALITY, optimize=True)
    else:
        image.quantize(64).save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    kind = "jpeg" if photo else "png"
    height, width = pixels.shape[:2]
    return tag("img", src=f"data:image/{kind};base64,{data}", alt=alt, width=width, height=height, loading="lazy")


def shrink(pixels: np.ndarray, longest: int) -> np.ndarray:
    """(H, W, 3) colours or (H, W) ids with the longest side at most `longest`; smaller ones stay as they are."""
    ratio = min(1.0, longest / max(pixels.shape[:2]))
    height, width = (max(1, round(ratio * side)) for side in pixels.shape[:2])
    return pixels if ratio == 1 else resize(pixels, height, width)


def figure(caption: object, *pictures: Html) -> Html:
    """Pictures beside each other, with a caption below."""
    inside = tag("div", *pictures, class_="pair" if len(pictures) > 1 else "tall")
    return tag("figure", inside, tag("figcaption", caption))


def key(names: Sequence[str], colours: Sequence[str], dashed: Sequence[int] = ()) -> Html:
    """Names with their colours, as CSS has them. `dashed`: the places of those whose patch is a dashed frame."""
    items = []
    for place, (name, colour) in enumerate(zip(names, colours, strict=True)):
        look = f"border: 2px dashed {colour}" if place in dashed else f"background: {colour}"
        items.append(tag("li", tag("i", style=look), name))
    return tag("ul", *items, class_="key")


def css_colour(colour: Sequence[int] | np.ndarray) -> str:
    """(red, green, blue) in 0..255 as CSS has it."""
    red, green, blue = (int(value) for value in colour)
    return f"rgb({red}, {green}, {blue})"
