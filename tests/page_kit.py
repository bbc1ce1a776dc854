"""What every page of HTML keeps to: well-formed, safe, and readable on a small screen and in the dark."""

import itertools
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from mei_pipeline import svg
from mei_pipeline.pages import LONG

SVG = "{http://www.w3.org/2000/svg}"
LETTER_WIDTH, LETTER_HEIGHT = 0.45, 10.0
"""Least width of a letter, in parts of the size of its font, and height in pixels."""
VOID = {"meta"}
LINKS = {"src", "href", "xlink:href", "srcset", "action"}
RAW = re.compile(r"[^,][_ ](pct|usd|USD|frac|ms|%)$|^sharpe$")
"""The name of a figure in our code, which is no heading. `net, USD` is one."""
STYLES = r"width: \d+px|--depth: [01]\.\d\d"
"""What a `style` of an element may say. A colour would be of one palette."""


class Page(HTMLParser):
    """A page as its elements (tag, attributes, the elements around it) in order, its words, and the heads of tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.css, self.heads = [], [], "", "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag == "thead":
            self.heads.append([])
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1][0] == "style":
            self.css += data
        elif self.open:
            self.words += data
        if self.open and self.open[-1] == ("th", {**self.open[-1][1], "scope": "col"}):
            self.heads[-1].append(data)

    def count(self, tag):
        return sum(each == tag for each, *_ in self.elements)

    def values(self, *names):
        return [value for _, attrs, _ in self.elements for name, value in attrs.items() if name in names]


def read_page(text):
    """The page, after it was held to what all pages keep to."""
    page = Page(text)
    fetches_nothing(page, text)
    fits_a_small_screen(page)
    has_a_dark_palette(page)
    has_contents(page)
    labels_stand_apart(text)
    assert [head for heads in page.heads for head in heads if RAW.search(head)] == [], "a unit stands in words"
    assert [attrs for tag, attrs, _ in page.elements if tag == "th" and attrs.get("scope") not in {"col", "row"}] == []
    return page


def fetches_nothing(page, text):
    assert {tag for tag, *_ in page.elements} & {"script", "link", "img", "iframe", "object", "form"} == set()
    assert [name for _, attrs, _ in page.elements for name in attrs if name.startswith("on")] == []
    assert not re.search(r"url\(|@import", text)
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert set(page.values(*LINKS)) <= {f"#{name}" for name in ids}


def fits_a_small_screen(page):
    """What may be wider than the screen stands in a box that scrolls."""
    for tag, _, around in page.elements:
        if tag == "table":
            assert "scroll" in around[-1][1].get("class", "").split()
        if tag == "svg":
            assert around[-1][0] == "figure"
    rules = dict(re.findall(r"^([\w.]+) \{([^}]*)\}", page.css, flags=re.MULTILINE))
    assert all("overflow-x: auto" in rules[name] for name in (".scroll", "figure"))
    assert "max-width: 100%" in rules["svg"]
    assert not re.search(r"(?<!-)width", rules["svg"]), "a small picture would fill the width"


def labels_stand_apart(text):
    """No two labels of a picture overlap, by the least that their letters take."""
    for picture in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        boxes = [box(label) for label in ET.fromstring(picture).iter(f"{SVG}text") if "transform" not in label.attrib]  # noqa: S314 - a page that MEI wrote
        for (one, left, right, y), (other, begin, end, level) in itertools.combinations(boxes, 2):
            assert abs(y - level) >= LETTER_HEIGHT or right <= begin or end <= left, (one, other)


def box(label):
    """A label: its words, where it begins and ends, and its line."""
    words, x = "".join(label.itertext()), float(label.get("x"))
    width = LETTER_WIDTH * float(label.get("font-size")) * len(words)
    begin = x - {"start": 0.0, "middle": 0.5, "end": 1.0}[label.get("text-anchor", "start")] * width
    return words, begin, begin + width, float(label.get("y"))


def has_a_dark_palette(page):
    """Every colour of a picture has a dark twin, and no element brings a colour of its own."""
    used = set(page.values("fill", "stroke")) - {"none"}
    assert used <= set(svg.DARK)
    assert "@media (prefers-color-scheme: dark)" in page.css
    for light, dark in svg.DARK.items():
        assert f'svg [fill="{light}"] {{ fill: {dark}; }} svg [stroke="{light}"] {{ stroke: {dark}; }}' in page.css
    assert [style for style in page.values("style") if not re.fullmatch(STYLES, style)] == []


def has_contents(page):
    """A page of many sections has a table of contents with all of them, in order."""
    sections = [attrs["id"] for tag, attrs, _ in page.elements if tag == "section" and "id" in attrs]
    listed = [attrs["href"] for tag, attrs, _ in page.elements if tag == "a"]
    assert listed == ([f"#{name}" for name in sections] if len(sections) >= LONG else [])
