"""Secrets: which hosts a key goes to, URLs without what is secret in them, and texts in which neither is repeated.

Settings, rows, logs and reports never hold a secret: a URL leaves what is secret in it with this process as soon as
it is read, and the errors that people and stores are told take every secret of this process out of their sentences.
"""

import hashlib
import os
import re
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

KEY_VARIABLE = "OPENAI_API_KEY"
KEY_HOSTS = "JOSH_KEY_HOSTS"
"""Names the hosts that the key goes to beside the one that gives such keys; commas between."""
KEY_GIVER = "api.openai.com"

SECRET_NAMES = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
"""Ends of the names of environment variables that hold one."""
LEAST_CHARACTERS = 8
"""What is shorter (``EMPTY``, ``x``: keys of servers that want any) guards nothing, and stands in many words."""
REDACTED = "[redacted]"
PLAIN_QUERY = frozenset({"api-version"})
"""What servers ask for in the query of every URL, and is no secret."""
FLAGS = frozenset({"", "0", "1", "true", "false"})
"""Values in a URL that are nobody's secret."""
MARK = re.compile(r"redacted-[0-9a-f]{8}")
URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'\\<>]+", re.IGNORECASE)

_given: dict[str, str] = {}
"""URLs as they were given, by what is shown of them; in this process alone."""


def key_for(url: str) -> str:
    """Return the key that a server is sent; empty where there is none, or it was not given for that host."""
    key, parts = os.environ.get(KEY_VARIABLE, ""), urlsplit(url)
    named = os.environ.get(KEY_HOSTS, "").lower().replace(" ", "").split(",")
    known = {parts.hostname, parts.netloc.lower()} & set(named)
    return key if known or (parts.scheme, parts.hostname, parts.port) == ("https", KEY_GIVER, None) else ""


def key_advice(url: str) -> str:
    """Say what to do where a server asks for a key, or for another one."""
    if os.environ.get(KEY_VARIABLE) and not key_for(url):
        host = urlsplit(url).netloc
        return (
            f"it was sent none, for {KEY_VARIABLE} goes to {KEY_GIVER} alone: set {KEY_HOSTS}={host} to send it there"
        )
    return f"set {KEY_VARIABLE} in the environment"


def kept_apart(text: str) -> str:
    """Return a URL without what is secret in it, which this process keeps for ``as_given``; other texts as they are.

    User and password are left out. A value of the query that is no flag is replaced by the beginning of its hash, so
    that two files that a query tells apart stay two.
    """
    try:
        parts = urlsplit(text)
    except ValueError:  # brackets that are no address
        return text
    if not (parts.scheme and parts.netloc):
        return text
    query = "&".join(f"{quote(name)}={_marked(name, value)}" for name, value in parse_qsl(parts.query, True))
    netloc = parts.netloc.rpartition("@")[2]
    if (netloc, query, "") == (parts.netloc, parts.query, parts.fragment):
        return text
    shown = urlunsplit((parts.scheme, netloc, parts.path, query, ""))
    if not MARK.search(text):
        _given[shown] = text
    return shown


def _marked(name: str, value: str) -> str:
    if name in PLAIN_QUERY or value.lower() in FLAGS or MARK.fullmatch(value):
        return value
    return f"redacted-{hashlib.sha256(value.encode()).hexdigest()[:8]}"


def as_given(shown: str) -> str:
    """Return the URL that ``kept_apart`` was given in this process."""
    return _given.get(shown, shown)


def holds_secret_url(text: str) -> bool:
    """Whether a text holds a URL that ``kept_apart`` would change."""
    return any(kept_apart(found) != found for found in URL.findall(text))


def redacted(text: str) -> str:
    """Return a text without the secrets of this process: of its environment, and of the URLs that it was given."""
    secrets = {value for name, value in os.environ.items() if SECRET_NAMES.search(name.upper())}
    for url in _given.values():
        parts = urlsplit(url)
        secrets |= {parts.username or "", parts.password or "", *(value for _, value in parse_qsl(parts.query))}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= LEAST_CHARACTERS:
            text = text.replace(secret, REDACTED)
    return text
