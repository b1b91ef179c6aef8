"""Fonts that look alike, as a text file for a person to edit.

    write_list("similar.txt", find_fonts())
    fonts = find_fonts().without(read_list("similar.txt"))

A dataset whose label is the font needs fonts that can be told apart. The paper trains a classifier of fonts on rendered
letters, takes the mean embedding of each font, and joins near ones by Ward's method; the released list stops after 100
merges and keeps one font of each cluster. Here an embedding is, by default, made of the letters themselves: each scaled
so that its longer side fills a small picture, as datasets show them. That needs no training and no GPU; a classifier's
embeddings may be given instead, such as `python launch.py --config=configs/synbols_fonts.py` keeps.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxrepro.errors import UserError
from jaxrepro.synbols.checks import number
from jaxrepro.synbols.fonts.discovery import FontSet
from jaxrepro.synbols.fonts.faces import Font, code_points, text_outline

CELL = 16  # pixels per side of one letter's picture
# Ward's distance between pictures, in units of the root mean square difference of pixel values in 0 to 1.
MAX_DISTANCE = 0.1


def embed(fonts: Sequence[Font], symbols: Sequence[str]) -> np.ndarray:
    """Returns the letters of each font as one vector, float32 [N, len(symbols) * CELL²].

    The Euclidean distance of two vectors is the root mean square difference of their pixels, coverage in 0 to 1.

    Raises:
      UserError: a font lacks a symbol.
    """
    import cairo

    pixels = np.zeros((len(fonts), len(symbols), CELL, CELL), np.float32)
    surface = cairo.ImageSurface(cairo.FORMAT_A8, CELL, CELL)
    drawn = np.ndarray((CELL, CELL), np.uint8, surface.get_data(), strides=(surface.get_stride(), 1))
    for i, font in enumerate(fonts):
        for k, symbol in enumerate(symbols):
            path, (x, y, width, height) = text_outline(font, symbol)
            drawn[:] = 0
            surface.mark_dirty()
            context = cairo.Context(surface)
            context.translate(CELL / 2, CELL / 2)
            context.scale(*2 * [CELL / max(width, height, 1e-6)])
            context.translate(-x - width / 2, -y - height / 2)
            context.append_path(path)
            context.fill()
            surface.flush()
            pixels[i, k] = drawn
    return pixels.reshape(len(fonts), -1) / np.float32(255 * np.sqrt(max(1, len(symbols)) * CELL**2))


def clusters(embeddings: np.ndarray, max_distance: float = MAX_DISTANCE, num_merges: int | None = None) -> np.ndarray:
    """Returns a cluster number per row, joined by Ward's method; int [N].

    Args:
      embeddings: [N, D], N > 0.
      max_distance: join clusters up to this Ward distance, which for two single fonts is the Euclidean distance.
      num_merges: instead, join exactly so many times, nearest first (the released list: 100 of 1,285 fonts).

    Raises:
      UserError: embeddings is no matrix of finite numbers, a distance below 0.
    """
    max_distance = number("max_distance", max_distance, 0.0)
    embeddings = np.asarray(embeddings)
    if embeddings.ndim != 2 or not len(embeddings) or not np.isfinite(embeddings).all():
        raise UserError(f"embeddings must be a matrix [fonts, features] of finite numbers, not {embeddings.shape}")
    if len(embeddings) == 1:
        return np.zeros(1, np.int64)
    try:
        from scipy.cluster.hierarchy import fcluster, linkage
    except ImportError as error:
        raise UserError("comparing fonts needs SciPy: pip install scipy") from error

    merges = linkage(embeddings, "ward")
    if num_merges is not None:
        if not 0 <= num_merges < len(embeddings):
            raise UserError(f"num_merges={num_merges}: allowed are 0 to {len(embeddings) - 1}")
        return _joined(merges[:num_merges, :2].astype(int), len(embeddings))
    return fcluster(merges, max_distance, "distance") - 1


def _joined(merges: np.ndarray, count: int) -> np.ndarray:
    """Returns the cluster numbers [count] after some merges [n, 2]; the k-th of them makes the cluster count + k.

    SciPy's own cuts are by distance, and join more or fewer where several distances are equal.
    """
    members = [[i] for i in range(count)]
    for first, second in merges.tolist():
        members.append(members[first] + members[second])
        members[first] = members[second] = []
    numbers = np.empty(count, np.int64)
    for cluster, rows in enumerate(filter(None, members)):
        numbers[rows] = cluster
    return numbers


def groups(fonts: Sequence[Font], numbers: np.ndarray) -> list[list[Font]]:
    """Returns the clusters of two or more fonts; in each, the font with most characters comes first."""
    members: dict[int, list[Font]] = {}
    for font, cluster in zip(fonts, numbers.tolist(), strict=True):
        members.setdefault(cluster, []).append(font)
    several = [sorted(m, key=lambda f: (-len(code_points(f.regular)), f.name)) for m in members.values() if len(m) > 1]
    return sorted(several, key=lambda m: m[0].name)


def write_list(
    path: str | Path, fonts: FontSet, language: str = "english", *, max_distance: float = MAX_DISTANCE,
    num_merges: int | None = None, embeddings: str | Path | None = None,
) -> str:  # fmt: skip
    """Writes the names of superfluous fonts to a text file; returns a sentence on what was found.

    Args:
      language: its letters in everyday use are compared; fonts that cannot write it are left alone.
      max_distance, num_merges: where to stop joining, see `clusters`.
      embeddings: an .npz file with `names` [N] and `embeddings` [N, D], such as a classifier's mean features per font,
        to be used instead of pictures.

    Raises:
      UserError: no font writes the language, or a file cannot be read or written.
    """
    from jaxrepro.synbols.languages import alphabet

    if embeddings is None:
        chosen = alphabet(language, auxiliary=False, fonts=replace(fonts, near_duplicates=True))
        compared, vectors = list(chosen.fonts), embed(chosen.fonts, chosen.symbols)
        source = f"pictures of {len(chosen.symbols)} letters ({language})"
    else:
        compared, vectors = _load_embeddings(embeddings, fonts)
        source = f"the embeddings in {Path(embeddings).name}"
    found = groups(compared, clusters(vectors, max_distance, num_merges))
    stop = f"Ward distance at most {max_distance:g}" if num_merges is None else f"{num_merges} merges"
    index = {font: i for i, font in enumerate(compared)}
    lines = [
        "# Fonts to leave out, because they look like another one. One name a line; delete a line to keep that font.",
        f"# {len(compared)} fonts compared by {source}; {stop}; the number is the distance to the font kept.",
    ]
    for kept, *others in found:
        lines += ["", f"# like {kept.name}:"]
        for font in others:
            distance = float(np.linalg.norm(vectors[index[font]] - vectors[index[kept]]))
            lines.append(f"{font.name}  # {distance:.3f}")
    try:
        Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    dropped = sum(map(len, found)) - len(found)
    return f"{len(compared)} fonts compared by {source}: {len(found)} groups of similar ones, {dropped} to leave out"


def read_list(path: str | Path) -> tuple[str, ...]:
    """Returns the names in a list of fonts; what follows a # is a comment.

    Raises:
      UserError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list of fonts {path}: {error}") from error
    return tuple(name for name in (line.partition("#")[0].strip() for line in lines) if name)


def _load_embeddings(path: str | Path, fonts: FontSet) -> tuple[list[Font], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            names, vectors = [str(n) for n in file["names"]], file["embeddings"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"cannot read names and embeddings from {path}: {error}") from error
    if len(names) != len(vectors):
        raise UserError(f"{path} has {len(names)} names and {len(vectors)} embeddings")
    by_name = {font.name: font for font in fonts}
    rows = [i for i, name in enumerate(names) if name in by_name]
    if not rows:
        raise UserError(f"{path} names none of the {len(fonts)} fonts found; its first is {names[:1]}")
    return [by_name[names[i]] for i in rows], vectors[rows]
