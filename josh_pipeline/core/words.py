"""Numbers of things in words."""


def number_of(n: int, one: str, several: str | None = None) -> str:
    """Say how many of something there are: ``1 row``, ``1,200 rows``.

    Args:
        several: the plural, where it is not ``one`` with an s.
    """
    return f"{n:,} {one if n == 1 else several or f'{one}s'}"
