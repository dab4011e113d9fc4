"""What the build adds to pages: pictures, source code by name, tables that scripts wrote, and formulas as MathML.

A page asks for the source of a function, or for a table, by a line of its own:

    {{ twin softmax.softmax }}        that function of fastnn.reference, as it stands in its file
    {{ kernel softmax.softmax_row }}  the same of fastnn.kernels
    {{ results compare }}             what a script wrote to docs/results, or of it the machine and the command,
    {{ results compare: made }}       or the part under a title that begins so
    {{ results compare: Training }}
    {{ results compare: Training / 784-1024|13-64 }}  of that the rows in which a pattern is found
    {{ api Linear relu }}             the docstrings of public names
"""

import ast
import functools
import importlib
import re
from pathlib import Path
from typing import Any

import pictures
from latex2mathml.converter import convert

import fastnn

importlib.import_module("fastnn.interop")
importlib.import_module("fastnn.sklearn")
importlib.import_module("guide_pictures")  # which registers them
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"twin": "reference", "kernel": "kernels"}


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", _draw)
    app.connect("source-read", _fill_in)
    app.connect("autodoc-process-docstring", _readable, priority=1)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _draw(app: Any) -> None:
    pictures.draw_all(Path(app.srcdir) / "pictures")


def _readable(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Formulas as text, and what scikit-learn's docstrings refer to, which is not here, by its name."""
    for i, line in enumerate(lines):
        if ">>>" in line or "``" in line:
            continue
        line = re.sub(r":(?:term|ref):`([^`<]*?)\s*(?:<[^`]*>)?`", r"\1", line) if "sklearn" in name else line
        line = line if "`" in line else re.sub(r"(\w)_(?=\W|$)", r"\1\\_", line)
        lines[i] = line.replace("*=", "\\*=").replace("|", "\\|")


def _fill_in(app: Any, name: str, source: list[str]) -> None:
    source[0] = included(source[0])


def included(markdown: str) -> str:
    """The page with what its lines ask for."""
    markdown = re.sub(r"^\{\{ (twin|kernel) ([\w/]+)\.(\w+) \}\}$", _source, markdown, flags=re.M)
    markdown = re.sub(r"^\{\{ api ([\w. ]+) \}\}$", _documented, markdown, flags=re.M)
    return re.sub(r"^\{\{ results ([\w-]+)(?:: (.+?)(?: / (.+))?)? \}\}$", _results, markdown, flags=re.M)


def source_of(folder: str, module: str, name: str) -> str:
    """A function or class as it stands in its file, decorators included."""
    path = ROOT / "fastnn" / folder / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(f"{path.relative_to(ROOT)} has no {name}")


def _source(match: re.Match[str]) -> str:
    folder = FOLDERS[match[1]]
    code = source_of(folder, match[2], match[3])
    return f":::{{code-block}} python\n:caption: fastnn/{folder}/{match[2]}.py\n\n{code}\n:::"


def _documented(match: re.Match[str]) -> str:
    blocks = []
    for name in match[1].split():
        found = functools.reduce(getattr, name.split("."), fastnn)
        lines = [f".. auto{'class' if isinstance(found, type) else 'function'}:: fastnn.{name}"]
        if isinstance(found, type) and not issubclass(found, Exception) and not name.startswith("sklearn"):
            lines += ["   :members:", "   :inherited-members: object"]
        blocks.append("```{eval-rst}\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(blocks)


def _results(match: re.Match[str]) -> str:
    text = results(match[1], match[2])
    if match[3] is None:
        return text
    head, table = re.split(r"\n\n(?=\|)", text, maxsplit=1)
    names, rule, *rows = table.split("\n\n")[0].splitlines()
    chosen = [row for row in rows if re.search(match[3], row)]
    if not chosen:
        raise LookupError(f"no row of {match[0]!r}")
    return "\n".join([head, "", names, rule, *chosen])


def results(name: str, title: str | None) -> str:
    """What a script wrote, or a part of it."""
    text = (ROOT / "docs" / "results" / f"{name}.md").read_text(encoding="utf-8").strip()
    parts = re.split(r"\n\n(?=[A-Z][^\n|]*[.:]\n\n\|)", text)
    if title is None:
        return text
    found = parts[:1] if title == "made" else [part for part in parts[1:] if part.startswith(title)]
    if not found:
        raise LookupError(f"docs/results/{name}.md has no part {title!r}")
    return "\n\n".join(found)


def _inline(writer: Any, node: Any) -> None:
    writer.body.append(_mathml(node, "inline"))
    raise _skip()


def _block(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="formula">{_mathml(node, "block")}</div>')
    raise _skip()


def _mathml(node: Any, display: str) -> str:
    # Which leaves no room behind the name of a function.
    found: str = convert(node.astext(), display=display)
    return re.sub(r"<mi>(log|max|exp)</mi>", r'<mi>\1</mi><mspace width="0.17em"/>', found)


def _skip() -> Exception:
    from docutils.nodes import SkipNode

    return SkipNode()
