"""Imports run one way, and importing the core is quick and light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxrepro"

CORE = ("loop", "step", "seeds", "mesh", "checkpoint", "progress", "writers", "metrics", "rng", "experiment")
PAPERS = ("experiments", "models", "evaluators")

# Module or folder of jaxrepro -> what it must never import (a part of jaxrepro, or a package).
FORBIDDEN = {
    **dict.fromkeys(CORE, (*PAPERS, "losses", "layers", "registry", "run", "report", "synbols")),
    "errors": ("jax", "flax", *CORE, *PAPERS),
    "durations": ("jax", "flax", *CORE, *PAPERS),
    "config": ("jax", "flax", *CORE, *PAPERS),
    "models": ("config", "data", "optim", "losses", "experiments", "evaluators", *CORE),
    "layers": ("config", "data", "optim", "losses", "models", "experiments", "evaluators", *CORE),
    "losses": ("models", "layers", "config", "data", "experiments", "loop"),
    "data": ("flax", "models", "layers", "experiments", "evaluators", "loop", "step", "config"),
    "synbols": ("jax", "flax", "tensorflow", "tensorflow_datasets", "data", *CORE, *PAPERS),
    "experiments": ("loop", "step", "checkpoint", "run", "registry", "report", "mesh"),
    "evaluators": ("loop", "step", "experiments", "models", "report"),
    "report": ("loop", "step", "jax", "flax", *PAPERS),
}
ALLOWED = {"synbols/tfds_builder.py": ("tensorflow_datasets",)}  # a module of its own, for those who have TFDS
LEAVES = ("jaxrepro.report.style",)  # imports nothing of the project: whoever draws may use it
EVERYWHERE = ("launch", "configs", "tests")  # nobody imports these
INSIDE_FUNCTIONS = (
    "tensorflow_datasets",
    "tensorflow",
    "cairo",
    "matplotlib",
    "h5py",
    "PIL",
    "fontTools",
    "grain",
    "jinja2",
)


def imports(path, *, top_level_only):
    """Yields every imported name of a file; `from a import b` gives a.b."""
    tree = ast.parse(path.read_text())
    type_checking = {
        n for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)
    }
    inner = (
        {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
        if top_level_only
        else set()
    )
    for node in ast.walk(tree):
        if node in type_checking or node in inner:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_nothing_above_it(path):
    allowed = ALLOWED.get(str(path.relative_to(PACKAGE)), ())
    forbidden = set(FORBIDDEN.get(part_of(path), ())) - set(allowed)
    for name in imports(path, top_level_only=False):
        if name.startswith(LEAVES):
            continue
        top, _, rest = name.partition(".")
        assert top not in EVERYWHERE, name
        part = rest.split(".")[0] if top == "jaxrepro" else top
        assert part not in forbidden, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf_imports_nothing_of_the_project(name):
    path = ROOT / (name.replace(".", "/") + ".py")
    assert not [n for n in imports(path, top_level_only=False) if n.startswith("jaxrepro")]


def test_experiments_do_not_import_each_other():
    for path in (PACKAGE / "experiments").glob("*.py"):
        assert not [n for n in imports(path, top_level_only=False) if n.startswith("jaxrepro.experiments")], path


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_packages_are_imported_inside_the_functions_that_use_them(path):
    heavy = [n for n in imports(path, top_level_only=True) if n.split(".")[0] in INSIDE_FUNCTIONS]
    assert not heavy, f"{path.relative_to(ROOT)} imports {heavy} at its top"


def test_importing_the_package_brings_nothing_with_it():
    code = "import sys, jaxrepro; print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_core_works_without_the_heavy_packages():
    block = "import sys\nfor n in " + repr(INSIDE_FUNCTIONS) + ": sys.modules[n] = None\n"
    code = block + "import jaxrepro.loop, jaxrepro.layers, jaxrepro.data, jaxrepro.experiments.yoto, launch"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
