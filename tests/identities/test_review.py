"""The review page: its content, and its work in Chromium where that is installed."""

import base64
import hashlib
import html.parser
import json
import re
import shutil

import pytest
from page_samples import HOSTILE, PERSONS, TRACKLETS, linked, pictures, record

from kreid.identities import review, review_page
from kreid.identities.decisions import read_decisions
from kreid.identities.files import run_digest


@pytest.fixture(scope="module")
def embeddings():
    return record()


@pytest.fixture(scope="module")
def page(embeddings):
    identities = linked(embeddings)
    assert identities.persons.tolist() == PERSONS
    return review_page(embeddings, identities, pictures(embeddings))


class Elements(html.parser.HTMLParser):
    """All start tags of a page, and the text of its styles and scripts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.open = [], {"style": [], "script": []}, None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in self.texts:
            self.open = tag
            self.texts[tag].append("")

    def handle_data(self, data):
        if self.open:
            self.texts[self.open][-1] += data

    def handle_endtag(self, tag):
        self.open = None


def data_of(page):
    return json.loads(Elements(page).texts["script"][0])


def test_nothing_is_fetched_and_only_its_own_script_runs(page):
    elements = Elements(page)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|import\(", page)
    assert not [attributes for _, attributes in elements.tags if {"src", "style"} & set(attributes)]
    assert all(attributes.get("href", "#").startswith("#") for _, attributes in elements.tags)
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    (policy,) = (each["content"] for tag, each in elements.tags if each.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind, text in (("style", elements.texts["style"][0]), ("script", elements.texts["script"][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert page.count("<script") == 2
    assert page.count("</script>") == 2


def test_data_of_the_page(page, embeddings):
    data = data_of(page)
    assert data["run"] == run_digest(embeddings)
    assert data["persons"] == PERSONS
    assert [each["id"] for each in data["tracklets"]] == embeddings.ids.tolist()
    assert [(each["first"], each["last"]) for each in data["tracklets"]] == [row[2:4] for row in TRACKLETS]
    assert all(each["picture"].startswith("data:image/jpeg;base64,") for each in data["tracklets"])
    margins = [abs(pair["distance"] - data["threshold"]) for pair in data["pairs"]]
    assert margins == sorted(margins)
    assert all(0 <= pair["probability"] <= 1 for pair in data["pairs"])


def test_the_page_is_bounded(embeddings, monkeypatch):
    monkeypatch.setattr(review, "_PICTURES", 3)
    monkeypatch.setattr(review, "_PAIRS", 1)
    monkeypatch.setattr(review, "_SIDE", 1)
    data = data_of(review_page(embeddings, linked(embeddings), pictures(embeddings)))
    (pair,) = data["pairs"]
    assert len(pair["one"]) == len(pair["other"]) == 1
    shown = [row for row, each in enumerate(data["tracklets"]) if "picture" in each]
    assert len(shown) == 3
    assert {*pair["one"], *pair["other"]} <= set(shown)
    without = data_of(review_page(embeddings, linked(embeddings), {}))
    assert not any("picture" in each for each in without["tracklets"])


FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A driver of headless Chromium, and the folder of its downloads."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield started, downloads
    started.quit()


@pytest.fixture
def opened(browser, page, tmp_path):
    """The page in the browser, wide, with a few ways to use it."""
    driver, downloads = browser
    path = tmp_path / "review.html"
    path.write_text(page, encoding="utf-8")
    driver.set_window_size(1280, 900)
    driver.get(path.as_uri())
    yield Opened(driver, downloads)
    # An intervention: Chromium asks nobody whether to leave unsaved decisions, as nobody has touched the page.
    log = [entry for entry in driver.get_log("browser") if entry.get("source") != "intervention"]
    assert [entry for entry in log if entry["level"] == "SEVERE"] == []


class Opened:
    """The page in a browser."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def press(self, key):
        """Press the button of a key, or of an id."""
        selector = f"#{key}" if "-" not in key else f'[data-key="{key}"]'
        self.driver.execute_script("arguments[0].click()", self.find(selector))

    def persons(self):
        """The ids of the tracklets of each person, in the order of the page."""
        return self.driver.execute_script(
            "return Array.from(document.querySelectorAll('#persons article')).map(card => [card.getAttribute("
            "'aria-label'), Array.from(card.querySelectorAll('.tile > span:first-of-type')).map(e => e.textContent)])"
        )

    def notice(self):
        return self.find("#notice").text

    def saved(self):
        """The path of the file that the page saved last."""
        from selenium.webdriver.support.wait import WebDriverWait

        def complete(_):
            return [path for path in self.downloads.iterdir() if path.suffix == ".json" and path.stat().st_size]

        (path,) = WebDriverWait(self.driver, 60).until(complete)
        content = path.read_text()
        path.unlink()
        return content


