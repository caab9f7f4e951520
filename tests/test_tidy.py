"""The house style, enforced: layers, purity, sizes, words, and documented SQL, Lua and settings."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from sys import stdlib_module_names

import msgspec
import pytest

from metering.cli import COMMANDS
from metering.cli import MODULES as CALLED
from metering.settings import Settings, variable

ROOT = Path(__file__).parent.parent
MODULES = sorted(p for top in ("pricing", "metering", "sql") for p in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROSE = sorted(
    path
    for pattern in ("*.md", "*.toml", "Makefile", ".ci/*", ".github/**/*.yml", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 400
README_LINES_MAX = 170

# Low to high. A module imports from its own entry and from the rows below it, never sideways or up.
LAYERS: list[set[str]] = [
    {
        "pricing",
        "sql",
        "metering.errors",
        "metering.settings",
        "metering.client",
        "metering.children",
        "metering.programs",
    },
    {"metering.core"},
    {"metering.providers", "metering.surfaces", "metering.translate"},
    {
        "metering.redis",
        "metering.store",
        "metering.upstream",
        "metering.tokens",
        "metering.audio",
        "metering.keyring",
        "metering.spool",
        "metering.embedded",
    },
    {
        "metering.ledger",
        "metering.directory",
        "metering.replays",
        "metering.responses",
        "metering.vault",
    },
    {"metering.meter"},
    {"metering.duties"},
    {"metering.proxy", "metering.api", "metering.web"},
    {"metering.app"},
    {"metering.cli", "metering.__main__"},
]
ABOVE_ALL = {"metering.__main__": "metering.cli"}
"""The one step sideways: `python -m metering` is the command line."""

# Each outside library has its homes; everywhere else: the standard library, msgspec, structlog.
HOMES: dict[str, set[str]] = {
    "httptools": {"metering.app", "metering.upstream"},
    "asyncpg": {"metering.store"},
    "click": {"metering.cli"},
    "cryptography": {"metering.core"},
    "hiredis": {"metering.redis"},
    "idna": {"metering.core"},
    "httpx": {"metering.upstream", "metering.client", "metering.proxy"},
    "multipart": {"metering.providers"},
    "litestar": {"metering.api", "metering.web", "metering.app", "metering.proxy"},
    "prometheus_client": {"metering.api", "metering.app"},
    "redis": {"metering.redis"},
    "rich": {"metering.cli"},
    "rich_click": {"metering.cli"},
    "sql": {"metering.store"},
    "tiktoken": {"metering.tokens"},
    "tinytag": {"metering.audio"},
    "uvicorn": {"metering.app"},
    "uvloop": {"metering.app", "metering.cli"},
}
FREE = {"metering", "pricing", "msgspec", "structlog"}
PURE = {
    "pricing",
    "sql",
    "metering.core",
    "metering.providers",
    "metering.surfaces",
    "metering.translate",
}
IMPURE_ON_PURPOSE = {"pricing.load", "pricing.fetch", "pricing.update"}
"""Reading the catalogue's files, getting its sources, and bringing it up to date."""
IMPURE_NAMES = {"asyncio", "logging", "os", "random", "secrets", "socket", "subprocess", "time"}
IMPURE_CALLS = {"open", "print", "input", "uuid4", "uuid.uuid4", "uuid1", "uuid.uuid1"}
CLOCKS = (".now", ".utcnow", ".today")

MONEY = {
    *(
        f"metering.core.{name}"
        for name in (
            "money",
            "limits",
            "books",
            "rules",
            "estimate",
            "prices",
            "record",
            "result",
            "repricing",
        )
    ),
    *("pricing", "pricing.book", "pricing.cost", "pricing.rates", "pricing.units"),
    *("pricing.catalogue", "pricing.merge", "pricing.sources", "pricing.load"),
    *("pricing.changes", "pricing.comparison", "pricing.gaps", "pricing.listed"),
    *("pricing.genai", "pricing.litellm", "pricing.portkey", "pricing.validation"),
}
VAGUE = {"utils", "util", "helpers", "common", "types", "misc"}
ENTRY_POINTS = {
    "metering.__main__",
    "pricing.update",
    *(f"metering.cli.{CALLED.get(it, it)}" for it in COMMANDS),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text())


