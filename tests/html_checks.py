"""What tests of pages share: a parser that insists on well-formed elements, and what a page would fetch."""

import re
from html.parser import HTMLParser

from spml.visualize.html import VOID


class Checker(HTMLParser):
    """Fails for an element that is closed by another one's end tag; collects text and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, element, attributes):
        self.seen.append(element)
        self.attributes += attributes
        if element not in (*VOID, "br"):
            self.open.append(element)

    def handle_endtag(self, element):
        assert self.open.pop() == element

    def handle_data(self, data):
        self.text.append(data)


def outside(html: str) -> list[str]:
    """What a page would fetch from elsewhere."""
    checker = Checker(html)
    links = [value or "" for name, value in checker.attributes if name in ("src", "href", "srcset", "poster", "data")]
    found = [link for link in links if not link.startswith(("data:image/", "#"))]
    return found + re.findall(r"https?://|@import|url\(|<script|<link|<iframe", html)
