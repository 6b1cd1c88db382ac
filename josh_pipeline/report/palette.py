"""The colours of every picture, told apart by colour-blind readers (Okabe and Ito 2008) and in grey."""

INK = "#1B2430"
MUTED = "#6B7685"
RULE = "#D7DDE5"
PAPER = "#FFFFFF"

BLUE = "#0072B2"
SKY = "#56B4E9"
GREEN = "#009E73"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
PURPLE = "#AA4499"

BEFORE = "#8A97A8"
WON = GREEN
LOST = VERMILION
GOLDEN = ORANGE
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


def series_colour(index: int) -> str:
    """Colour of a policy in figures of several: grey for what a line starts from, then one a round."""
    return SERIES[(index - 1) % len(SERIES)] if index else BEFORE
