"""The pages in a real browser: headless Chromium opens them from the disk."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import Project
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright
from test_report import Finished, add_oddities

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--no-sandbox",  # which cannot be set up by root in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE, DESK = 375, 1440
LARGEST = 15_000_000  # bytes of all pages and their pictures
MODEL = "models/digits_network_1.html"
BOTH = pytest.mark.parametrize("name", ["index.html", MODEL])

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reports of nine models with long names, on real digits and drawn pictures."""
    project = Finished(tmp_path_factory.mktemp("page"))
    project.add_dataset("digits", "real")
    project.add_dataset("pictures", "drawn", "a_rather_long_name_of_a_broken_file.jpg,no image\n")
    add_oddities(project)
    for at in range(4):
        published = {"test_accuracy": 0.9, "training_images": 60_000} if at else {}
        project.add_model(f"digits_network_{at}", "digits", 30 + at, **published)
    for at in range(5):
        project.add_model(f"pictures_inception_resnet_v{at}", "pictures", 38 - at)
    project.report()
    project.plot("digits_network_1")
    return project.folder / "reports"


class Opened:
    """A page that was opened, and what went wrong since."""

    def __init__(self, page: Page, path: Path):
        self.page = page
        self.problems: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", self._ask)
        page.on("requestfailed", lambda request: self.problems.append(f"failed: {request.url}"))
        page.goto(path.as_uri())

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def _ask(self, request: Request) -> None:
        self.requests.append(request.url)

    def load_pictures(self) -> list[int]:
        """Scrolls to each picture, waits until it has loaded, and returns their widths."""
        widths: list[int] = self.page.evaluate(
            """async () => {
                const widths = [];
                for (const image of document.images) {
                    image.scrollIntoView({behavior: "instant"});
                    if (!image.complete)
                        await new Promise((done) => image.onload = image.onerror = done);
                    widths.push(image.naturalWidth);
                }
                return widths;
            }"""
        )
        return widths

    def column(self, number: int) -> list[str]:
        cells = self.page.locator(f"table.sortable tbody tr > :nth-child({number})")
        return [text.split()[0] if text else "" for text in cells.all_inner_texts()]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Any]:
    pages = []

    def open_at(
        reports: Path, width: int = DESK, name: str = "index.html", **settings: Any
    ) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        pages.append(page)
        return Opened(page, reports / name)

    yield open_at
    for page in pages:
        page.close()


def test_the_pipelines_own_pages_load_with_all_their_pictures_and_without_a_network(
    open_page: Any, reproduced: Project
) -> None:
    reports = reproduced.folder / "reports"
    shown = 0
    for name in ("index.html", "models/cnn.html", "models/dense.html"):
        opened = open_page(reports, name=name)
        widths = opened.load_pictures()
        assert min(widths) > 0
        shown += len(widths)
        assert opened.problems == []
        assert all(url.startswith(("file:", "data:,")) for url in opened.requests)
    assert shown == len(list(reports.rglob("*.png"))) > 20
    assert sum(path.stat().st_size for path in reports.rglob("*.*")) < LARGEST


def test_the_models_pages_lead_to_each_other_and_back(open_page: Any, reproduced: Project) -> None:
    page = open_page(reproduced.folder / "reports").page
    page.get_by_role("link", name="dense").first.click()
    assert page.title() == "dense"
    page.get_by_role("link", name="Next: cnn").click()
    page.get_by_role("link", name="Previous: dense").click()
    assert page.get_by_role("link", name="Previous").count() == 0
    page.get_by_role("link", name="All models").click()
    assert page.title() == "Tiny"


@pytest.mark.parametrize("name", ["index.html", "models/cnn.html", "models/dense.html"])
@pytest.mark.parametrize("width", [1200, DESK])
def test_figures_side_by_side_are_about_equally_tall(
    open_page: Any, reports: Path, reproduced: Project, width: int, name: str
) -> None:
    # The tiny project's own summary has no two pictures of similar height.
    folder = reports if name == "index.html" else reproduced.folder / "reports"
    opened = open_page(folder, width, name)
    assert min(opened.load_pictures()) > 0
    boxes = opened.page.evaluate(
        "[...document.images].map((i) => i.getBoundingClientRect()).map((r) => [r.y, r.height])"
    )
    rows: dict[float, list[float]] = {}
    for top, height in boxes:
        rows.setdefault(round(top + opened.page.evaluate("scrollY")), []).append(height)
    assert max(map(len, rows.values())) == 2, "some share a row"
    assert all(max(heights) <= 1.3 * min(heights) for heights in rows.values())


