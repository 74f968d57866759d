"""The command line: every verb, its exit codes, and nonsense that gets one readable error."""

from __future__ import annotations

import html.parser
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GOLDEN, Golden

import ropegen as rg
from ropegen import cli, explain, hf

CASE = str(GOLDEN / "cases" / "gpt2-small" / "config.json")
SMALL = ("--seq", "8", "--vocabulary", "16")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as stopped:  # argparse's own way out
        code = int(stopped.code or 0)
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "kernels"
    assert cli.main(["build", CASE, *SMALL, "--target", "cpu", "--target", "tpu:v5e", "-o", str(folder)]) == 0
    return folder


def test_build_lists_its_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    code, out, err = call(capsys, "build", CASE, *SMALL, "--target", "cpu", "-o", str(folder), "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}


def test_check_passes_and_fails(capsys: pytest.CaptureFixture[str], built: Path, tmp_path: Path) -> None:
    code, out, _ = call(capsys, "check", str(built))
    assert code == 0
    assert "agrees" in out
    code, out, _ = call(capsys, "check", str(built), "--json")
    assert json.loads(out)["passed"] is True
    # The hashes are right and the program is another one: the oracle must tell.
    other = tmp_path / "other"
    wrong = hf.from_case({**json.loads(Path(CASE).read_text()), "build": {"seq": 8, "vocabulary": 16, "dtype": "bf16"}})
    rg.export(rg.loads(rg.dumps(wrong).replace("scale = 1.250000e-01", "scale = 9.0e-01")), other, targets=["cpu"])
    manifest = json.loads((other / "manifest.json").read_text())
    right = (built / "graph.mlir").read_bytes()
    import hashlib

    (other / "graph.mlir").write_bytes(right)
    manifest["files"]["graph.mlir"] = hashlib.sha256(right).hexdigest()
    (other / "manifest.json").write_text(json.dumps(manifest))
    code, out, _ = call(capsys, "check", str(other))
    assert code == 1
    assert "DIFFERS" in out


def test_explain_is_the_plan_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "explain", CASE, "--target", "tpu:v5e")
    assert code == 0
    assert out.rstrip("\n") == rg.plan(hf.from_case(json.loads(Path(CASE).read_text())), "tpu:v5e").explain().rstrip(
        "\n"
    )
    code, out, _ = call(capsys, "explain", CASE, "--json", "--tile", "attend/xla:q=64,kv=128")
    (attend,) = [step for step in json.loads(out)["steps"] if step["template"] == "attend/xla"]
    assert (attend["tile"], attend["tile_from"]) == ({"q": 64, "kv": 128}, "the caller")


