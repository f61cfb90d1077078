"""The tables of prompts."""

import csv
import re
from pathlib import Path

import pytest

from source_data import make_prompts
from source_data.scenes import BACKGROUNDS, COLOURS, SHAPES

TABLES = ("prompts.csv", "shapes.csv", "settings.csv")
THING = rf"(an?) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
CAPTION = re.compile(rf"{THING}( (left of|above) {THING})? on (an?) ({'|'.join(BACKGROUNDS)}) background")


def table(name: str) -> list[dict[str, str]]:
    with open(Path(make_prompts.HERE, name), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def captions():
    """Of each prompt's key, None where a table lacks what it names."""
    things = {row["thing"]: row for row in table("shapes.csv")}
    settings = {row["setting"]: row for row in table("settings.csv")}
    return {row["id"]: caption(things.get(row["thing"]), settings.get(row["setting"])) for row in table("prompts.csv")}


def caption(thing: dict[str, str] | None, setting: dict[str, str] | None) -> str | None:
    if thing is None or setting is None:
        return None
    words = [f"{thing['colour']} {thing['shape']}", *filter(None, [setting["neighbour"]])]
    beside = f" {setting['relation']} ".join(map(with_article, words))
    return f"{beside} on {with_article(setting['background'])} background"


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_its_script_makes(name, tmp_path):
    make_prompts.write(tmp_path)
    assert (tmp_path / name).read_bytes() == Path(make_prompts.HERE, name).read_bytes()


def test_three_prompts_name_what_no_table_knows(captions):
    assert [key for key, said in captions.items() if said is None] == ["p058", "p131", "p204"]
    assert len(captions) == make_prompts.PROMPTS


def test_every_other_prompt_is_a_scene_of_its_own_that_the_captioner_has_words_for(captions):
    said = [text for text in captions.values() if text is not None]
    assert len(set(said)) == len(said) >= 200
    assert all(CAPTION.fullmatch(text) for text in said)


def test_what_is_in_a_scene_differs_in_colour(captions):
    for text in filter(None, captions.values()):
        colours = [word for word in text.split() if word in BACKGROUNDS]
        assert len(set(colours)) == len(colours)


def test_scenes_of_one_thing_and_of_two_are_mixed(captions):
    two = [" left of " in text or " above " in text for text in captions.values() if text is not None]
    assert {True, False} == set(two[:10])
    assert 0.5 < sum(two) / len(two) < 0.7
