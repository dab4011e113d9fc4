"""What the build of the documentation adds to the pages: pictures, source code by name, formulas, measured tables.

A page asks for it by a line of its own:

    {{ twin softmax.softmax }}        the function of fastnn.reference of that name, as it stands in the source
    {{ kernel softmax._map }}         the same of fastnn.kernels
    {{ results compare training }}    the table that a script wrote to docs/results

and writes formulas between dollar signs, which become MathML, so that nothing has to be loaded to show them.
"""

import ast
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(^```.*?^```$|`[^`\n]*`)", re.M | re.S)


def on_pre_build(config: Any) -> None:
    """Draw all pictures, each by a function of ``pictures.py``."""
    pictures().draw_all(Path(config.docs_dir) / "pictures")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what a page asks for."""
    return formulas(included(markdown))


def included(markdown: str) -> str:
    """The page with source code and tables in the place of the lines that ask for them."""
    markdown = re.sub(r"^\{\{ (twin|kernel) ([\w/]+)\.(\w+) \}\}$", _source_of, markdown, flags=re.M)
    return re.sub(r"^\{\{ results ([\w-]+) \}\}$", _results, markdown, flags=re.M)


def source_of(folder: str, module: str, name: str) -> str:
    """A function or class as it stands in its file, decorators included."""
    path = ROOT / "fastnn" / folder / f"{module}.py"
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(f"{path.relative_to(ROOT)} has no {name}")


def _source_of(match: re.Match[str]) -> str:
    folder = {"twin": "reference", "kernel": "kernels"}[match[1]]
    title = f"fastnn/{folder}/{match[2]}.py"
    return f'```python title="{title}"\n{source_of(folder, match[2], match[3])}\n```'


def _results(match: re.Match[str]) -> str:
    return (ROOT / "docs" / "results" / f"{match[1]}.md").read_text(encoding="utf-8").strip()


def formulas(markdown: str) -> str:
    """The page with MathML in the place of $...$, outside code."""
    parts = FENCE.split(markdown)
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r"\$\$(.+?)\$\$", lambda m: _mathml(m[1], "block"), parts[i], flags=re.S)
        parts[i] = re.sub(r"(?<![\\$])\$([^$\n]+?)\$", lambda m: _mathml(m[1], "inline"), parts[i])
    return "".join(parts)


def _mathml(latex: str, display: str) -> str:
    return convert(latex.strip(), display=display)


def pictures() -> ModuleType:
    """The module that draws."""
    path = Path(__file__).with_name("pictures.py")
    spec = importlib.util.spec_from_file_location("docs_pictures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_pictures"] = module
    spec.loader.exec_module(module)
    return module
