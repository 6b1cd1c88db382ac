"""The colours of every picture and page, in light and in dark.

They are told apart by colour-blind readers and in grey: Okabe and Ito's (2008), of which those that words are
written in are darkened until they are read on white, and lightened until they are read on black.
"""

import re

COLOURS = {
    "ink": ("#1b2430", "#e4e9f0"),
    "muted": ("#5a6573", "#a3afbe"),
    "rule": ("#d7dde5", "#36404d"),
    "grid": ("#eaeef3", "#28313c"),
    "paper": ("#ffffff", "#171d25"),
    "ground": ("#f4f6f9", "#0f141a"),
    "shade": ("#f8fafc", "#1d242e"),
    "blue": ("#0068a3", "#5cb6ec"),
    "sky": ("#56b4e9", "#9bd3f5"),
    "green": ("#007a59", "#35c79b"),
    "gold": ("#e69f00", "#e8a91a"),
    "red": ("#b04800", "#ff945c"),
    "purple": ("#aa4499", "#d88bcb"),
    "before": ("#8a97a8", "#8794a6"),
    "gold-pale": ("#f6d58f", "#b98e2f"),
    "grey-pale": ("#c9d1db", "#8894a3"),
    "blue-pale": ("#bfd9ea", "#2f5f7d"),
    "gold-tint": ("#fff4d6", "#3b2f0f"),
    "green-tint": ("#e3f4ed", "#11362b"),
    "red-tint": ("#fdf0e8", "#43220f"),
    "blue-tint": ("#e1f0f9", "#15313f"),
    "grey-tint": ("#eef1f5", "#232c37"),
}
"""Name to the colour on light paper and on dark. Tints lie behind words, pale ones are bars."""

_LIGHT = {name: light for name, (light, _) in COLOURS.items()}
_NAMES = {light: name for name, light in _LIGHT.items()}

INK, MUTED, RULE, GRID, PAPER = (_LIGHT[name] for name in ("ink", "muted", "rule", "grid", "paper"))
BLUE, SKY, GREEN, GOLDEN, RED, PURPLE = (_LIGHT[name] for name in ("blue", "sky", "green", "gold", "red", "purple"))
GOLD_PALE, GREY_PALE, BLUE_PALE = (_LIGHT[name] for name in ("gold-pale", "grey-pale", "blue-pale"))
BEFORE = _LIGHT["before"]
WON, LOST = GREEN, RED
SERIES = (BLUE, RED, GREEN, PURPLE, GOLDEN, SKY)


def series_colour(index: int) -> str:
    """Colour of a policy in figures of several: grey for what a line starts from, then one a round."""
    return SERIES[(index - 1) % len(SERIES)] if index else BEFORE


def variables() -> str:
    """Return the colours as a page's CSS variables: the dark ones on a dark screen, never on paper."""
    light, dark = (" ".join(f"--{name}: {pair[side]};" for name, pair in COLOURS.items()) for side in (0, 1))
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def themed(drawing: str) -> str:
    """Let the styles in a drawing name the page's variables instead of the light colours."""

    def named(style: re.Match[str]) -> str:
        return re.sub("#[0-9a-f]{6}", lambda colour: f"var(--{_NAMES[colour[0]]})", style[0])

    return re.sub('style="[^"]*"', named, drawing)
