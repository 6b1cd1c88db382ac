"""Checks of cron strings, time zones and URLs, as settings hold them."""

import re
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo

from josh_pipeline.core.redaction import KEY_HOSTS, KEY_VARIABLE, PLAIN_QUERY

FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
"""Name, least and greatest value of the five fields, in their order."""
NAMED = {
    "month": ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    "weekday": ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
}
PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<every>\d+))?", re.ASCII)
LONGEST_MONTH = dict(zip(range(1, 13), (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))


def checked_cron(text: str) -> str:
    """Return a cron string that has a next moment.

    Raises:
        ValueError: it is none, or names a day that no year has.
    """
    fields = text.split()
    if len(fields) != len(FIELDS):
        names = ", ".join(name for name, _, _ in FIELDS)
        raise ValueError(f"a cron string has five fields ({names}), e.g. '0 3 * * 1' for Mondays at 03:00")
    values = {
        name: {one for part in field.split(",") for one in _values(part, name, low, high)}
        for field, (name, low, high) in zip(fields, FIELDS, strict=True)
    }
    if fields[4] == "*" and min(values["day"]) > max(LONGEST_MONTH[month] for month in values["month"]):
        raise ValueError(f"no month of these has a day {min(values['day'])}")
    return text


def _values(part: str, name: str, low: int, high: int) -> range:
    """Return the values that a part of a field stands for."""
    found = PART.fullmatch(part)
    names = NAMED.get(name, [])

    def number(text: str) -> int:
        return names.index(text.lower()) + low if text.lower() in names else int(text) if text.isdecimal() else -1

    first = number(found["first"]) if found and found["first"] else low
    every = int(found["every"]) if found and found["every"] else 1
    open_ended = found is not None and (found["every"] or not found["first"])
    last = number(found["last"]) if found and found["last"] else high if open_ended else first
    if found is None or not low <= first <= last <= high or not every:
        raise ValueError(f"{part!r} is no {name} of a cron string: give {low} to {high}, a range, a list, * or */n")
    return range(first, last + 1, every)


def checked_zone(name: str) -> str:
    """Return the name of a time zone.

    Raises:
        ValueError: there is none of that name.
    """
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # names may lead to folders, or out of the database
        raise ValueError(f"there is no time zone {name!r}: use UTC, or a name like Europe/Berlin") from None
    return name


def checked_url(url: str) -> str:
    """Return the URL of a server. Neither fault repeats it: it may hold a secret.

    Raises:
        ValueError: no request could be sent to it, or it holds what may be a secret, and settings are stored and shown.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # brackets of an address, or a port beyond 65535
        usable = False
    if not usable or " " in url:
        raise ValueError("it is no URL of a server: give one like http://localhost:8000/v1")
    if "@" in parts.netloc or parts.fragment or {name for name, _ in parse_qsl(parts.query, True)} - PLAIN_QUERY:
        raise ValueError(
            "settings are stored and shown, so a URL in them has no user, no password, and no query but api-version: "
            f"leave them out, set {KEY_VARIABLE} in the environment, and {KEY_HOSTS} to the host that it is for"
        )
    return url
