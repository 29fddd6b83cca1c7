"""Make the pictures of two pages, the report of a run and the review of persons, from the demo's rendered people.

    make demo
    python recipes/guide/pictures.py --demo demo

Needs Chromium, its driver and Selenium (`pip install selenium`). `kreid.synthetic` has rendered the demo's data set: no
picture shows a real person.
"""

import argparse
import importlib.util
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from PIL import Image

from kreid.report.__main__ import main as evaluate

GUIDE = pathlib.Path(__file__).resolve().parent
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
WIDTH, HEIGHT, GAP = 1120, 1600, 16
PAIRS = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, write both pages, and save the pictures; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=pathlib.Path, default=pathlib.Path("demo"), help="the folder of `make demo`")
    parser.add_argument("--out", type=pathlib.Path, default=GUIDE / "pages" / "pictures")
    options = parser.parse_args(argv)
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        parser.error("Chromium is not installed: apt-get install chromium chromium-driver. Received: PATH without it")
    run, data = options.demo / "run", options.demo / "mars"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if status := evaluate([str(run), "--data", str(data), "--out", str(folder / "report"), "--quiet"]):
            return status
        persons = ["--model", str(run), "--data", str(data), "--folder", str(folder / "cameras"), "--quiet"]
        if status := recipe("identify_rendered").main(persons):
            return status
        browser = chromium(folder / "profile")
        try:
            report = report_picture(browser, folder / "report" / "index.html")
            review = review_picture(browser, folder / "cameras" / "found" / "review.html")
        finally:
            browser.quit()
    options.out.mkdir(parents=True, exist_ok=True)
    report.save(options.out / "report.webp", quality=80, method=6)
    review.save(options.out / "review.webp", quality=80, method=6)
    return 0


def recipe(name: str) -> Any:
    """Import a script of `recipes/`."""
    spec = importlib.util.spec_from_file_location(name, GUIDE.parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chromium(profile: pathlib.Path) -> Any:
    """Start headless Chromium, in the colours of the day."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_window_size(WIDTH, HEIGHT)
    return browser


def report_picture(browser: Any, page: pathlib.Path) -> Image.Image:
    """Return the scores beside the CMC, above the ranked lists of the first of the best and of the worst queries."""
    browser.get(page.as_uri())
    scores, cmc, best, worst = (
        part(browser, selector) for selector in ("#numbers table", "#cmc svg", "#best .ranked", "#worst .ranked")
    )
    top = max(scores.height, cmc.height)
    picture = Image.new("RGB", (WIDTH, top + best.height + worst.height + 4 * GAP), "white")
    picture.paste(scores, (GAP, GAP))
    picture.paste(cmc, (WIDTH // 2, GAP))
    picture.paste(best, (GAP, top + 2 * GAP))
    picture.paste(worst, (GAP, top + best.height + 3 * GAP))
    return picture


def review_picture(browser: Any, page: pathlib.Path) -> Image.Image:
    """Return the bar of commands and the first doubtful pairs."""
    browser.get(page.as_uri())
    top = browser.find_element("css selector", ".bar").rect["y"]
    last = browser.find_elements("css selector", "#pairs > *")[:PAIRS][-1].rect
    picture = opened(browser.get_screenshot_as_png())
    return picture.crop((0, int(top), picture.width, min(picture.height, int(last["y"] + last["height"]) + GAP // 4)))


def part(browser: Any, selector: str) -> Image.Image:
    """Return the picture of the first element that a selector finds."""
    element = browser.find_element("css selector", selector)
    browser.execute_script("arguments[0].scrollIntoView()", element)  # Chromium cuts off what is outside of the window.
    return opened(element.screenshot_as_png)


def opened(png: bytes) -> Image.Image:
    """Return a picture without its transparency."""
    return Image.open(io.BytesIO(png)).convert("RGB")


if __name__ == "__main__":
    sys.exit(main())