def entry_of(name: str) -> str | None:
    """The layer entry that owns a module: the longest listed prefix of its name."""
    owners = [it for row in LAYERS for it in row if name == it or name.startswith(it + ".")]
    return max(owners, key=len, default=None)


def row_of(entry: str) -> int:
    """The row of an entry, 0 the lowest."""
    return next(number for number, row in enumerate(LAYERS) if entry in row)


def imports(tree: ast.Module) -> Iterator[str]:
    """The dotted names a module imports, with the imported member last."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def functions(tree: ast.AST) -> Iterator[Function]:
    """All functions, nested ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def public(
    tree: ast.Module | ast.ClassDef, prefix: str
) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """The public functions, classes and methods of a module, by name."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node, f"{prefix}.{node.name}")


@pytest.fixture(params=MODULES, ids=name_of)
def module(request: pytest.FixtureRequest) -> tuple[str, Path, ast.Module]:
    """Each module of the product: name, path, tree."""
    return name_of(request.param), request.param, tree_of(request.param)


def test_imports_point_downwards(module: tuple[str, Path, ast.Module]) -> None:
    """A module imports only from its own entry of the map and from the rows below."""
    name, _, tree = module
    here = entry_of(name)
    if name == "metering":
        assert not list(imports(tree)) or list(imports(tree)) == ["__future__.annotations"]
        return
    assert here, f"{name} is in no layer"
    for target in imports(tree):
        there = entry_of(target)
        if there and there != here and ABOVE_ALL.get(here) != there:
            assert row_of(there) < row_of(here), f"{name} imports {target}"


def test_each_library_has_its_home(module: tuple[str, Path, ast.Module]) -> None:
    """An outside library is imported where it lives and nowhere else; a new one needs a home."""
    name, _, tree = module
    for target in imports(tree):
        top = target.split(".")[0]
        if top in HOMES:
            assert entry_of(name) in HOMES[top] | {top}, f"{name} imports {target}"
        else:
            assert top in FREE or top in stdlib_module_names, (
                f"{top} has no home: {name} imports it"
            )


def test_the_core_does_no_io(module: tuple[str, Path, ast.Module]) -> None:
    """The pure rows have no clock, no randomness, no await, no files and no module state."""
    name, _, tree = module
    if entry_of(name) not in PURE or name in IMPURE_ON_PURPOSE:
        return
    assert not {target.split(".")[0] for target in imports(tree)} & IMPURE_NAMES
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Global)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, waits)]
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not {call for call in calls if call in IMPURE_CALLS or call.endswith(CLOCKS)}


def test_only_settings_read_the_environment(module: tuple[str, Path, ast.Module]) -> None:
    """`os.environ` has one reader, so that one page can list all settings."""
    name, path, _ = module
    if name != "metering.settings":
        assert not re.search(r"\b(os\.environ|getenv|from os import environ)\b", path.read_text())


def test_money_is_never_a_float(module: tuple[str, Path, ast.Module]) -> None:
    """Where money is, there is no float: no literal, no conversion, no annotation."""
    name, _, tree = module
    if name not in MONEY:
        return
    for node in ast.walk(tree):
        literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
        assert not literal, f"{name}:{node.lineno} has a float"  # type: ignore[attr-defined]
        called = isinstance(node, ast.Name) and node.id == "float"
        assert not called, f"{name}:{node.lineno} says float"  # type: ignore[attr-defined]


def test_modules_and_functions_fit(module: tuple[str, Path, ast.Module]) -> None:
    """What does not fit on a few screens is two things."""
    name, path, tree = module
    lines = path.read_text().count("\n")
    assert lines <= MODULE_LINES_MAX, f"{name} is {lines} lines"
    for node in functions(tree):
        lines = (node.end_lineno or 0) - node.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{name}.{node.name} is {lines} lines"


def test_everything_public_is_documented(module: tuple[str, Path, ast.Module]) -> None:
    """Every module and every public class, function and method says what it is."""
    name, _, tree = module
    assert ast.get_docstring(tree), f"{name} says nothing about itself"
    silent = [it for it, node in public(tree, name) if not ast.get_docstring(node)]
    assert not silent


def test_everything_is_annotated(module: tuple[str, Path, ast.Module]) -> None:
    """Every parameter and every result has a type."""
    name, _, tree = module
    for node in functions(tree):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += [it for it in (node.args.vararg, node.args.kwarg) if it]
        bare = [it.arg for it in arguments if not it.annotation and it.arg not in {"self", "cls"}]
        assert not bare, f"{name}.{node.name}: {bare}"
        assert node.returns, f"{name}.{node.name} does not say what it returns"


def test_names_say_what_a_module_is_for() -> None:
    """A thing lives with the rule that uses it, not in a drawer."""
    assert not [path for path in MODULES if path.stem in VAGUE]


def test_no_module_is_dead() -> None:
    """Every module is imported by another, or is where a program starts."""
    used = {(name_of(path), target) for path in MODULES for target in imports(tree_of(path))}
    for name in {name_of(path) for path in MODULES} - ENTRY_POINTS:
        importers = {by for by, target in used if target == name or target.startswith(name + ".")}
        assert importers - {name}, f"nobody imports {name}"


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_states_its_rule(path: Path) -> None:
    """A test's docstring is the rule it proves; seams are used instead of mocks."""
    tests = [it for it in functions(tree_of(path)) if it.name.startswith("test_")]
    assert not [it.name for it in tests if not ast.get_docstring(it)]
    assert not [it for it in imports(tree_of(path)) if it.startswith("unittest.mock")]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "metering/redis/lua").glob("*.lua")), ids=lambda path: path.stem
)
def test_lua_scripts_state_their_contract(path: Path) -> None:
    """The comment a script begins with states its keys, its arguments and what it returns."""
    lines = path.read_text().splitlines()
    length = next((i for i, line in enumerate(lines) if not line.startswith("--")), len(lines))
    header = "\n".join(lines[:length])
    for word in ("KEYS", "ARGV", "Returns"):
        assert word in header, f"{path.name} does not state {word}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "sql/queries").glob("*.sql")), ids=lambda path: path.stem
)
def test_queries_are_named_and_described(path: Path) -> None:
    """Every query has a name and, in the next line, a description."""
    heads = re.findall(r"^-- ([a-z_]+) --\n(-- .+)?", path.read_text(), re.MULTILINE)
    assert heads
    assert all(description for _, description in heads)


