"""Reads the page of a report for tests."""

import html.parser

VOID = {"meta", "img", "br", "line", "polyline", "rect", "circle"}


class Page(html.parser.HTMLParser):
    """Reads a page, and fails if a tag is not closed in turn."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.queries, self.links, self.texts, self.bare = [], [], [], [], [], 0
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [value for name, value in attributes.items() if name in ("src", "href")]
        self.bare += tag == "img" and not attributes.get("alt")
        if "data-query" in attributes:
            self.queries.append((attributes["data-query"], []))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in VOID

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.queries and self.open[-1:] == ["b"]:
            self.queries[-1][1].append(data)
