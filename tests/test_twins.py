"""The two backends are twins, and imports point one way."""

import ast
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn
from fastnn import kernels, reference

PACKAGE = Path(fastnn.__file__).parent
# A module may import from its own line and from those below it.
LAYERS = [
    "__main__ warmup",
    "commands",
    "interop",
    "__init__ sklearn",
    "tools model_files",
    "ensemble members",
    "model",
    "serialization training",
    "nn",
    "ops",
    "backend datasets transaction",
    "kernels reference",
    "schedules initializers",
    "codes loading precision validation errors files npz tables chunks libraries",
]
# So too the rooms of the kernels, between which stands what has a file of its own: the operations.
ROOMS = [
    "__init__",
    "lanes",
    "side_by_side",
    "network",
    "*",
    "operations",
    "entries builtin given",
    "registry gemm threading",
    "simd",
    "compiler",
]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def module_name(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts)


def imports(path):
    """The full names of the modules that a file imports when it runs; those for type checkers alone do not count."""
    found = []
    package = path.relative_to(PACKAGE.parent).parent.parts
    nodes = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [".".join([*base, name]) for name in names]
    return found


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_both_twins_export_the_same_names():
    assert sorted(kernels.__all__) == sorted(reference.__all__)
    assert list(reference.__all__) == sorted(reference.__all__)


@pytest.mark.parametrize("name", reference.__all__)
def test_signatures_agree(name):
    assert parameters(getattr(kernels, name)) == parameters(getattr(reference, name))


@pytest.mark.parametrize("name", reference.__all__)
def test_both_twins_live_in_files_of_the_same_name(name):
    files = [Path(inspect.getsourcefile(inspect.unwrap(getattr(twin, name)))) for twin in (kernels, reference)]
    assert files[0].relative_to(PACKAGE / "kernels") == files[1].relative_to(PACKAGE / "reference")


@pytest.mark.parametrize("path", sorted((PACKAGE / "reference").rglob("*.py")), ids=module_name)
def test_the_reference_imports_numpy_the_standard_library_and_itself_alone(path):
    assert [
        name
        for name in imports(path)
        if name not in ("importlib", "math", "numpy", "time")
        and not name.startswith(("fastnn.reference", "fastnn.codes"))
    ] == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").rglob("*.py")), ids=module_name)
def test_kernels_import_no_other_part_of_fastnn_but_what_imports_nothing_of_it(path):
    allowed = "fastnn.kernels", "fastnn.loading", "fastnn.codes", "fastnn.precision"
    assert [name for name in imports(path) if name.startswith("fastnn") and not name.startswith(allowed)] == []
    for file in ("loading.py", "codes.py"):
        assert [name for name in imports(PACKAGE / file) if name.startswith("fastnn")] == []


@pytest.mark.parametrize("path", [path for path in SOURCES if "kernels" not in path.parts], ids=module_name)
def test_numba_is_imported_by_the_kernels_alone(path):
    assert [name for name in imports(path) if name.split(".")[0] in ("numba", "llvmlite")] == []


def upwards(path, layers, package):
    """What a file of a package imports of the lines above its own."""
    depth = {name: i for i, line in enumerate(layers) for name in line.split()}
    places = [name.split(".")[len(package)] for name in imports(path) if name.startswith(".".join(package) + ".")]
    own, *others = (depth.get(place, depth.get("*")) for place in [place_in(path, package), *places])
    return [place for place, line in zip(places, others, strict=True) if line < own]


def place_in(path, package):
    return path.relative_to(PACKAGE.parent.joinpath(*package)).with_suffix("").parts[0]


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_imports_point_down_the_layers(path):
    assert upwards(path, LAYERS, ["fastnn"]) == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernels").rglob("*.py")), ids=module_name)
def test_imports_point_down_the_rooms_of_the_kernels(path):
    assert upwards(path, ROOMS, ["fastnn", "kernels"]) == []


def test_imports_run_in_no_circle():
    modules = {module_name(path).removesuffix(".__init__"): path for path in SOURCES}
    graph = {name: {target for target in imports(path) if target in modules} - {name} for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_importing_fastnn_imports_numpy_alone():
    """In a fresh interpreter: the one that runs the tests has loaded the others."""
    heavy = {"numba", "llvmlite", "scipy", "sklearn", "matplotlib"}
    code = f"import sys, fastnn; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert result.stdout.strip() == "[]"
