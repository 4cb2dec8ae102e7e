"""Rules that keep the package simple: layers, registries, sizes of signatures, docstrings."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import cascjax

PACKAGE = Path(cascjax.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = (
    "words", "errors", "caches", "interrupts", "results", "data", "features", "importers",
    "synthetic", "core", "estimators", "strategies", "metrics", "engine.devices", "engine.blocks",
    "engine.simulate", "engine.checkpoint", "search", "engine", "comparison", "policy_file",
    "policy", "fitting", "evaluation", "tuning", "diagnosis", "plots", "report", "cli",
)  # fmt: skip
"""Packages and modules in the order in which they may import each other: only earlier ones. Of the
engine, what runs the core over blocks and devices lies below the searches, the two passes above."""

CORE_IMPORTS = {"jax", "numpy", "jaxtyping", "scipy"}
"""scipy draws the Sobol points of E[max] with correlated estimates, once per shape, on the host."""


def module(path: Path) -> str:
    """Return the dotted name of a file below the package, "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path, *, lazy: bool = True) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, those under TYPE_CHECKING included."""
    nodes = ast.walk(tree(path)) if lazy else tree(path).body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def layer(name: str) -> str:
    """Return the layer of a module: itself if it is listed by its full name, else its package."""
    listed = ".".join(name.split(".")[:2])
    return listed if listed in LAYERS else name.split(".")[0]


def test_imports_go_from_later_layers_to_earlier_ones() -> None:
    wrong = []
    for path in FILES:
        here = layer(module(path))
        if here in ("", "__main__"):
            continue  # the package re-exports lazily
        for line, name in imports(path):
            there = layer(name.removeprefix("cascjax."))
            if not name.startswith("cascjax.") or there not in LAYERS:
                continue
            if LAYERS.index(there) > LAYERS.index(here):
                wrong.append(f"{module(path)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_there_is_no_import_cycle() -> None:
    known = {module(path): path for path in FILES}

    def target(name: str) -> str | None:
        name = name.removeprefix("cascjax.")
        while name and name not in known:
            name = name.rpartition(".")[0]
        return name or None

    graph = {
        name: {
            found
            for _, imported in imports(path)
            if imported.startswith("cascjax.") and (found := target(imported)) and found != name
        }
        for name, path in known.items()
        if name
    }
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if state.get(name) == 2:
            return
        assert state.get(name) != 1, " -> ".join((*trail[trail.index(name) :], name))
        state[name] = 1
        for following in sorted(graph[name]):
            visit(following, (*trail, name))
        state[name] = 2

    for name in graph:
        visit(name, ())


def test_core_imports_only_jax_numpy_and_jaxtyping() -> None:
    wrong = [
        f"{module(path)}:{line} imports {name}"
        for path in (PACKAGE / "core").glob("*.py")
        for line, name in imports(path)
        if not name.startswith("cascjax.core")
        and layer(name) not in CORE_IMPORTS | set(sys.stdlib_module_names)
        and not name.startswith("cascjax.errors")
    ]
    assert not wrong, "\n".join(wrong)


def concrete_names() -> dict[str, str]:
    """Return class names and registered names of strategies and learned estimators, by folder."""
    from cascjax.strategies import STRATEGIES

    names = {kind.__name__: "strategies" for kind in STRATEGIES.values()}
    return names


def test_concrete_strategies_are_named_in_their_folder_only() -> None:
    names = concrete_names()
    wrong = []
    for path in FILES:
        here = module(path)
        if layer(here) in ("strategies", ""):
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Name | ast.Attribute):
                name = node.id if isinstance(node, ast.Name) else node.attr
                if name in names:
                    wrong.append(f"{here}:{node.lineno} names {name}")
    assert not wrong, "\n".join(wrong)


def test_only_the_command_line_knows_options_and_click() -> None:
    wrong = []
    for path in FILES:
        if layer(module(path)) in ("cli", "__main__"):
            continue
        wrong += [
            f"{module(path)}:{line} imports click"
            for line, name in imports(path)
            if layer(name) in ("click", "rich_click")
        ]
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                # Not the custom properties of a style sheet, as in var(--ink).
                option = re.search(r"(?<![\w(-])--[a-z][a-z-]+(?!:|\))", node.value)
                if option:
                    wrong.append(f"{module(path)}:{node.lineno} mentions {option[0]}")
    assert not wrong, "\n".join(wrong)


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module(path)}:{node.lineno} {node.name}", node


def test_no_function_has_more_than_ten_parameters() -> None:
    wide = []
    for where, node in functions():
        arguments = node.args
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        count = len([argument for argument in named if argument.arg not in ("self", "cls")])
        if count > 10:
            wide.append(f"{where}: {count}")
    assert not wide, "\n".join(wide)


@pytest.mark.parametrize("name", cascjax.__all__)
def test_public_names_are_documented(name: str) -> None:
    documented = getattr(cascjax, name)
    if not callable(documented):
        return
    text = documented.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    assert ">>>" in text, f"{name} has no example"


def test_dir_shows_the_public_names() -> None:
    assert set(cascjax.__all__) <= set(dir(cascjax))


def test_import_of_the_package_loads_neither_jax_nor_pyarrow() -> None:
    code = (
        "import sys, cascjax; loaded = {'jax', 'pyarrow', 'pandas', 'scipy', 'sklearn'} &"
        " set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
