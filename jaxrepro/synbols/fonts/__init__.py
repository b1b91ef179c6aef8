"""Fonts: finding families and reading the outlines of their letters.

fonts = find_fonts()
path, box = text_outline(fonts[0], "a", is_bold=True)
"""

from jaxrepro.synbols.fonts.discovery import FontSet, find_fonts, fingerprint, installed_fonts
from jaxrepro.synbols.fonts.faces import Face, Font, Outline, outline, text_outline

__all__ = [
    "Face", "Font", "FontSet", "Outline", "find_fonts", "fingerprint", "installed_fonts", "outline", "text_outline",
]  # fmt: skip