def names(*rows):
    return [TRACKLETS[row][0] for row in rows]


def test_persons_are_split_merged_accepted_and_saved(opened, embeddings, tmp_path):
    assert opened.persons() == [
        ["Person 1", names(0, 2, 3)],
        ["Person 2", names(1)],
        ["Person 3", names(4)],
        ["Person 4", names(5)],
    ]
    assert opened.find('[data-key="split-1"]').get_attribute("disabled")
    opened.press("tile-3")
    assert opened.find('[data-key="tile-3"]').get_attribute("aria-pressed") == "true"
    opened.press("split-1")
    assert opened.persons()[0] == ["Person 1", names(0, 2)]
    assert ["Person 5", names(3)] in opened.persons()
    # Merged with a person of no camera in common; then one that overlaps is refused.
    opened.press("tile-3")
    opened.press("tile-1")
    opened.press("merge")
    assert ["Person 2", names(1, 3)] in opened.persons()
    opened.press("tile-0")
    opened.press("tile-1")
    opened.press("merge")
    assert opened.notice() == "hall-1, hall-2 overlap in time in one camera, so they are two persons."
    assert ["Person 2", names(1, 3)] in opened.persons()
    opened.press("accept-1")
    opened.press("accept-4")
    assert "4 persons, 2 accepted" in opened.find("#counts").text
    opened.press("undo")
    assert "4 persons, 1 accepted" in opened.find("#counts").text
    opened.press("save")
    path = tmp_path / "decisions.json"
    path.write_text(opened.saved())
    decisions = read_decisions(path, run_digest(embeddings), embeddings)
    assert [(each.person, each.accepted, list(each.tracklets)) for each in decisions] == [
        (1, True, names(0, 2)),
        (2, False, names(1, 3)),
        (3, False, names(4)),
        (4, False, names(5)),
    ]
    opened.press("all")
    assert "4 persons, 4 accepted" in opened.find("#counts").text
    opened.find("#load").send_keys(str(path))
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(opened.driver, 60).until(lambda _: opened.notice() == "Decisions read.")
    assert "4 persons, 1 accepted" in opened.find("#counts").text


def test_doubtful_pairs_are_decided(opened, page):
    pairs = data_of(page)["pairs"]
    joined = next(number for number, pair in enumerate(pairs) if pair["joined"] and 2 in pair["one"] + pair["other"])
    apart = next(number for number, pair in enumerate(pairs) if {*pair["one"], *pair["other"]} == {1, 4})
    opened.press(f"pair-{joined}-false")
    assert opened.find(f'[data-key="pair-{joined}-false"]').get_attribute("aria-pressed") == "true"
    assert not any(len(found) > 2 for _, found in opened.persons())
    opened.press(f"pair-{joined}-true")
    assert ["Person 1", names(0, 2, 3)] in opened.persons()
    opened.press(f"pair-{apart}-true")
    assert ["Person 2", names(1, 4)] in opened.persons()
    assert f"2 of {len(pairs)} pairs decided" in opened.find("#counts").text


def test_names_are_shown_as_text(opened):
    assert opened.driver.title == "Persons to review"
    assert opened.find('[data-key="tile-3"] span').text == TRACKLETS[3][0]
    assert HOSTILE in opened.find('[data-key="tile-3"] .quiet').text


def test_a_narrow_page_does_not_scroll_sideways(opened):
    for width in (390, 1280):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        opened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        inner, whole = opened.driver.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
        assert (inner, whole <= inner) == (width, True)
    opened.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_another_file_is_refused(opened, tmp_path):
    from selenium.webdriver.support.wait import WebDriverWait

    path = tmp_path / "other.json"
    path.write_text('{"format": 1, "run": "x", "persons": []}')
    opened.find("#load").send_keys(str(path))
    WebDriverWait(opened.driver, 60).until(lambda _: opened.notice())
    assert opened.notice() == "This is no file of decisions on these persons: it is of other tracklets."
