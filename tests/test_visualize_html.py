"""The page of a report: what is escaped, what stands inside, charts, tables over classes, well-formed elements."""

import base64
import io
import re

import numpy as np
import pytest
from html_checks import Checker, outside
from PIL import Image

from spml.visualize.class_tables import MOST_CLASSES, class_bars, confusion_table
from spml.visualize.html import Html, figure, join, key, page, picture, shrink, table, tag
from spml.visualize.svg import COLOURS, Curve, dot_chart, line_chart, ticks


def test_text_and_attributes_are_escaped():
    assert tag("td", "a < b & 'c'", class_="x", title='"<') == (
        '<td class="x" title="&quot;&lt;">a &lt; b &amp; &#x27;c&#x27;</td>'
    )
    assert tag("p", tag("b", 1.5), " <", aria_label=None) == "<p><b>1.5</b> &lt;</p>"
    assert tag("img", alt="<x>") == '<img alt="&lt;x&gt;">' and tag(
        "rect", stroke_width=2
    ) == '<rect stroke-width="2">'.replace(">", "></rect>")
    assert join(["<", Html("<br>")]) == "&lt;<br>"


def test_a_page_is_one_file_whose_elements_are_well_formed():
    photo = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    name = "<script>alert('x')</script> & co"
    parts = [
        ("pictures", figure(name, picture(photo, name), picture(photo, name, photo=False))),
        (name, tag("div", table([name, "b"], [[name, 1.0]], text=(1,)), key([name], ["red"]))),
        ("charts", tag("div", dot_chart([(name, [1.0])], name), line_chart([Curve(name, [(0, 1)])], name, name))),
        ("classes", tag("div", class_bars([name], [name], [[3.0]]), confusion_table(np.array([[1, 0]]), [name]))),
    ]
    html = page(name, parts, tag("p", name))
    checker = Checker(html)
    assert html.startswith("<!DOCTYPE html>") and outside(html) == []
    assert {"viewport", "prefers-color-scheme"} <= set(re.findall(r"viewport|prefers-color-scheme", html))
    assert name in "".join(checker.text) and "script" not in checker.seen
    links = [value for key, value in checker.attributes if key == "href"]
    assert links == [f"#part{number}" for number in range(4)] and all(f'id="{link[1:]}"' in html for link in links)


@pytest.mark.parametrize(("photo", "kind"), [(True, "JPEG"), (False, "PNG")])
def test_pictures_are_bounded(photo, kind):
    html = picture(np.full((600, 300, 3), 90, np.uint8), "grey", photo=photo)
    data = re.search(r"base64,([^\"]+)", html)
    with Image.open(io.BytesIO(base64.b64decode(data[1]))) as image:
        assert image.format == kind and image.size == (120, 240)
        assert abs(int(np.array(image.convert("L"))[5, 5]) - 90) < 3
    assert 'width="120" height="240"' in html


def test_small_pictures_keep_their_size_and_labels_their_ids():
    label = np.repeat(np.arange(4, dtype=np.uint8), 100)[None].repeat(80, 0)
    assert shrink(label, 500) is label
    small = shrink(label, 40)
    assert small.shape == (8, 40) and set(np.unique(small)) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 100, [0, 20, 40, 60, 80, 100]),
        (0, 0.03, [0, 0.01, 0.02, 0.03]),
        (2.6, 3.9, [2.5, 3, 3.5, 4]),
        (-1500, -200, [-1500, -1000, -500, 0]),
        (0, 0, [0, 0.2]),
        (5, 5, [5, 6]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_curves_lie_inside_and_many_have_their_own_look():
    with pytest.raises(ValueError, match="expected a point"):
        line_chart([Curve("a", [])], "step", "loss")
    chart = line_chart([Curve(f"m{i}", [(0, i), (50, 100 - i)]) for i in range(12)], "step", "loss")
    Checker(chart)
    lines = re.findall(r'points="([^"]+)"', chart)
    places = [tuple(map(float, point.split(","))) for line in lines for point in line.split()]
    assert len(lines) == 12 and all(0 <= x <= 720 and 0 <= y <= 260 for x, y in places)
    assert chart.count("stroke-dasharray") == 2 == chart.count("dashed") and COLOURS[0] in chart
    first = [float(point.split(",")[1]) for point in lines[0].split()]
    assert first[0] > first[1]  # higher values are higher up


def test_bars_of_classes():
    html = class_bars(["a", "b"], ["one", "two"], [[50.0, None], [25.0, None]])
    assert "<b>50.0</b>" in html and "<b>25.0</b>" not in html and html.count(">-</td>") == 2 and "50.0%" in html


def test_confusion_in_per_cent_of_each_row():
    counts = np.array([[6, 2, 0, 2], [0, 1, 0, 0], [0, 0, 0, 0]])  # the third class does not occur
    html = confusion_table(counts, ["a", "b", "c"])
    cells = re.findall(r"<td style[^>]*>(\d*)</td>", html)
    assert cells == ["60", "20", "20", "", "100", ""] and ">c<" not in html


def test_of_many_classes_the_most_frequent_are_kept():
    count = 40
    counts = np.zeros((count, count + 1), np.int64)
    np.fill_diagonal(counts, np.arange(1, count + 1))
    counts[-1, 0] = 40  # a class that has no column
    html = confusion_table(counts, [f"class {index}" for index in range(count)])
    Checker(html)
    assert f"The {MOST_CLASSES} of 40 classes" in html and "class 39" in html and "class 15<" not in html
    assert re.findall(r"<td style[^>]*>(\d*)</td>", html)[-1] == "50"  # among the others
