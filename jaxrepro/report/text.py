"""Names, durations and orders in words."""

import itertools
import re

ACRONYMS = {
    word.lower(): word
    for word in ("KL", "NLL", "MAE", "GAME", "ECE", "AUC", "OOD", "YOTO", "DCGAN", "SESN", "MAML", "Synbols")
}
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def readable(name: str) -> str:
    """Returns a name in words: "table2" -> "Table 2", "num_params" -> "number of parameters", "kl" -> "KL"."""
    name = name.replace("num_", "number of ").replace("of params", "of parameters")
    words = re.sub(r"^(table|figure) *(?=[0-9])", r"\1 ", name.replace("_", " "), flags=re.IGNORECASE)
    words = " ".join(ACRONYMS.get(word.lower(), word) for word in words.split(" "))
    return words[0].upper() + words[1:] if words.lower().startswith(("table ", "figure ")) else words


def sentence(name: str) -> str:
    """Returns a name in words that begin with a capital: "latent_walks" -> "Latent walks"."""
    words = readable(name)
    return words[:1].upper() + words[1:]


def markdown(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line: no table cells, tags, links or emphasis come of it."""
    return re.sub(r"[\\`*|<>\[\]]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)", r"\\\g<0>", " ".join(text.split()))


def duration(seconds: float) -> str:
    """Returns "4.3 s", "48 s", "3 min 20 s", "2 h 5 min" or "3 d 4 h"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    for (large, name), (small, rest_name) in itertools.pairwise(UNITS):
        whole = round(seconds / small) * small
        if whole >= large:
            rest = whole % large // small
            return f"{whole // large} {name}" + (f" {rest} {rest_name}" if rest else "")
    raise AssertionError(seconds)


def natural_order(text: str) -> list:
    """Returns a sort key that puts "beta=64" before "beta=256"."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+(?:\.[0-9]+)?)", text))]
