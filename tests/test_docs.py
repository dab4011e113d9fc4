"""The documentation: every block of code runs, and prints what stands below it."""

import contextlib
import importlib
import io
import re
import textwrap
from pathlib import Path

import pytest

import fastnn as fnn
from fastnn import interop

pytest.importorskip("fastnn.sklearn")
DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "```python" in path.read_text(encoding="utf-8"))
# A fence, perhaps within an admonition or a tab, and what it printed where that stands below.
BLOCK = re.compile(
    r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\s*?^(?P=indent)```text\n(?P<text>.*?)^(?P=indent)```\n)?",
    re.M | re.S,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_runs_and_prints_what_stands_below_it(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    names = {"__name__": "docs"}
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        for library in " ".join(re.findall(r"<!-- needs ([\w ]+) -->\n$", text[: block.start()])).split():
            pytest.importorskip(library)  # what comes before it has run
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(textwrap.dedent(block["code"]), str(page), "exec"), names)
        if block["text"] is not None:
            assert_alike(printed.getvalue(), textwrap.dedent(block["text"]))


def assert_alike(printed, shown):
    """Equal, where three dots stand for anything, and ~ before a number for one within a fifth of it."""
    printed, shown = printed.strip(), shown.strip()
    parts = re.split(r"(~-?\d+(?:\.\d+)?|\.\.\.)", shown)
    pattern = "".join(
        ".*?" if part == "..." else r"(-?\d+(?:\.\d+)?)" if part.startswith("~") else re.escape(part) for part in parts
    )
    match = re.fullmatch(pattern, printed, re.S)
    assert match, f"printed:\n{printed}\nshown:\n{shown}"
    about = [float(part[1:]) for part in parts if part.startswith("~")]
    assert [float(number) for number in match.groups()] == pytest.approx(about, rel=0.2), f"printed:\n{printed}"


def test_every_public_name_has_an_example():
    """In the code of the reference, which runs."""
    code = "".join(
        block["code"]
        for page in (DOCS / "api").glob("*.md")
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
    )
    words = set(re.findall(r"\w+", code))
    names = {name for name in fnn.__all__ if name not in ("datasets", "initializers", "schedules")}
    missing = {name for name in names if name not in words and name.removesuffix("_backward") not in words}
    assert not missing
    for module in (fnn.sklearn, fnn.datasets):
        assert not set(module.__all__) - words - {"load_idx"}
    guide = (DOCS / "guide" / "exchange.md").read_text(encoding="utf-8")
    assert not set(interop.__all__) - set(re.findall(r"\w+", guide))


def test_every_public_name_is_documented():
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    documented = {name for line in re.findall(r"\{\{ api (.*) \}\}", pages) for name in line.split()}
    names = {name for name in fnn.__all__ if name not in ("datasets", "initializers", "schedules")}
    assert not (names | {f"interop.{name}" for name in interop.__all__}) - documented


def test_errors_look_like_this(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = fnn.datasets.load_digits()
    model = fnn.Sequential(fnn.Linear(64, 10))
    Path("table.csv").write_text("1,2\n3,4\nfour,6\n")
    page = (DOCS / "internals" / "architecture.md").read_text(encoding="utf-8")
    code = re.search(r"<!-- errors:begin -->\n```py\n(.*?)```", page, re.S)[1]
    pairs = re.findall(r"^(\w.*)\n# ValueError: (.*)$", code, re.M)
    assert len(pairs) == 4
    for statement, message in pairs:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            exec(statement, {"fnn": fnn, "model": model, "X": x, "y": y})


def test_every_formula_has_its_function():
    page = (DOCS / "internals" / "formulas.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| `([\w/]+)\.py` \| (.*) \|$", page, re.M)
    assert len(rows) == len(re.findall(r"^\| ", page, re.M)) - 1
    for file, functions in rows:
        module = importlib.import_module(f"fastnn.reference.{file.replace('/', '.')}")
        for function in re.findall(r"`(\w+)`", functions):
            assert getattr(module, function).__module__ == module.__name__


def test_every_file_has_its_place():
    """Each at the top, and each room."""
    section = (
        (DOCS / "internals" / "architecture.md")
        .read_text(encoding="utf-8")
        .split("| files | what |")[1]
        .split("\n\n")[0]
    )
    named = set(re.findall(r"`([\w/]+)`", "".join(re.findall(r"^\| (.*?) \|", section, re.M))))
    fastnn = Path(fnn.__file__).parent
    files = {path.stem for path in fastnn.glob("*.py")} - {"__init__"}
    rooms = [*fastnn.glob("*/__init__.py"), *fastnn.glob("kernels/*/__init__.py")]
    assert named == files | {f"{path.parent.relative_to(fastnn).as_posix()}/" for path in rooms}
