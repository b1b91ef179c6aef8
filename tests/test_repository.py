"""Files that must agree with each other: the lock, the licences, the metadata and what git holds."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MANIFEST = tomllib.loads((ROOT / "third_party" / "manifest.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
EXTRAS = PROJECT["optional-dependencies"]


def name_of(requirement: str) -> str:
    """Returns the normalised name of a requirement: "tensorboardX>=2.6" -> "tensorboardx"."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def tracked_files() -> list[Path]:
    git = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_lock_pins_every_dependency_that_the_commands_install():
    pinned = {name_of(line) for line in LOCK.splitlines() if line[:1].isalnum()}
    wanted = {name_of(r) for r in PROJECT["dependencies"] + EXTRAS["dev"]}
    assert wanted - pinned == set()


@pytest.mark.parametrize("name", ["requirements.lock", ".ci/tools.lock", ".ci/build.lock"])
def test_every_line_of_a_lock_is_pinned_with_hashes_and_names_no_index(name):
    lock = (ROOT / name).read_text()
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all(re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", e) and "--hash=sha256:" in e for e in entries)
    assert "://" not in lock
    assert "file:" not in lock


def test_what_installs_and_builds_is_pinned_too():
    install = (ROOT / ".ci" / "install").read_text()
    commands = [line for line in install.splitlines() if re.match(r'"\$\{(pip|uv)\[@\]\}"', line)]
    assert len(commands) == 3
    assert all("--require-hashes" in line or "--no-deps -e ." in line for line in commands)
    assert "--build-constraint .ci/build.lock" in install
    built = {name_of(line) for line in (ROOT / ".ci" / "build.lock").read_text().splitlines() if line[:1].isalnum()}
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {name_of(r) for r in pyproject["build-system"]["requires"]} <= built


def test_pins_satisfy_the_lower_bounds_of_pyproject():
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([\w.]+)", LOCK, flags=re.MULTILINE):
        versions.setdefault(name_of(name), []).append(version)

    def parts(version: str) -> list[int]:
        return [int(p) for p in re.findall(r"\d+", version)]

    for requirement in PROJECT["dependencies"] + EXTRAS["dev"]:
        if bound := re.search(r">=([\d.]+)", requirement):
            assert all(parts(v) >= parts(bound[1]) for v in versions[name_of(requirement)]), requirement


def test_every_font_has_a_licence_that_allows_redistribution():
    fonts = {f["package"]: f for f in MANIFEST["fonts"]}
    wanted = {name_of(r) for r in PROJECT["dependencies"] + EXTRAS["fonts"] if r.startswith("fontpkg-")}
    assert wanted == set(fonts)
    assert {f["licence"] for f in fonts.values()} <= {"OFL-1.1", "Apache-2.0"}
    assert all(f["copyright"] for f in fonts.values())


def test_every_other_package_has_a_licence():
    listed = {name_of(p["name"]) for p in MANIFEST["packages"] if p["licence"]}
    wanted = {name_of(r) for r in PROJECT["dependencies"] + [r for extra in EXTRAS.values() for r in extra]}
    assert {name for name in wanted if not name.startswith("fontpkg-")} - listed == set()


def test_installed_fonts_state_the_licence_of_the_manifest():
    from importlib.metadata import PackageNotFoundError, metadata

    checked = 0
    for font in MANIFEST["fonts"]:
        try:
            installed = metadata(font["package"])
        except PackageNotFoundError:
            continue  # the extra `fonts` is not installed
        assert installed["License-Expression"] == font["licence"], font["package"]
        checked += 1
    assert checked >= 10


def test_version_and_licence_agree_everywhere():
    from jaxrepro import __version__

    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {PROJECT['version']}\n" in citation
    assert __version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nlicense: {PROJECT['license']}\n" in citation
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_no_file_names_a_home_folder_or_a_package_index():
    # "someone" is the user of the tests; the brackets keep this line from finding itself.
    forbidden = re.compile(r"(?<![\w.:/])/(?:home/(?!someone)|root/|Users/|work/)\w|\bpypi[.]org")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in forbidden.finditer(text)]
    assert found == []


def test_no_large_file_is_in_the_repository():
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked_files() if p.stat().st_size > 1_000_000}
    assert large == {}
