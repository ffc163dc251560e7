"""Data flows one way: a module imports only from those above it in this list."""

import ast
from collections.abc import Collection
from pathlib import Path

import pytest

import veo_async

ROOT = Path(veo_async.__file__).parent

LAYERS = [
    "_version",
    "errors",
    "models",
    "request",
    "prices",
    "settings",
    "results",
    "events",
    "protocol.lifecycle",
    "protocol.dialect",
    "protocol.http",
    "protocol.reading",
    "protocol.remedies",
    "protocol.envelope",
    "protocol.codec",
    "protocol.callbacks",
    "protocol.retry",
    "protocol.images",
    "protocol.uploads",
    "protocol.jobs",
    "protocol.backlog",
    "protocol.polling",
    "protocol.timetable",
    "protocol.ranges",
    "protocol.mp4",
    "protocol.slots",
    "ownership",
    "guard",
    "inlet",
    "transport",
    "api",
    "lockfile",
    "limits",
    "broker",
    "membership",
    "integrations",
    "integrations.processes",
    "integrations.redis_script",
    "integrations.redis",
    "submit",
    "task",
    "upgrade",
    "upload",
    "images",
    "files",
    "transfer",
    "streaming",
    "download",
    "renewal",
    "inbox_file",
    "inbox",
    "integrations.redis_inbox",
    "hearing",
    "webhooks",
    "configuration",
    "runtime",
    "films",
    "paying",
    "jobs",
    "outputs",
    "store",
    "database",
    "journal_file",
    "shared",
    "settling",
    "pauses",
    "journal",
    "entries",
    "accounts",
    "noting",
    "fetching",
    "production",
    "floor",
    "earlier",
    "feed",
    "batch",
    "workshop",
    "keyed",
    "integrations.postgres_store",
    "integrations.postgres",
    "engine",
    "client",
    "integrations.pgqueuer_queue",
    "integrations.pgqueuer",
    "integrations.telemetry_traces",
    "integrations.telemetry_metrics",
    "integrations.opentelemetry",
    "lanes",
    "gallery",
    "simulator",
    "conformance",
    "testing",
    "cli",
]
# The protocol takes time and randomness as arguments and touches nothing outside.
NOT_IN_THE_PROTOCOL = {"asyncio", "time", "random", "os", "socket", "anyio", "aiohttp", "aiofiles"}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    name = ".".join(part for part in parts if part != "__init__")
    for package in ("simulator", "cli"):
        if name == package or name.startswith(package + "."):
            return package
    return name


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_those_above_it(path):
    name = name_of(path)
    if name == "protocol":
        assert not imports_of(path)
        return
    assert name in LAYERS, f"{name} has no place in the list"
    allowed = set(LAYERS[: LAYERS.index(name) + (name in {"simulator", "cli"})])
    for imported in imports_of(path):
        if not imported.startswith("veo_async."):
            continue
        layers = {layer for layer in LAYERS if f"veo_async.{layer}" == imported}
        inside = {layer for layer in LAYERS if imported.startswith(f"veo_async.{layer}.")}
        assert (layers | inside) <= allowed, f"{name} imports {imported}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "protocol").glob("*.py")), ids=lambda path: path.stem
)
def test_the_protocol_does_no_io(path):
    top = {imported.partition(".")[0] for imported in imports_of(path)}
    assert not top & NOT_IN_THE_PROTOCOL


@pytest.mark.parametrize(
    "path", sorted((ROOT / "simulator").glob("*.py")), ids=lambda path: path.stem
)
def test_the_simulator_knows_nothing_of_the_client(path):
    ours = {imported for imported in imports_of(path) if imported.startswith("veo_async")}
    assert all(imported.startswith("veo_async.simulator") for imported in ours)


def modules_of(path: Path, known: Collection[str]) -> set[str]:
    """Return the modules that a file imports; `from package import module` is the module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & {*known}
            found |= inside or {node.module or ""}
    return found & {*known}


def test_no_two_files_need_each_other():
    files = {f"veo_async.{'.'.join(p.relative_to(ROOT).with_suffix('').parts)}": p for p in MODULES}
    files = {name.removesuffix(".__init__"): path for name, path in files.items()}
    needs = {name: modules_of(path, files.keys()) - {name} for name, path in files.items()}
    while leaves := {name for name, needed in needs.items() if not needed & needs.keys()}:
        for name in leaves:
            del needs[name]
    assert not needs, f"a circle runs through {sorted(needs)}"


def test_every_layer_exists():
    names = {name_of(path) for path in MODULES}
    assert set(LAYERS) <= names | {"simulator", "cli"}
