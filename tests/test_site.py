"""The documentation site: it builds without a warning, has every public name, and is whole, also for a screen reader.

The lane `docs` of tests/run.py runs this. The tests in a browser need Chromium or Chrome on the path.
"""

from __future__ import annotations

import html.parser
import importlib
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest

import ropegen as rg
from ropegen import explanation

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = (
    "ropegen",
    "ropegen.compat.jax_nn",
    "ropegen.cost",
    "ropegen.equinox",
    "ropegen.linen",
    "ropegen.masks",
    "ropegen.nnx",
    "ropegen.penzai",
    "ropegen.reference",
    "ropegen.scaling",
    "ropegen.template",
    "ropegen.weights",
    "ropegen.zeta",
)

pytest.importorskip("mkdocs", reason="the site is built by mkdocs: pip install '.[docs]'")


def public_names() -> set[str]:
    return {f"{name}.{inner}" for name in PUBLIC for inner in importlib.import_module(name).__all__}


class Page(html.parser.HTMLParser):
    """What a page links to, shows and names."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.without_alt: list[str] = []
        self.ids: set[str] = set()
        self.headings: list[str] = []
        self.title = ""
        self._inside: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.update(value for name in ("id", "name") if (value := given.get(name)))
        for name in ("href", "src"):
            if value := given.get(name):
                self.links.append(value)
        if tag == "img" and given.get("alt") is None:
            self.without_alt.append(str(given.get("src")))
        if tag == "h1":
            self.headings.append("")
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["title"] and "svg" not in self._inside:
            self.title += data
        if "h1" in self._inside:
            self.headings[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site but the one for addresses that lead nowhere."""
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_document_is_a_page_with_one_title(site: Path, pages: dict[Path, Page]) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert written <= {path.relative_to(site) for path in pages}
    for path, page in pages.items():
        assert len(page.headings) == 1, path
        assert page.headings[0].strip(), path
        assert page.title.strip(), path
    titles = [page.title for page in pages.values()]
    assert len(set(titles)) == len(titles)


def test_no_link_and_no_anchor_leads_nowhere(pages: dict[Path, Page]) -> None:
    broken: list[str] = []
    inner = 0
    for path, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            address, anchor = urldefrag(unquote(link))
            to = (path.parent / address).resolve() if address else path
            to = to / "index.html" if to.is_dir() else to
            inner += 1
            if not to.is_file() or (anchor and to in pages and anchor not in pages[to].ids):
                broken.append(f"{path.name}: {link}")
    assert inner > 1000
    assert not broken


def test_every_picture_has_words_for_who_cannot_see_it(pages: dict[Path, Page]) -> None:
    assert not [f"{path.name}: {source}" for path, page in pages.items() for source in page.without_alt]


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    """`objects.inv` lists what mkdocstrings has written, after a head of four lines."""
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    listed = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    assert public_names() - listed == set()


def test_nothing_is_fetched_from_another_server(pages: dict[Path, Page]) -> None:
    for path in pages:
        loaded = re.findall(r"<(?:script|img|link)\b[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)", path.read_text())
        assert not [address for address in loaded if "rel=canonical" not in address], path


# In a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium or Chrome of this machine."""
    api = pytest.importorskip("playwright.sync_api", reason="a browser is driven by playwright: pip install '.[docs]'")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("neither chromium nor google-chrome is on the path; apt-get install chromium runs this")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found[0], args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def plan_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that `ropegen explain --html` writes."""
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 256, heads, 64), "bf16") for label, heads in (("q", 8), ("k", 2), ("v", 2)))
    made = rg.plan(b.build(out=b.attend(q, k, v, mask=rg.masks.causal & rg.masks.window(64))), "tpu:v5e")
    path = tmp_path_factory.mktemp("plan") / "plan.html"
    path.write_text(explanation.html(made))
    return path


# What axe-core checks: the Web Content Accessibility Guidelines 2.1, levels A and AA.
WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
LOOKED_AT = ("index", "start", "masks", "settings", "examples", "reference/functions")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_fit_and_axe_finds_nothing(browser: Any, site: Path, plan_page: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe: pip install '.[docs]'").Axe()
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    found: list[str] = []
    for path in (plan_page, *(site / f"{name}.html" for name in LOOKED_AT)):
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{path.name} is {wide} pixels wider than a screen of {width}"
        # What is around the content of the site is Material's own.
        part = None if path == plan_page else ".md-content"
        violations = axe.run(page, context=part, options=WCAG).response["violations"]
        found += [
            f"{path.name}: {each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}" for each in violations
        ]
    context.close()
    assert not found