def test_explain_counts_the_tiles_that_are_skipped() -> None:
    """Against a count over every pair of positions."""
    b = rg.Builder("count")
    q, k, v = (b.input(label, (1, 100, 2, 8), "f32") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v, mask=rg.masks.causal & rg.masks.window(30)))
    plan = rg.plan(graph, "cpu", tile={"attend/xla": {"q": 16, "kv": 20}})
    tiles = {(i // 16, j // 20): [] for i in range(100) for j in range(100)}
    for i in range(100):
        for j in range(100):
            tiles[i // 16, j // 20].append(j <= i and i - j < 30)
    empty, full = sum(not any(each) for each in tiles.values()), sum(all(each) for each in tiles.values())
    words = f"{len(tiles)}: {empty} empty (skipped), {full} full, {len(tiles) - empty - full} partial"
    assert words in plan.explain()


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "link", "img", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_explain_as_a_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = call(capsys, "explain", CASE, "--html", str(tmp_path / "plan.html"))
    assert (code, out) == (0, "")
    page = _Page()
    content = (tmp_path / "plan.html").read_text()
    page.feed(content)
    assert page.open == []
    assert not [each for each in page.links if "//" in each]
    assert "attend/xla" in content
    assert [path.name for path in tmp_path.iterdir()] == ["plan.html"]


def test_a_page_escapes_what_it_shows() -> None:
    b = rg.Builder("escape")
    x = b.input("x", (2, 4), "f32")
    plan = rg.plan(b.build(out=b.norm(x, kind="rms", epsilon=0.0)), "cpu")
    assert "->" not in re.sub(r"<style>.*?</style>", "", explain.html(plan), flags=re.DOTALL).replace("-->", "")


def test_opt_prints_a_graph_that_loads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = call(capsys, "opt", CASE, "--trace")
    assert code == 0
    assert "merge-projections" in err
    assert len([each for each in rg.loads(out).nodes if each.op.name == "project"]) == 2
    code, out, _ = call(capsys, "opt", CASE, "--to", "fold", "-o", str(tmp_path / "folded.mlir"))
    assert (code, out) == (0, "")
    assert len([each for each in rg.load_graph(tmp_path / "folded.mlir").nodes if each.op.name == "project"]) == 4


@pytest.mark.parametrize("what", ["ops", "masks", "scaling", "passes", "templates", "targets", "models"])
def test_list(capsys: pytest.CaptureFixture[str], golden: Golden, what: str) -> None:
    code, out, _ = call(capsys, "list", what)
    assert code == 0
    golden(f"cli/list-{what}.txt", "\n".join(line.rstrip() for line in out.splitlines()) + "\n")
    code, out, _ = call(capsys, "list", what, "--json")
    assert json.loads(out)


def test_env(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "env", "--json")
    assert code == 0
    assert json.loads(out)["python"] == sys.version.split()[0]


@pytest.mark.parametrize(
    "verb", [(), ("build",), ("explain",), ("opt",), ("check",), ("list",), ("env",)], ids=" ".join
)
def test_help_teaches(
    capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = call(capsys, *verb, "--help")
    assert code == 0
    assert "example" in out
    if sys.version_info[:2] == (3, 11):  # argparse words its usage a little differently from one Python to the next
        golden(f"cli/help-{'-'.join(verb) or 'ropegen'}.txt", out)


NONSENSE: dict[str, tuple[str, ...]] = {
    "no-verb": (),
    "misspelt-verb": ("biuld",),
    "no-target": ("build", CASE, "-o", "out"),
    "missing-file": ("explain", "nowhere.mlir"),
    "a-directory": ("explain", "."),
    "unknown-target": ("explain", CASE, "--target", "gpu:h1000"),
    "unknown-pass": ("opt", CASE, "--to", "fould"),
    "bad-tile": ("explain", CASE, "--tile", "attend/xla:q"),
    "unknown-tile": ("explain", CASE, "--tile", "atend/xla:q=1,kv=2"),
    "unknown-list": ("list", "masques"),
    "not-an-artifact": ("check", "."),
    "odd-sequence": ("explain", CASE, "--seq", "-4"),
    "too-long": ("explain", CASE, "--seq", "4096"),
    "unknown-dtype": ("explain", CASE, "--dtype", "bf17"),
    "shape-of-a-graph": ("explain", CASE.replace("config.json", "graph.mlir"), "--seq", "4"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_gets_one_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *NONSENSE[name])
    assert (code, out) == (2, "")
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


STDIN: dict[str, bytes] = {
    "empty": b"",
    "noise": bytes(range(256)) * 20,
    "not JSON": b"{",
    "no config": b'{"a": 1}',
    "a list": b'{"config": [1, 2]}',
    "unknown model": b'{"model_type": "lama"}',
    "deep": b"{" + b'"a":[' * 20_000,
    "half a graph": (GOLDEN / "cases" / "gpt2-small" / "graph.mlir").read_bytes()[:1500]
    if (GOLDEN / "cases").is_dir()
    else b"",
}


@pytest.mark.parametrize("name", STDIN)
def test_nonsense_on_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(STDIN[name])))
    code, out, err = call(capsys, "explain", "-")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_either_form_on_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    for path in (Path(CASE), Path(CASE).with_name("graph.mlir")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
        code, out, _ = call(capsys, "explain", "-")
        assert code == 0
        shown.append(out)
    assert shown[0] == shown[1]


def test_as_a_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ropegen", "explain", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr == "error: nowhere: No such file or directory\n"
    with subprocess.Popen(
        [sys.executable, "-m", "ropegen", "explain", CASE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.read(1)
        reader.stdout.close()  # as `| head` does
        assert reader.stderr.read() == b""
        assert reader.wait() == 0