@BOTH
@pytest.mark.parametrize("width", [PHONE, 768, 1200, 1360, DESK])
def test_nothing_scrolls_sideways(open_page: Any, reports: Path, width: int, name: str) -> None:
    opened = open_page(reports, width, name)
    opened.page.evaluate(
        "for (const part of document.querySelectorAll('details')) part.open = true"
    )
    assert min(opened.load_pictures()) > 0
    wide = opened.page.evaluate(
        """() => [...document.querySelectorAll("body *:not(.hidden, .skip)")].filter((part) =>
            part.getBoundingClientRect().right > innerWidth
            || part.scrollWidth > part.clientWidth
            && ["auto", "scroll"].includes(getComputedStyle(part).overflowX)
        ).map((part) => part.outerHTML)"""
    )
    assert wide == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    assert opened.problems == []


def test_the_table_sorts_by_click(open_page: Any, reports: Path) -> None:
    opened = open_page(reports)
    before = opened.column(3)
    opened.page.get_by_role("button", name="Test accuracy").click()
    header = opened.page.locator("th:has(button)", has_text="Test accuracy")
    assert header.get_attribute("aria-sort") == "descending"
    numbers = [float(text.rstrip("%")) for text in opened.column(3)]
    assert numbers == sorted(numbers, reverse=True)
    assert sorted(opened.column(3)) == sorted(before)
    assert opened.column(3) != before
    opened.page.get_by_role("button", name="Test accuracy").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert [float(text.rstrip("%")) for text in opened.column(3)] == sorted(numbers)
    assert opened.page.get_by_role("status").inner_text() == (
        "Sorted by Test accuracy (95% interval), ascending."
    )


def test_the_table_sorts_by_keyboard_and_only_one_column_says_so(
    open_page: Any, reports: Path
) -> None:
    opened = open_page(reports)
    opened.page.get_by_role("button", name="Parameters").focus()
    opened.page.keyboard.press("Enter")
    numbers = [int(text.replace(",", "")) for text in opened.column(8) if text]
    assert len(numbers) == 9
    assert numbers == sorted(numbers, reverse=True)
    opened.page.get_by_role("button", name="Model").focus()
    opened.page.keyboard.press("Space")
    models = [name for name in opened.column(1) if ":" not in name]
    assert models == sorted(models)
    assert opened.page.locator("[aria-sort]").all_inner_texts() == ["Model"]


def test_what_is_not_known_comes_last_whichever_way_a_column_is_sorted(
    open_page: Any, reports: Path
) -> None:
    opened = open_page(reports)
    for _ in range(2):
        opened.page.get_by_role("button", name="Published").first.click()
        assert opened.column(4) == ["90.00%"] * 3 + [""] * 8


def test_without_javascript_it_is_a_plain_table(open_page: Any, reports: Path) -> None:
    opened = open_page(reports, java_script_enabled=False)
    assert opened.page.locator("table.sortable tbody tr").count() == 9 + 2  # a baseline a dataset
    assert opened.page.locator("button").count() == 0
    assert opened.page.locator("thead th").first.inner_text() == "Model"
    model = open_page(reports, name=MODEL, java_script_enabled=False).page
    assert model.get_by_role("link", name="All models").is_visible()
    assert model.get_by_role("link", name="Next").count() == 0


@BOTH
def test_the_first_key_leads_past_the_navigation(open_page: Any, reports: Path, name: str) -> None:
    opened = open_page(reports, name=name)
    opened.page.keyboard.press("Tab")
    assert opened.page.locator(":focus").inner_text() == "Skip to the content"
    assert opened.page.locator(":focus").bounding_box()["width"] > 100
    opened.page.keyboard.press("Enter")
    assert opened.page.locator(":focus").get_attribute("id") == "content"


@BOTH
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_axe_finds_nothing_serious(open_page: Any, reports: Path, width: int, name: str) -> None:
    opened = open_page(reports, width, name)
    opened.page.evaluate(
        "for (const part of document.querySelectorAll('details')) part.open = true"
    )
    found = Axe().run(opened.page).response
    assert found["testEngine"]["name"] == "axe-core"
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical") or violation["id"] == "heading-order"
    ]
    assert serious == []


def test_on_paper_the_table_fits_and_the_navigation_is_gone(open_page: Any, reports: Path) -> None:
    opened = open_page(reports, 680)  # the width of A4 within its margins
    opened.page.emulate_media(media="print")
    assert opened.page.get_by_role("columnheader", name="Test loss").is_visible()
    assert not opened.page.get_by_role("navigation").is_visible()
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 680
    model = open_page(reports, 680, MODEL).page
    model.emulate_media(media="print")
    assert not model.get_by_role("navigation").is_visible()
    assert not model.get_by_role("link", name="All models").is_visible()
    assert model.evaluate("document.documentElement.scrollWidth") == 680
