"""A town small enough to work out by hand, and records of conversations about it."""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from josh_pipeline.environments.toolwoz.corpus import Corpus, Dialogue, Split
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.settings import GoalSettings, ToolWozSettings
from josh_pipeline.environments.toolwoz.world import ToolWozWorld

WOK, BOAT, DOJO, CHOP, CURRY, PALACE = range(6)


def restaurant(name: str, food: str, pricerange: str, area: str) -> dict[str, Any]:
    return {"name": name, "food": food, "pricerange": pricerange, "area": area, "location": [52.2, 0.1]}


def train(train_id: str, day: str, leave: str, arrive: str) -> dict[str, Any]:
    return {
        "trainID": train_id,
        "departure": "cambridge",
        "destination": "ely",
        "day": day,
        "leaveAt": leave,
        "arriveBy": arrive,
    }


RESTAURANTS = (
    restaurant("golden wok", "chinese", "moderate", "north"),
    restaurant("rice boat", "indian", "expensive", "west"),
    restaurant("dojo noodle bar", "asian", "cheap", "centre"),
    restaurant("Saint John's Chop House", "british", "moderate", "west"),
    restaurant("curry garden", "indian", "expensive", "centre"),
    restaurant("tandoori palace", "indian", "expensive", "west"),
)
HOTELS = (
    {"name": "acorn", "area": "north", "stars": "4", "type": "guesthouse", "internet": "yes", "parking": "yes"},
    {"name": "alpha", "area": "north", "stars": "2", "type": "hotel", "internet": "yes", "parking": "no"},
)
ATTRACTIONS = (
    {"name": "king's college", "type": "college", "area": "west"},
    {"name": "the junction", "type": "theatre", "area": "south"},
)
TRAINS = (
    train("TR1", "monday", "09:00", "09:30"),
    train("TR2", "monday", "10:00", "10:30"),
    train("TR3", "monday", "11:00", "11:30"),
    train("TR4", "tuesday", "10:00", "10:30"),
)
DATABASES = {"restaurant": RESTAURANTS, "hotel": HOTELS, "attraction": ATTRACTIONS, "train": TRAINS}

INDIAN = {"food": "indian", "pricerange": "expensive", "area": "west"}
TABLE = {"people": "2", "day": "monday", "time": "18:00", "invalid": False}
RIDE = {"departure": "cambridge", "destination": "ely", "day": "monday"}


def dialogue(
    goal: Any,
    booked: Mapping[str, Any] | None = None,
    semi: Mapping[str, Any] | None = None,
    dialogue_id: str = "MUL0001",
    split: Split = "val",
) -> Dialogue:
    """A record whose last turn has the belief state: ``booked`` and ``semi`` are by domain."""
    metadata = {
        domain: {"book": {"booked": (booked or {}).get(domain, [])}, "semi": (semi or {}).get(domain, {})}
        for domain in DATABASES
    }
    return Dialogue(dialogue_id, split, goal, ({"text": "hi", "metadata": {}}, {"text": "", "metadata": metadata}))


def corpus_of(*dialogues: Dialogue, databases: Mapping[str, Any] = DATABASES) -> Corpus:
    return Corpus("town", "town-digest", "made up", "CC0", dialogues, databases)


def dinner(booked: str | None = "tandoori palace", **share: Any) -> Dialogue:
    """A goal about an expensive Indian restaurant in the west, booked or only searched."""
    goal = {"restaurant": {"info": INDIAN, "book": TABLE if booked else {}, **share}}
    return dialogue(goal, {"restaurant": [{"name": booked, "reference": "R1"}] if booked else []})


def journey(booked: str | None = "TR2", **times: str) -> Dialogue:
    """A goal about a train to Ely on Monday."""
    goal = {"train": {"info": RIDE | times, "book": {"people": "3"} if booked else {}}}
    return dialogue(goal, {"train": [{"trainID": booked, "reference": "T1"}] if booked else []})


def goal_of(record: Dialogue, semantics: Semantics) -> Goal:
    (goal,) = derive_goals(corpus_of(record), semantics)
    return goal


def world_of(record: Dialogue, semantics: Semantics, inside_search: bool = False) -> ToolWozWorld:
    corpus = corpus_of(record)
    (goal,) = derive_goals(corpus, semantics)
    return world_in(corpus, goal, semantics, inside_search)


def world_in(corpus: Corpus, goal: Goal, semantics: Semantics, inside_search: bool = False) -> ToolWozWorld:
    return ToolWozWorld(goal, corpus.indexed, semantics, inside_search)


def environment_of(corpus: Corpus, semantics: Semantics = "audited", parts: bool = True) -> ToolWoz:
    return ToolWoz(ToolWozSettings(goals=GoalSettings(semantics=semantics, kind="parts" if parts else "whole")), corpus)


def through_the_store(corpus: Corpus) -> Corpus:
    """A corpus written as JSON and restored, as a store does it."""
    environment = environment_of(corpus)
    snapshot = environment.snapshot()
    sources = tuple(replace(one, content=json.loads(json.dumps(one.content))) for one in snapshot.sources)
    entities = {name: tuple(json.loads(json.dumps(row)) for row in rows) for name, rows in snapshot.entities.items()}
    kept = replace(snapshot, sources=sources, entities=entities)
    return ToolWoz.restore(environment.settings, kept).corpus


def real_corpus() -> Corpus:
    """The MultiWOZ folder that JOSH_MULTIWOZ names, its validation dialogues only; else skip."""
    if "JOSH_MULTIWOZ" not in os.environ:
        pytest.skip("JOSH_MULTIWOZ does not name a folder of MultiWOZ")
    folder = Path(os.environ["JOSH_MULTIWOZ"])
    with zipfile.ZipFile(folder / "val.json.zip") as archive:
        records = json.loads(archive.read("val.json"))
    dialogues = tuple(
        Dialogue(name.removesuffix(".json"), "val", record["goal"], tuple(record["log"]))
        for name, record in sorted(records.items())
    )
    databases = {d: tuple(json.loads((folder / f"{d}_db.json").read_text())) for d in DATABASES}
    return Corpus("multiwoz-val", "multiwoz-val", str(folder), "MIT", dialogues, databases)
