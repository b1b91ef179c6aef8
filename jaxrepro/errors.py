"""Errors that the user can mend: one line that names the fault and the fix.

raise UserError("config.optim.lr is -1; it must be positive")
raise unknown("dataset", "defualt", ["default", "camouflage"])
# UserError: unknown dataset 'defualt'; did you mean 'default'? known: camouflage, default
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The input is wrong. The launcher prints the message on one line and exits with code 2."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).split()))


class MissingData(UserError):
    """Data, fonts to render it, or a checkpoint to evaluate are not there: a sweep goes on with its other points."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for the nearest known name, or "" where none is near."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str], *, most: int = 12) -> UserError:
    """Returns the UserError for a name that is none of `known`.

    Args:
      kind: what the name should name, such as "dataset" or "config key".
      name: what the user wrote.
      known: every valid name; at most `most` of them are listed.
    """
    known = sorted(str(k) for k in known)
    listed = ", ".join(known[:most]) + (f", … ({len(known)} in all)" if len(known) > most else "")
    return UserError(f"unknown {kind} {name!r}{did_you_mean(name, known)}; known: {listed}")


def check(condition: bool, message: str) -> None:
    """Raises UserError(message) unless the condition holds."""
    if not condition:
        raise UserError(message)
