"""What all tests share: golden files, how inputs are drawn, and the table of the seeds.

Golden files are compared as text; `pytest --update-golden` writes them. Drawn tests repeat the same examples on every run;
`pytest --random` draws new ones and prints the seed that repeats them.
"""

from __future__ import annotations

import difflib
import secrets
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest
from hypothesis import settings
from parity import PAGE, Cell, Place, check, page, read_page, summary

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

Golden = Callable[[str, str], None]


# Files whose tests run nothing that depends on the version of jax: graphs, expressions, rules, plans, messages, and tables
# in NumPy. Their tests have the marker `any_jax`, and tests/run.py runs them in one lane only.
ANY_JAX = frozenset(
    f"test_{name}.py"
    for name in (
        "axial",
        "checkpoint",
        "clone",
        "costs",
        "cpu_costs",
        "errors",
        "explain",
        "front_ends",
        "known_types",
        "laws",
        "hub_layers",
        "length",
        "mask_pages",
        "mask_show",
        "masks",
        "models",
        "models_page",
        "native",
        "native_assembly",
        "nonsense",
        "passes",
        "plan",
        "plan_page",
        "rope",
        "safetensors",
        "schedule",
        "seeds",
        "site",
        "spec",
        "text",
        "tiles",
        "tpu_costs",
        "tpu_heads",
        "transformers",
        "tuning",
        "weights",
    )
)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    for item in items:
        if item.path.name in ANY_JAX:
            item.add_marker("any_jax")
        if "recorder" in getattr(item, "fixturenames", ()):
            item.add_marker("live")
    yield  # here, pytest leaves out what `-m` and `-k` do not choose
    chosen = config.getoption("--cases")
    if chosen == "all":
        return
    test = {item: item.nodeid.partition("[")[0] for item in items}
    count, seen = Counter(test.values()), Counter[str]()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_third = seen[test[item]] % 3 == 0
        seen[test[item]] += 1
        in_both = count[test[item]] == 1 or item.get_closest_marker("any_jax") is not None
        (kept if in_both or is_third == (chosen == "third") else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several workers run the tests, and `--dist` says nothing, neighbours stay together."""
    if config.getoption("dist") != "load":
        return None
    workers = import_module("workers")  # it imports pytest-xdist, which is there if this hook is called
    return workers.Neighbours(config, log)


@pytest.fixture(scope="session")
def recorder() -> Callable[[str], ModuleType]:
    """Imports a script that runs the models of transformers, such as "record_models"; skips where there is no transformers.

    Tests with it have the marker `live`.
    """

    def imported(name: str) -> ModuleType:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers warns on import
            for package in ("torch", "transformers"):
                pytest.importorskip(package, reason="the live comparison runs after: pip install '.[transformers]'")
            return import_module(name)

    return imported


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """For tests that compile much and run little."""
    yield from _compiled(quickly=True)


@pytest.fixture
def full_compilation() -> Iterator[None]:
    """For tests of what XLA makes of a kernel, also with `--quick`."""
    yield from _compiled(quickly=False)


def _compiled(*, quickly: bool) -> Iterator[None]:
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", quickly)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing with them"
    )
    parser.addoption("--graphs", default="0:1000", help="which graphs tests/test_drawn.py draws (default: 0:1000)")
    parser.addoption(
        "--quick", action="store_true", help="compile without most of XLA's optimisations, in a fraction of the time"
    )
    parser.addoption(
        "--random", action="store_true", help="draw other examples than on every run, and print their seed"
    )
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run every length between guard pages, the whole soak, and every model type beside transformers",
    )
    parser.addoption(
        "--libtpu", metavar="DIR", help="the compiler for TPU, where pip install --target DIR libtpu put it"
    )
    parser.addoption(
        "--cases",
        choices=("all", "third", "others"),
        default="all",
        help="of a test that depends on the version of jax and has several cases, run every third case, or the other cases",
    )
    parser.addoption("--update-seeds", action="store_true", help="write docs/seeds.md from what the tests find")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with golden/NAME; with --update-golden writes it there."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f"{path.name}.new")
            aside.write_text(text)
            aside.replace(path)
            return
        if not path.is_file():
            pytest.fail(f"golden/{name} is not there; pytest --update-golden writes it")
        wanted = path.read_text()
        if text != wanted:
            difference = difflib.unified_diff(
                wanted.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm="", n=2
            )
            shown = "\n".join(list(difference)[:60])
            pytest.fail(f"{shown}\npytest --update-golden takes the change; say why in the CHANGELOG", pytrace=False)

    return compare


_SAID: pytest.StashKey[dict[Place, list[str]]] = pytest.StashKey()


@pytest.fixture
def parity(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Callable[[str, str, str, str], Cell]]:
    """`parity(seed, symbol, mode, dtype)` is a cell of docs/seeds.md to compare in; see `parity.Cell`."""
    said: dict[Place, list[str]] = {}

    def cell(seed: str, symbol: str, mode: str, dtype: str) -> Cell:
        place = (seed, symbol, mode, dtype)
        return Cell(place, said.setdefault(place, []).append)

    yield cell
    if request.config.getoption("--update-seeds"):
        for place, words in said.items():
            record_property("parity", [*place, *words])  # travels to the process that writes the page
        return
    cells = read_page(PAGE.read_text())
    for place, words in said.items():
        check(place, words, cells)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SAID] = {}
    if config.getoption("--quick"):
        jax.config.update("jax_disable_most_optimizations", True)
    config.addinivalue_line(
        "markers", "any_jax: does not depend on the version of jax, so that tests/run.py runs it in one lane only"
    )
    config.addinivalue_line(
        "markers", "live: needs torch, transformers, tokenizers or safetensors, and runs in the lane `transformers`"
    )
    random = config.getoption("--random")
    # Without a seed, the examples of a test follow from its code alone.
    settings.register_profile("repeatable", derandomize=not random, print_blob=True)
    settings.load_profile("repeatable")
    if random and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbelow(2**32))


def pytest_report_header(config: pytest.Config) -> str:
    return _how_drawn(config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(_how_drawn(config))


def _how_drawn(config: pytest.Config) -> str:
    if not config.getoption("--random"):
        return "drawn examples: the same on every run; --random draws others"
    return f"drawn examples: at random; --random --hypothesis-seed={config.option.hypothesis_seed} repeats them"


class _SeedReports:
    """Gathers, in the process that writes the page, what the tests' reports say of its cells."""

    def __init__(self, said: dict[Place, list[str]]) -> None:
        self.said = said

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == "parity" and isinstance(value, list):
                    seed, symbol, mode, dtype, *words = map(str, value)
                    self.said.setdefault((seed, symbol, mode, dtype), []).extend(words)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_SeedReports(session.config.stash[_SAID]), "seed-reports")


def pytest_sessionfinish(session: pytest.Session) -> None:
    writes = session.config.getoption("--update-seeds") and not hasattr(session.config, "workerinput")
    if writes and (said := session.config.stash[_SAID]):
        known = read_page(PAGE.read_text()) if PAGE.is_file() else {}
        PAGE.write_text(page({**known, **{place: summary(words) for place, words in said.items()}}))