@pytest.mark.parametrize("path", [*MODULES, *TESTS, *PROSE], ids=lambda path: str(path.name))
def test_files_speak_of_the_project_alone(path: Path) -> None:
    """No file names a directory of the machine it was written on, or where packages come from."""
    places = "work|root|home/[a-z]|opt/[a-z]"
    hosts = "|".join(("pypi" + r"\.org", "python" + "hosted", "registry" + r"\.npmjs"))
    found = re.search(rf"(?<![\w.~/])/({places})/|{hosts}", path.read_text())
    assert not found, found


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=lambda path: path.stem)
def test_locks_are_exact_and_hashed(path: Path) -> None:
    """Every requirement is one version with its hashes; where to get it is the user's business."""
    text = path.read_text()
    assert "://" not in text
    for entry in re.split(r"\n(?=\S)", text.strip()):
        if not entry.startswith("#"):
            assert re.match(r"[a-z0-9-]+(\[[a-z0-9,]+\])?==\S+", entry), entry.splitlines()[0]
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_lock_of_node_is_exact_and_hashed() -> None:
    """Likewise of the packages for Node, which come from wherever npm is told to look."""
    text = (ROOT / "tests/acceptance/node/package-lock.json").read_text()
    assert "resolved" not in text
    packages = json.loads(text)["packages"]
    wanted = json.loads((ROOT / "tests/acceptance/node/package.json").read_text())["dependencies"]
    assert packages.pop("")["dependencies"] == wanted
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
    for name, version in wanted.items():
        assert packages[f"node_modules/{name}"]["version"] == version


def test_every_setting_is_documented() -> None:
    """`docs/configuration.md` lists exactly the settings there are, under the variables' names."""
    page = (ROOT / "docs/configuration.md").read_text()
    listed = set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE))
    assert listed == {variable(field.name) for field in msgspec.structs.fields(Settings)}


def test_the_readme_is_short() -> None:
    """A newcomer reads it in three minutes."""
    assert (ROOT / "README.md").read_text().count("\n") <= README_LINES_MAX


def test_every_target_has_help() -> None:
    """`make` lists what can be made, so every target says what it does."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
