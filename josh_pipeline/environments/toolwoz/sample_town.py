"""Fernwick, an invented town: the databases of the built-in sample corpus.

Columns and values are MultiWOZ's; every name is ours. Names are one to three common English words, so that
a small language model can copy them. Telephone numbers are of the range that Ofcom keeps for fiction.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import Any

from josh_pipeline.environments.toolwoz.tools import AREAS, PRICES

TOWN = "fernwick"
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

FOODS = {
    "italian": 11, "chinese": 10, "indian": 12, "british": 9, "french": 6, "japanese": 5, "korean": 4,
    "thai": 6, "mexican": 4, "spanish": 5, "turkish": 5, "greek": 4, "lebanese": 4, "vietnamese": 3,
    "seafood": 4, "gastropub": 4, "european": 4, "mediterranean": 4, "portuguese": 3, "african": 3,
}  # fmt: skip
"""Food to the number of restaurants that serve it."""

ABSENT_FOODS = (
    "german", "belgian", "cuban", "swedish", "polish", "hungarian", "jamaican", "scottish", "irish", "welsh",
    "afghan", "danish", "brazilian", "russian", "caribbean",
)  # fmt: skip
"""Asked for in goals, served nowhere in town."""

ABSENT_ATTRACTIONS = ("concerthall", "zoo", "casino")

STATIONS = {
    "amber hill": (21, 6.40), "silver cross": (47, 16.50), "stone bridge": (33, 9.80),
    "green harbour": (79, 23.60), "maple bay": (58, 13.20), "north point": (105, 37.80),
}  # fmt: skip
"""Station to (minutes, pounds) from Fernwick. No journey is a multiple of 15 minutes."""

_PLACE_WORDS = (
    "copper", "silver", "golden", "blue", "red", "green", "black", "white", "little", "old", "happy", "royal",
    "lucky", "hidden", "sunny", "quiet", "brave", "velvet", "crystal", "spicy", "sweet", "wild",
)  # fmt: skip
_TABLE_WORDS = (
    "kettle", "lantern", "spoon", "garden", "bell", "oven", "pepper", "olive", "lemon", "anchor", "fox",
    "crown", "dragon", "bakery", "plate", "kitchen", "barrel", "rose", "tiger", "moon", "ship", "apple",
)  # fmt: skip
_HOUSE_WORDS = (
    "oak", "river", "hill", "meadow", "forest", "castle", "lake", "park", "station", "harbour", "valley",
    "cherry",
)  # fmt: skip
_ATTRACTIONS = {
    "museum": ("museum", "clock, toy, stamp, glass, map, science, farm, art, book, coin, sea, bread"),
    "college": ("college", "hawthorn, bishop, queen, wolf, abbot, lady, martin, george, hill, west gate"),
    "architecture": ("church", "hilltop, market, holy well, old bridge, white stone, abbey, rose"),
    "park": ("park", "willow, deer, castle hill, poplar, sunset, orchard, pond, rabbit"),
    "nightclub": ("club", "neon, jungle, disco, midnight, velvet room, bounce"),
    "theatre": ("theatre", "mask, corner, star, curtain, mill, globe"),
    "cinema": ("cinema", "palace, ruby, lantern light, regent, odd eye"),
    "swimmingpool": ("pool", "river, dolphin, north, splash, garden"),
    "boat": ("boats", "swan, duck, punt, heron"),
    "entertainment": ("bowling", "lucky strike, ten pin, thunder, corner lane"),
    "gallery": ("gallery", "canvas, brick, tall window, blue door, sketch, clay, lens"),
    "sports": ("arena", "summit, racket, ice, tiger, victory, skate"),
}
"""Type to (last word of a name, first words)."""

_STREETS = ("mill road", "high street", "church lane", "bridge street", "station road", "market square",
            "park avenue", "castle street", "river walk", "king street")  # fmt: skip

Row = dict[str, Any]


@cache
def town_databases() -> dict[str, tuple[Row, ...]]:
    """Return the four databases: about 110 restaurants, 35 hotels, 80 attractions, 1,500 trains."""
    rng = Random("fernwick")
    phones = iter(f"01632960{n:03d}" for n in rng.sample(range(1000), 1000))
    return {
        "restaurant": tuple(_restaurants(rng, phones)),
        "hotel": tuple(_hotels(rng, phones)),
        "attraction": tuple(_attractions(rng, phones)),
        "train": tuple(_trains(rng)),
    }


def _place(rng: Random, number: int, name: str, area: str, phones: Iterator[str]) -> Row:
    """The columns that everything with an address has."""
    letters = "abdefghjlnpqrstuwxyz"
    return {
        "address": f"{rng.randint(1, 180)} {rng.choice(_STREETS)}",
        "area": area,
        "id": str(number),
        "location": [round(rng.uniform(52.6, 52.7), 6), round(rng.uniform(-0.9, -0.8), 6)],
        "name": name,
        "phone": next(phones),
        "postcode": f"fw{1 + AREAS.index(area)}{rng.randint(1, 9)}{rng.choice(letters)}{rng.choice(letters)}",
    }


def _names(rng: Random, firsts: Sequence[str], lasts: Sequence[str], count: int) -> list[str]:
    """Different pairs of words, with every first and every last word used about equally often."""
    pairs = [(firsts[i], lasts[(i + shift) % len(lasts)]) for shift in range(len(lasts)) for i in range(len(firsts))][
        :count
    ]
    rng.shuffle(pairs)
    return [f"{first} {last}" for first, last in pairs]


def _restaurants(rng: Random, phones: Iterator[str]) -> Iterator[Row]:
    foods = [food for food, count in FOODS.items() for _ in range(count)]
    rng.shuffle(foods)
    names = _names(rng, _PLACE_WORDS, rng.sample(_TABLE_WORDS, len(_TABLE_WORDS)), len(foods))
    for number, (food, name) in enumerate(zip(foods, names, strict=True)):
        called = f"the {name}" if rng.random() < 0.3 else name
        area = rng.choices(AREAS, (40, 15, 15, 15, 15))[0]
        yield {
            **_place(rng, 1000 + number, called, area, phones),
            "food": food,
            "introduction": f"{called} serves {food} food in the {area} of {TOWN}",
            "pricerange": rng.choices(PRICES, (28, 36, 36))[0],
            "type": "restaurant",
        }


def _hotels(rng: Random, phones: Iterator[str]) -> Iterator[Row]:
    guesthouses = [(name, "guesthouse") for name in _names(rng, _HOUSE_WORDS, ("lodge", "guest house"), 21)]
    hotels = [(name, "hotel") for name in _names(rng, _HOUSE_WORDS[::-1], ("hotel", "inn"), 14)]
    both = guesthouses + hotels
    rng.shuffle(both)
    for number, (name, kind) in enumerate(both):
        price_range = rng.choices(PRICES, (35, 40, 25) if kind == "guesthouse" else (15, 40, 45))[0]
        single = 35 + 30 * PRICES.index(price_range) + 5 * rng.randint(0, 4)
        yield {
            **_place(rng, number, name, AREAS[number % len(AREAS)], phones),
            "internet": "yes" if rng.random() < 0.85 else "no",
            "parking": "yes" if rng.random() < 0.75 else "no",
            "price": {"single": str(single), "double": str(single + 25), "family": str(single + 45)},
            "pricerange": price_range,
            "stars": rng.choices(("0", "2", "3", "4"), (15, 15, 30, 40))[0],
            "takesbookings": "yes",
            "type": kind,
        }


def _attractions(rng: Random, phones: Iterator[str]) -> Iterator[Row]:
    places = [
        (f"{first} {last}", kind) for kind, (last, firsts) in _ATTRACTIONS.items() for first in firsts.split(", ")
    ]
    rng.shuffle(places)
    for number, (name, kind) in enumerate(places):
        fee = rng.choice(("free", "free", "2 pounds", "3.50 pounds", "5 pounds", "8 pounds"))
        opens, closes = rng.randint(8, 11), rng.randint(4, 8)
        cheap_or_not = "cheap" if fee in ("2 pounds", "3.50 pounds") else "moderate"
        yield {
            **_place(rng, number, name, rng.choices(AREAS, (36, 16, 16, 16, 16))[0], phones),
            "entrance fee": fee,
            "openhours": f"it opens daily from {opens} a.m. to {closes} p.m.",
            "pricerange": "free" if fee == "free" else cheap_or_not,
            "type": kind,
        }


def clock(minutes: int) -> str:
    """Return minutes of the day as HH:MM."""
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def minutes(time: str) -> int:
    """Return HH:MM as minutes of the day."""
    return int(time[:2]) * 60 + int(time[3:])


def _trains(rng: Random) -> Iterator[Row]:
    """Hourly trains both ways, seven days; none leaves or arrives on a quarter of an hour.

    Goals ask for quarters of an hour, so "at or after" and "after" have the same answer here.
    """
    numbers = iter(rng.sample(range(1000, 10000), 2000))
    for station, (duration, pounds) in STATIONS.items():
        for departure, destination in ((TOWN, station), (station, TOWN)):
            past = rng.choice([m for m in range(60) if m % 15 and (m + duration) % 15])
            for day in DAYS:
                price = pounds * (0.8 if day in ("saturday", "sunday") else 1)
                for leave in range(5 * 60 + past, 24 * 60 - duration, 60):
                    yield {
                        "arriveBy": clock(leave + duration),
                        "day": day,
                        "departure": departure,
                        "destination": destination,
                        "duration": f"{duration} minutes",
                        "leaveAt": clock(leave),
                        "price": f"{price:.2f} pounds",
                        "trainID": f"TR{next(numbers)}",
                    }
