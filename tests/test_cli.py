"""The command line: every verb, its exit codes, and one readable error for every kind of nonsense."""

from __future__ import annotations

import html.parser
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import GOLDEN, Golden
from mutate import hash_again

import ropegen as rg
from ropegen import cli, models, passes, template, tuning
from ropegen import explanation as explain
from ropegen.cli.output import locked, progress, write
from ropegen.ir import ops, spec
from ropegen.target import Target, known

CASE = str(GOLDEN / "cases" / "gpt2-small" / "config.json")
SMALL = ("--seq", "8", "--vocabulary", "16")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as stopped:  # argparse ends the process this way
        code = int(stopped.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "kernels"
    assert cli.main(["build", CASE, *SMALL, "--target", "cpu", "--target", "tpu:v5e", "-o", str(folder)]) == 0
    return folder


def test_build_lists_its_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    code, out, err = call(capsys, "build", CASE, *SMALL, "--target", "cpu", "-o", str(folder), "--json")
    told = json.loads(out)
    assert code == 0
    assert all(re.match(r"\d+ s: ", line) for line in err.splitlines())  # progress, on a slow machine
    assert told["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:.*no native kernels")  # the forged manifest states the plan of another graph
def test_check_passes_and_fails(capsys: pytest.CaptureFixture[str], built: Path, tmp_path: Path) -> None:
    code, out, _ = call(capsys, "check", str(built))
    assert code == 0
    assert "agrees" in out
    code, _, err = call(capsys, "check", str(built), "--seed", "-1")
    assert (code, err) == (2, "error: the seed is -1; give a whole number from 0 on\n")
    code, out, _ = call(capsys, "check", str(built), "--json")
    told = json.loads(out)
    assert told["passed"] is True
    for output in told["outputs"]:
        assert 0 < output["relative"] <= output["allowed"]
        assert 0 < output["largest"] <= output["allowed_largest"]
    # The hashes and the seals are right, but the program computes something else: the oracle must notice.
    other = tmp_path / "other"
    wrong = models.from_case(
        {**json.loads(Path(CASE).read_text()), "build": {"seq": 8, "vocabulary": 16, "dtype": "bf16"}}
    )
    rg.export(rg.loads(rg.dumps(wrong).replace("scale = 1.250000e-01", "scale = 9.0e-01")), other, targets=["cpu"])
    (other / "graph.mlir").write_bytes((built / "graph.mlir").read_bytes())
    hash_again(other, forge=True)
    code, out, _ = call(capsys, "check", str(other))
    assert code == 1
    assert "DIFFERS" in out


def test_explain_is_the_plan_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    made = rg.plan(models.from_case(json.loads(Path(CASE).read_text())), "tpu:v5e")
    code, out, _ = call(capsys, "explain", CASE, "--target", "tpu:v5e", "-v")
    assert (code, out) == (0, made.explain())
    code, out, _ = call(capsys, "explain", CASE, "--target", "tpu:v5e")
    assert code == 0
    assert out.startswith(explain.summary(made))
    assert len(out.splitlines()) == 9  # the name, six lines, and how to see more
    code, out, _ = call(capsys, "explain", CASE, "--json", "--target", "cpu:amx", "--tile", "attend/xla:q=256,kv=512")
    (attend,) = [step for step in json.loads(out)["steps"] if step["template"] == "attend/xla"]
    assert (attend["tile"], attend["tile_from"]) == ({"q": 256, "kv": 512}, "the caller")


def test_explain_counts_the_tiles_that_are_skipped() -> None:
    """The counts of a plan equal those over every pair of positions."""
    b = rg.Builder("count")
    q, k, v = (b.input(label, (1, 100, 2, 8), "f64") for label in "qkv")  # native code does not compute float64
    graph = b.build(out=b.attend(q, k, v, mask=rg.masks.causal & rg.masks.window(30)))
    plan = rg.plan(graph, "cpu", tile={"attend/xla": {"q": 16, "kv": 20}})
    tiles = {(i // 16, j // 20): [] for i in range(100) for j in range(100)}
    for i in range(100):
        for j in range(100):
            tiles[i // 16, j // 20].append(j <= i and i - j < 30)
    empty, full = sum(not any(seen) for seen in tiles.values()), sum(all(seen) for seen in tiles.values())
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
    assert not [link for link in page.links if "//" in link]
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
    assert len([node for node in rg.loads(out).nodes if node.op.name == "project"]) == 2
    code, out, _ = call(capsys, "opt", CASE, "--to", "fold", "-o", str(tmp_path / "folded.mlir"))
    assert (code, out) == (0, "")
    assert len([node for node in rg.load_graph(tmp_path / "folded.mlir").nodes if node.op.name == "project"]) == 4


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
    "verb",
    [(), ("build",), ("explain",), ("opt",), ("lower",), ("check",), ("bench",), ("tune",), ("list",), ("env",)],
    ids=" ".join,
)
def test_help_teaches(
    capsys: pytest.CaptureFixture[str], golden: Golden, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = call(capsys, *verb, "--help")
    assert code == 0
    assert "example" in out
    if sys.version_info[:2] == (3, 11):  # argparse changes its words from one Python to the next
        golden(f"cli/help-{'-'.join(verb) or 'ropegen'}.txt", out)


def test_without_a_verb_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys) == call(capsys, "--help")


def test_explain_of_an_artifact_reads_its_plans(capsys: pytest.CaptureFixture[str], built: Path) -> None:
    plans = (built / "plan.txt").read_text()
    code, out, err = call(capsys, "explain", str(built), "-v")
    assert (code, err) == (0, "")
    assert out.split() == plans.split()
    code, out, _ = call(capsys, "explain", str(built), "--target", "tpu:v5e")
    assert code == 0
    made = rg.plan(rg.load(built).graph, "tpu:v5e")
    assert out.startswith(explain.summary(made))
    assert "for cpu" not in out
    for arguments, said in (
        (["--target", "gpu:h200"], "no plan for gpu:h200; it was built for cpu, tpu:v5e"),
        (["--html", "plan.html"], "keeps its plans as text; for a plan made anew, give"),
        (["--seq", "4"], "--seq is for a graph"),
    ):
        code, out, err = call(capsys, "explain", str(built), *arguments)
        assert (code, out) == (2, "")
        assert said in err


def test_build_and_check_say_what_they_did_and_what_comes_next(
    capsys: pytest.CaptureFixture[str], built: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my kernels"
    code, out, _ = call(capsys, "build", CASE, *SMALL, "--target", "cpu", "--target", "tpu:v5e", "-o", str(folder))
    assert code == 0
    *_, cpu, tpu, last = out.splitlines()
    graph = rg.load(folder).graph
    for line, target in ((cpu, "cpu"), (tpu, "tpu:v5e")):
        assert line == f"estimate for {target}: {explain.duration(rg.plan(graph, target).cost.seconds)} a call"
    assert last == f"next: ropegen check '{folder}'"
    code, out, _ = call(capsys, "check", str(built), "--seed", "3")
    assert code == 0
    said = " ".join(out.split())
    files = [path for path in built.iterdir() if path.name != "manifest.json"]
    programs = {output.program for output in rg.load(built).check(3).outputs}
    ran = re.search(rf"{len(files)} files match their hashes; (.*) ran here on inputs drawn from seed 3", said)
    assert ran is not None
    assert {*ran[1].split(", ")} == programs
    assert "the results agree within what rounding explains" in said
    assert all(len(line) <= 80 for line in out.splitlines()[-4:])


def test_lower_prints_no_module_on_a_terminal(
    capsys: pytest.CaptureFixture[str], built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("lower", str(built / "semantic.mlir"), "--target", "cpu")
    piped = call(capsys, *arguments)[1]
    assert piped.count("\n") > 20
    monkeypatch.setattr("ropegen.cli.lower.terminal_width", lambda: 80)
    code, out, err = call(capsys, *arguments)
    lines = piped.count("\n")
    assert (code, out) == (0, "")
    assert f"the module has {lines:,} lines; -o FILE writes it, and -o - prints it here" in err
    assert call(capsys, *arguments, "-o", "-")[1] == piped


def test_targets_are_plain_numbers_aligned_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "list", "targets")
    assert code == 0
    heading, *rows = out.splitlines()
    ends = [heading.index(unit) + len(unit) for unit in ("bf16 GFLOP/s", "f32 GFLOP/s", "memory GB/s")]
    for row in rows:
        name, *numbers = row.split()
        assert all(re.fullmatch(r"\d{1,3}(,\d{3})*", number) for number in numbers)
        figures = Target.parse(name).figures
        for number, end, figure in zip(
            numbers, ends, (figures.matmul_bf16, figures.matmul_f32, figures.bandwidth), strict=True
        ):
            assert row[:end].endswith(number)
            assert float(number.replace(",", "")) == pytest.approx(figure / 1e9, abs=0.5)


def test_a_terminal_shows_one_line_for_an_op(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, "list", "ops")
    assert code == 0
    assert len(out.splitlines()) == 1 + len(ops.OPS)


NONSENSE: dict[str, tuple[str, ...]] = {
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
    assert done.stderr == "error: cannot read nowhere: No such file or directory; give a .mlir graph or a config.json\n"
    with subprocess.Popen(
        [sys.executable, "-m", "ropegen", "explain", CASE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        reader.stdout.read(1)
        reader.stdout.close()  # `| head` does this
        assert reader.stderr.read() == b""
        assert reader.wait() == 0


# Every verb on a small model ------------------------------------------------------------------------------------------

TINY = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
}
VERBS = ("build", "explain", "opt", "lower", "check", "bench", "tune", "list", "env")


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": TINY, "build": {"seq": 16, "dtype": "f32"}}))
    return str(path)


@pytest.fixture
def graph(tmp_path: Path) -> str:
    path = tmp_path / "graph.mlir"
    path.write_text(rg.dumps(tiny()))
    return str(path)


def tiny(**build: object) -> rg.Graph:
    return models.from_case({"config": TINY, "build": {"seq": 16, "dtype": "f32", **build}})


def ropegen(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run in a separate process."""
    return subprocess.run(
        [sys.executable, "-m", "ropegen", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_explain_gives_facts_as_json(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", graph, "--target", "tpu:v5e", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == explain.data(rg.plan(tiny(), "tpu:v5e"))


def test_explain_writes_a_page(graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "plan.html"
    page.write_text("an older page")
    assert cli.main(["explain", graph, "--html", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == explain.html(rg.plan(tiny(), "cpu"))
    assert not capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"graph.mlir", "plan.html"}  # no temporary file is left
    assert cli.main(["explain", graph, "--html", "-"]) == 0
    assert capsys.readouterr().out == page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "build"),
    [
        (["--seq", "24", "--batch", "3"], {"seq": 24, "batch": 3}),
        (["--dtype", "bf16", "--layer", "1"], {"dtype": "bf16", "layer": 1}),
        (["--phase", "decode", "--seq", "1", "--capacity", "40"], {"phase": "decode", "seq": 1, "capacity": 40}),
        (["--vocabulary", "9"], {"vocabulary": 9}),
    ],
)
def test_flags_override_what_a_case_says(
    flags: list[str], build: dict[str, object], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["opt", config, "--to", "source", *flags]) == 0
    assert rg.loads(capsys.readouterr().out) is tiny(**build)


def test_a_bare_config_is_a_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config"  # the content tells what it is, not the name
    path.write_text(json.dumps(TINY), encoding="utf-8-sig")
    assert cli.main(["opt", str(path), "--seq", "8", "--to", "source"]) == 0
    assert rg.loads(capsys.readouterr().out) is rg.from_hf(TINY, seq=8)


def test_opt_gives_the_canonical_graph(graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = passes.canonical(tiny())
    assert cli.main(["opt", graph]) == 0
    assert rg.loads(capsys.readouterr().out) is wanted
    written = tmp_path / "canonical.mlir"
    assert cli.main(["opt", graph, "-o", str(written)]) == 0
    assert rg.load_graph(written) is wanted
    assert not capsys.readouterr().out
    assert cli.main(["opt", graph, "-o", os.devnull]) == 0
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("stage", [stage.name for stage in passes.PIPELINE])
def test_opt_stops_after_a_stage(stage: str, graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["opt", graph, "--to", stage, "--trace"]) == 0
    out, err = capsys.readouterr()
    wanted, trace = passes.run(tiny(), to=stage)
    assert rg.loads(out) is wanted
    assert all(str(step) in err for step in trace)


@pytest.mark.parametrize("as_json", [False, True])
def test_check_fails_for_a_damaged_artifact(
    as_json: bool, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "kernels"
    copy.mkdir()
    for path in built.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "report.txt").write_text("a better report")
    assert cli.main(["check", str(copy), *(["--json"] if as_json else [])]) == 1
    out, err = capsys.readouterr()
    assert "report.txt" in err
    assert err.startswith("error: ")
    if as_json:
        assert json.loads(out)["passed"] is False


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("ops", set(ops.OPS)),
        ("scaling", set(rg.scaling.FAMILIES)),
        ("templates", {str(installed) for installed in template.catalog()}),
        ("targets", set(known())),
        ("models", {*models.FAMILIES, *models.WRAPPERS}),
        ("passes", {stage.name for stage in passes.PIPELINE}),
    ],
)
def test_list_names_everything(what: str, names: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {next(iter(row.values())) for row in rows} == names
    assert cli.main(["list", what]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows)  # every row is one line, even in a narrow terminal
    assert all(line == line.rstrip() for line in lines)


def test_list_tells_the_operands_and_attributes_of_ops(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "ops", "-v"])
    said = capsys.readouterr().out
    for described in spec.describe():
        assert all(str(attribute) in said for attribute in described.attributes)
        assert all(operand in said for operand in described.operands)


def test_listed_masks_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list", "masks", "--json"])
    for row in json.loads(capsys.readouterr().out):
        named, shown = row.values()
        words = {
            name: getattr(rg.masks, name) for name in ("full", "causal", "window", "chunked", "prefix", "segments")
        }
        assert rg.masks.parse(shown) == eval(named, {}, words)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_parses(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out.partition("example:\n")[2].split()
    assert words[:2] == ["ropegen", verb]
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps({"config": TINY}))
    Path("graph.mlir").write_text(rg.dumps(tiny()))
    if verb in ("check", "lower"):
        cli.main(["build", "graph.mlir", "--target", "cpu", "-o", "kernels/"])
    if (
        verb != "build" and "--seq" not in words
    ):  # `build` takes seconds, and --seq names a length that the small model does not have
        assert cli.main(words[1:]) == 0


FILES: dict[str, bytes] = {
    "empty": b"",
    "noise": bytes(range(256)) * 4,
    "utf-16": '{"model_type": "llama"}'.encode("utf-16"),
    "nul": b"\0" * 100,
    "cut.json": b'{"model_type": "llama", ',
    "list.json": b"[1, 2]",
    "null.json": b"null",
    "fields.json": b'{"a": 1}',
    "model.json": b'{"model_type": "lama"}',
    "number.json": b'{"model_type": 3}',
    "case.json": b'{"config": 3}',
    "build.json": b'{"config": {"model_type": "llama"}, "build": 5}',
    "option.json": json.dumps({"config": TINY, "build": {"sequence": 5}}).encode(),
    "deep.json": b'{"a":' * 50_000,
    "brackets": b"[" * 50_000,
    "digits.json": b'{"model_type": ' + b"9" * 5000 + b"}",
    "op.mlir": rg.dumps(tiny()).replace("ropegen.rotate", "ropegen.rotat").encode(),
    "cut.mlir": rg.dumps(tiny())[:700].encode(),
    "module.mlir": b"module {}",
}

REFUSED: dict[str, tuple[list[str], str]] = {
    "no such file": (["explain", "missing.mlir"], "missing.mlir: No such file or directory; give a .mlir graph"),
    "a directory": (["explain", "."], "directory; give graph.mlir"),
    "no such module": (["lower", "missing.mlir", "--target", "cpu"], "give a StableHLO module"),
    "a seed below 0": (["bench", "graph.mlir", "--seed", "-1"], "from 0 on"),
    "a platform for a chip": (["explain", "graph.mlir", "--target", "tpu"], "tpu:any"),
    "one platform by two names": (
        ["build", "graph.mlir", "--target", "cpu", "--target", "host", "-o", "x"],
        "targets cpu and host are both cpu",
    ),
    "a tile beyond every sequence": (["explain", "graph.mlir", "--tile", f"attend/xla:q={1 << 70},kv=1"], "2^31"),
    **{name: (["explain", name], "") for name in FILES},
    "unknown target": (["explain", "graph.mlir", "--target", "gpu:h10"], "h100"),
    "unknown platform": (["explain", "graph.mlir", "--target", "npu"], "gpu"),
    "no cores": (["explain", "graph.mlir", "--target", "cpu:none"], "cores"),
    "two targets": (["explain", "graph.mlir", "--target", "cpu", "--target", "gpu:h100"], "one target"),
    "tile of an unknown template": (["explain", "graph.mlir", "--tile", "attend/xl:q=1,kv=1"], "attend/xla"),
    "tile without sizes": (["explain", "graph.mlir", "--tile", "attend/xla"], "q=256,kv=512"),
    "tile of words": (["explain", "graph.mlir", "--tile", "attend/xla:q=a,kv=b"], "q=256,kv=512"),
    "tile of nothing": (["explain", "graph.mlir", "--tile", "attend/xla:q=0,kv=1"], "positive"),
    "tile of other sizes": (["explain", "graph.mlir", "--tile", "attend/xla:rows=1"], "q, kv"),
    "tile twice": (["explain", "graph.mlir", *["--tile", "attend/xla:q=1,kv=1"] * 2], "twice"),
    "flags on a graph": (["explain", "graph.mlir", "--seq", "5"], "--seq"),
    "no tokens": (["explain", "config.json", "--seq", "0"], "at least 1"),
    "too many words": (["explain", "config.json", "--vocabulary", "1000"], "64"),
    "no such layer": (["explain", "config.json", "--layer", "9"], "layer"),
    "unknown dtype": (["explain", "config.json", "--dtype", "fp8"], "fp8"),
    "no such stage": (["opt", "graph.mlir", "--to", "mrge"], "merge"),
    "a page nowhere": (["explain", "graph.mlir", "--html", "nowhere/plan.html"], "nowhere/plan.html"),
    "a page over a directory": (["explain", "graph.mlir", "--html", "."], "directory"),
    "a graph nowhere": (["opt", "graph.mlir", "-o", "nowhere/graph.mlir"], "nowhere/graph.mlir"),
    "an artifact nowhere": (["check", "missing"], "missing"),
    "no artifact": (["check", "."], "manifest.json"),
    "over something else": (["build", "graph.mlir", "--target", "cpu", "-o", "."], ""),
    "over a file": (["build", "graph.mlir", "--target", "cpu", "-o", "graph.mlir"], "graph.mlir"),
    "no tile file": (["explain", "graph.mlir", "--tiles", "graph.mlir"], "tile file"),
    "a tile file nowhere": (["explain", "graph.mlir", "--tiles", "tiles.json"], "tiles.json"),
    "nothing to tune": (["tune", "short.mlir"], "no region of"),
    "tuning for TPU": (["tune", "graph.mlir", "--target", "tpu:v5e"], "benchmarks/tpu.py"),
    "tuning elsewhere": (["tune", "graph.mlir", "--target", "cpu:1023"], "--target host"),
    "tuning for an unknown target": (["tune", "graph.mlir", "--target", "gpu:h10"], "h100"),
    "tuning for no time": (["tune", "graph.mlir", "--seconds", "0"], "positive"),
    "tuning into another file": (["tune", "graph.mlir", "-o", "graph.mlir"], "tile file"),
    "tuning into a directory": (["tune", "graph.mlir", "-o", "."], "directory"),
    "tuning into nowhere": (["tune", "graph.mlir", "-o", "nowhere/tiles.json"], "nowhere"),
    "two documents on stdout": (["tune", "graph.mlir", "--json"], "-o FILE"),
    "one platform twice": (["build", "graph.mlir", "--target", "gpu:h100", "--target", "gpu:a100", "-o", "x"], "gpu"),
}

USAGE: dict[str, tuple[list[str], str]] = {
    "unknown verb": (["biuld"], "build"),
    "unknown flag": (["env", "--jsno"], "--jsno"),
    "no graph": (["explain"], "GRAPH"),
    "no target": (["build", "graph.mlir", "-o", "x"], "--target"),
    "no directory": (["build", "graph.mlir", "--target", "cpu"], "-o"),
    "unknown list": (["list", "opps"], "ops"),
    "a word for a number": (["explain", "config.json", "--seq", "x"], "--seq"),
    "unknown phase": (["explain", "config.json", "--phase", "prefil"], "prefill"),
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_bytes(content)
    Path("graph.mlir").write_text(rg.dumps(tiny()))
    Path("short.mlir").write_text(rg.dumps(tiny(dtype="f64")))  # native code does not compute it, and XLA has one tile
    Path("config.json").write_text(json.dumps({"config": TINY, "build": {"seq": 16}}))
    return tmp_path


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, hint = REFUSED[name]
    before = sorted(path.name for path in workplace.iterdir())
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert len(err) < 1000
    assert hint in err
    assert "Traceback" not in err
    assert sorted(path.name for path in workplace.iterdir()) == before


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage(name: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, hint = USAGE[name]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error: " in last
    assert hint in last


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file; run this as another user"
)
def test_a_file_without_permission(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(graph).chmod(0)
    assert cli.main(["explain", graph]) == 2
    assert "ermission" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stopped_by", "code", "word"), [(KeyboardInterrupt(), 130, "interrupted"), (MemoryError("8 TiB"), 2, "8 TiB")]
)
def test_an_interrupted_verb_ends_with_one_line(
    stopped_by: BaseException,
    code: int,
    word: str,
    graph: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise stopped_by

    monkeypatch.setattr("ropegen.api.plan", stop)
    assert cli.main(["explain", graph]) == code
    out, err = capsys.readouterr()
    assert not out
    assert word in err


def test_planning_verbs_need_no_device(graph: str, config: str, tmp_path: Path) -> None:
    said = ropegen("explain", graph, "--target", "gpu:h200", "-v", JAX_PLATFORMS="bogus")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == explain.text(rg.plan(tiny(), "gpu:h200"))
    said = ropegen("opt", config, JAX_PLATFORMS="bogus")
    assert (said.returncode, said.stderr) == (0, "")
    assert rg.loads(said.stdout) is passes.canonical(tiny())
    said = ropegen("env", "--json", JAX_PLATFORMS="bogus")
    assert said.returncode == 0
    assert "bogus" in json.loads(said.stdout)["devices"]
    said = ropegen("explain", graph, "--target", "host", JAX_PLATFORMS="bogus")
    assert said.returncode == 2
    assert said.stderr.startswith("error: ")
    assert "Traceback" not in said.stderr


def test_an_old_terminal_still_gets_the_plan(graph: str) -> None:
    said = ropegen("explain", graph, "-v", PYTHONIOENCODING="ascii")
    assert said.returncode == 0
    assert said.stdout == explain.text(rg.plan(tiny(), "cpu")).replace("\N{MICRO SIGN}", "?")


# Tuning ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def attention(tmp_path: Path) -> str:
    """The path of a graph with a region that can use several tiles."""
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 300, heads, 8), "f32") for label, heads in (("q", 2), ("k", 1), ("v", 1)))
    path = tmp_path / "attention.mlir"
    path.write_text(rg.dumps(b.build(out=b.attend(q, k, v, mask=rg.masks.causal))))
    return str(path)


def test_tune_writes_a_file_that_the_other_verbs_take(
    attention: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, host = tmp_path / "tiles.json", str(Target.host())
    code, out, err = call(capsys, "tune", attention, "-o", str(file), "--seconds", "0.02", "--json")
    assert code == 0
    (region,) = json.loads(out)["regions"]
    assert region["what"] == "attend of q 1x300x2x8 f32, k 1x300x1x8 f32, v 1x300x1x8 f32, forward"
    assert region["candidates"] > 1
    assert region["seconds"] > 0
    assert region["reason"] in err
    kept = f"{region['kept']['template']}"
    sizes = " ".join(f"{name}={size}" for name, size in region["kept"]["tile"].items())
    code, out, err = call(capsys, "explain", attention, "--target", host, "--tiles", str(file), "-v")
    assert (code, err) == (0, "")
    assert f"{sizes}, the tile file, jaxlib " in out
    assert kept in out
    code, out, err = call(
        capsys,
        "build",
        attention,
        "--target",
        host,
        "--target",
        "gpu:h200",
        "--tiles",
        str(file),
        "-o",
        str(tmp_path / "x"),
    )
    assert code == 0
    assert "tiles.json has no tiles for gpu:h200" in err
    assert "the tile file" in (tmp_path / "x" / "plan.txt").read_text()
    code, _, err = call(capsys, "bench", attention, "--tiles", str(file), "--repeats", "1")
    assert (code, err) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"attention.mlir", "tiles.json", "x"}


def test_tune_prints_the_file_and_keeps_what_a_file_has(
    attention: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(capsys, "tune", attention, "--seconds", "0.02")
    assert code == 0
    assert not (tmp_path / "tiles.json").exists()  # without -o nothing is written
    (tmp_path / "tiles.json").write_text(
        out.replace('"cores":', '"cores": 10').replace('"what":"', '"what":"elsewhere, ')
    )
    before = rg.load_tiles(tmp_path / "tiles.json").entries
    code, out, _ = call(capsys, "tune", attention, "--seconds", "0.02", "-o", str(tmp_path / "tiles.json"))
    assert code == 0
    after = rg.load_tiles(tmp_path / "tiles.json")
    assert after.entries[: len(before)] == before
    assert Target.host() in after.targets
    assert "--tiles" in out


def test_what_another_run_wrote_in_the_meantime_stays(
    attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    b = rg.Builder("longer")
    q, k, v = (b.input(label, (1, 310, heads, 8), "f32") for label, heads in (("q", 2), ("k", 1), ("v", 1)))
    longer, file = tmp_path / "longer.mlir", str(tmp_path / "tiles.json")
    longer.write_text(rg.dumps(b.build(out=b.attend(q, k, v, mask=rg.masks.causal))))
    tune = tuning.tune

    def with_another_run(*arguments: Any, **options: Any) -> Iterator[tuning.Outcome]:
        yield from tune(*arguments, **options)
        monkeypatch.setattr(tuning, "tune", tune)
        assert cli.main(["tune", str(longer), "--seconds", "0.02", "-o", file]) == 0

    monkeypatch.setattr(tuning, "tune", with_another_run)
    assert call(capsys, "tune", attention, "--seconds", "0.02", "-o", file)[0] == 0
    lengths = {
        length for entry in rg.load_tiles(file).entries for length in ("300", "310") if f"1x{length}x" in entry.what
    }
    assert lengths == {"300", "310"}
    assert {path.name for path in tmp_path.iterdir()} == {"attention.mlir", "longer.mlir", "tiles.json"}


def test_a_lock_lets_one_at_a_time_read_a_file_and_write_it_again(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")

    def count() -> None:
        for _ in range(20):
            with locked(str(path)):
                write(str(path), str(int(path.read_text()) + 1))

    runs = [threading.Thread(target=count, daemon=True) for _ in range(6)]
    with locked(str(path)):
        for run in runs:
            run.start()
        time.sleep(0.05)
        assert path.read_text() == "0"
    for run in runs:
        run.join(60)
    assert path.read_text() == "120"
    assert [entry.name for entry in tmp_path.iterdir()] == ["count"]


def test_a_file_without_the_shapes_of_a_graph_gives_a_note(
    attention: str, graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, host = str(tmp_path / "tiles.json"), str(Target.host())
    call(capsys, "tune", attention, "--seconds", "0.02", "-o", file)
    code, out, err = call(capsys, "explain", graph, "--target", host, "--tiles", file, "-v")
    assert code == 0
    assert "takes no tile of" in err
    assert out == explain.text(rg.plan(tiny(), host))
    code, out, err = call(capsys, "explain", graph, "--target", "cpu:1023", "--tiles", file)
    assert (code, out) == (2, "")
    assert "none for cpu:1023" in err


def test_a_tile_of_another_compiler_is_a_warning_in_one_line(attention: str, tmp_path: Path) -> None:
    file = tmp_path / "tiles.json"
    assert cli.main(["tune", attention, "--seconds", "0.02", "-o", str(file)]) == 0
    file.write_text(re.sub(r'"jaxlib":"[^"]*"', '"jaxlib":"0.0.1"', file.read_text()))
    said = ropegen("bench", attention, "--tiles", str(file), "--repeats", "1")
    assert said.returncode == 0
    (line,) = said.stderr.splitlines()
    assert line.startswith("warning: the tile ")
    assert "measured with jaxlib 0.0.1, and jaxlib " in line


def test_an_interrupted_tuning_leaves_the_file_as_it_was(
    attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ropegen.tuning.draw", stop)
    code, out, err = call(capsys, "tune", attention, "-o", str(tmp_path / "tiles.json"))
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert {path.name for path in tmp_path.iterdir()} == {"attention.mlir"}


def test_progress_is_a_line_every_so_often_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(seconds=0.02) as say:
        say("planning for cpu")
        time.sleep(0.05)
        say("compiling for tpu:v5e")
        time.sleep(0.2)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert all(re.fullmatch(r"\d+ s: (planning for cpu|compiling for tpu:v5e)", line) for line in lines)
    assert lines[-1].endswith("compiling for tpu:v5e")
    time.sleep(0.05)
    with progress() as say:
        say("done before the first line")
    assert capsys.readouterr().err == ""
