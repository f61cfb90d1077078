"""What is wrong with tables and options is one line, before any work."""

import subprocess
import sys

import pytest

from tarloom.errors import UsageError
from tarloom.format.storage import open_storage
from tarloom.generate.tables.checks import find_tables, fitted
from tarloom.generate.tables.config import TableConfig
from tarloom.generate.tables.prompts import PromptTables
from tests.generate.tables.tables import put

ANIMALS = "animal,name\n7,cat\n9,dog\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where tables lie; also the place that relative paths begin at."""
    (tmp_path / "prompts.csv").write_text("id,animal,prompt\na,7,one\nb,8,two\n")
    (tmp_path / "animals.csv").write_text(ANIMALS)
    (tmp_path / "twice.csv").write_text(f"{ANIMALS}7,tiger\n")
    (tmp_path / "twice_by_two.csv").write_text("animal,name\n7,a cat\n7,a dog\n7,a cat\n")
    (tmp_path / "same.csv").write_text("animal,id\n7,cat\n")
    (tmp_path / "keys.csv").write_text("id,prompt\na b,one\na_b,two\n")
    (tmp_path / "blank.csv").write_text("id,prompt\na,one\n ,two\n")
    (tmp_path / "none.csv").write_text("id,prompt\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "headless.json").write_text("[]")
    (tmp_path / "broken.json").write_text('[{"id": 1}')
    (tmp_path / "two_of_one.csv").write_text("id,id\n1,2\n")
    (tmp_path / "taken.csv").write_text("prompt,status\none,1\n")
    (tmp_path / "ours.csv").write_text("prompt,__row__\none,1\n")
    (tmp_path / "letters.csv").write_text("prompt,Size,size\none,1,2\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more PAR1")
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    put(tmp_path / "lists.parquet", {"animal": [["x"]], "prompt": ["one"]})
    for kind in ("csv", "jsonl"):
        (tmp_path / "mixed").mkdir(exist_ok=True)
        (tmp_path / "mixed" / f"a.{kind}").write_text("")
    (tmp_path / "no_table").mkdir()
    (tmp_path / "no_table" / "a.txt").write_text("a")
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = {
    "nothing there": ({"prompts": "absent.csv"}, "absent.csv: nothing there"),
    "no table": ({"prompts": "no_table"}, "no_table: no table (csv, tsv, json, jsonl, parquet)"),
    "several kinds": ({"prompts": "mixed"}, "mixed: tables of several kinds (csv, jsonl)"),
    "no rows": ({"prompts": "none.csv"}, "prompts none.csv: the table has no rows"),
    "no columns": ({"prompts": "empty.csv"}, "empty.csv: it is empty; the first line must name the columns"),
    "no objects": ({"prompts": "headless.json"}, "prompts headless.json: the table has no rows"),
    "no JSON": ({"prompts": "broken.json"}, "broken.json: neither JSON lines nor one JSON array of objects"),
    "no parquet": ({"prompts": "broken.parquet"}, "broken.parquet: not a sound parquet file"),
    "no gzip": ({"prompts": "broken.csv.gz"}, "broken.csv.gz: not a sound table"),
    "a column twice": ({"prompts": "two_of_one.csv"}, "two_of_one.csv: 2 columns are called 'id'"),
    "a column of the metadata": ({"prompts": "taken.csv"}, "prompts taken.csv: the column 'status' has a name"),
    "a column of ours": ({"prompts": "ours.csv"}, "prompts ours.csv: the column '__row__' has a name"),
    "a prompt beside the template's": (
        {"template": "a {animal}"},
        "prompts prompts.csv: the column 'prompt' has a name",
    ),
    "no column in the template": ({"template": "a cat"}, "template 'a cat': names no column; write one between braces"),
    "an empty template": ({"template": ""}, "template '': names no column"),
    "an unknown column": (
        {"template": "a {cat}", "prompts": "keys_only.csv"},
        "template: there is no column 'cat'; use id",
    ),
    "no name between the braces": (
        {"template": "{}", "prompts": "keys_only.csv"},
        "prompt '{}': between braces stands",
    ),
    "an open brace": ({"template": "{id", "prompts": "keys_only.csv"}, "prompt '{id': "),
    "an unknown key column": ({"key_col": "name"}, "key_col: there is no column 'name'; use id, animal, prompt"),
    "keys alike when cleaned": (
        {"prompts": "keys.csv", "key_col": "id"},
        "prompts keys.csv: several rows have the key 'a_b' (id); make them unique",
    ),
    "an empty key": ({"prompts": "blank.csv", "key_col": "id"}, "prompts blank.csv: row 2 has no key: id is ' '"),
    "keys that are lists": (
        {"prompts": "lists.parquet", "key_col": "animal"},
        "key_col: the column 'animal' holds list<element: string>",
    ),
    "no columns to join by": ({"details": ("animals.csv",)}, "details 'animals.csv': name the columns to join by"),
    "a URL without columns": ({"details": ("s3://b/animals.csv",)}, "details 's3://b/animals.csv': name the columns"),
    "a column to join by named twice": ({"details": ("animals.csv:animal,animal",)}, "a column is named twice"),
    "an unknown column of the prompts": (
        {"details": ("animals.csv:beast=animal",)},
        "details animals.csv: there is no column 'beast'; use id, animal, prompt",
    ),
    "an unknown column of the details": (
        {"details": ("animals.csv:animal=beast",)},
        "details animals.csv: there is no column 'beast'; use animal, name",
    ),
    "joined by lists": (
        {"details": ("lists.parquet:animal",)},
        "details lists.parquet: the column 'animal' holds list<element: string>, not one text or number a row",
    ),
    "details twice": (
        {"details": ("twice.csv:animal",)},
        "details twice.csv: several rows have animal = 7; make them unique, or take each of them with expand",
    ),
    "details twice, by two columns": (
        {"details": ("twice_by_two.csv:animal,prompt=name",)},
        "details twice_by_two.csv: several rows have animal = 7, name = a cat; make them unique",
    ),
    "a column of another table": (
        {"details": ("same.csv:animal",)},
        "details same.csv: a table before it has a column 'id', too; rename one of them",
    ),
    "a derivation without a name": ({"derive": ("upper(id)",)}, "derive 'upper(id)': write NAME=EXPRESSION"),
    "a derivation without SQL": ({"derive": ("x= ",)}, "derive 'x= ': write NAME=EXPRESSION"),
    "a derivation of a column that is there": ({"derive": ("id=animal",)}, "derive id: a table before it has a column"),
    "a derivation of the prompt": ({"derive": ("prompt=id",), "prompts": "keys_only.csv"}, "derive prompt: the column"),
    "SQL of an unknown column": ({"derive": ("x=beast",)}, "derive x: there is no column 'beast'; use __key__, id"),
    "SQL that is none": ({"derive": ("x=animal +",)}, "derive x: "),
    "SQL with an unknown function": ({"derive": ("x=shout(id)",)}, "derive x: "),
    "SQL of the wrong types": ({"derive": ("x=id * [1]",)}, "derive x: "),
    "SQL that reads files": ({"derive": ("x=(SELECT 1 FROM '/etc/passwd')",)}, "derive x: a value on one row holds no"),
    "SQL over all rows": ({"derive": ("x=sum(animal)",)}, "derive x: "),
    "SQL that changes": ({"derive": ("x=random()",)}, "derive x: random() does not always say the same"),
    "SQL of letters' cases": (
        {"derive": ("x=Size + size",), "prompts": "letters.csv"},
        "derive x: SQL cannot tell 'Size' from 'size'",
    ),
    "SQL that parquet cannot hold": ({"derive": ("x=INTERVAL 1 DAY",)}, "derive x: parquet has no column of"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_before_any_work(folder, options, message):
    (folder / "keys_only.csv").write_text("id\na\n")
    tables = PromptTables(TableConfig(**{"prompts": "prompts.csv", **options}))
    with pytest.raises(UsageError) as told:
        tables.check()
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def rows_of(config: TableConfig) -> list[dict[str, object]]:
    """The rows of a table without details."""
    found = fitted(config, *find_tables(config), small_bytes=1)
    made = (found.recipe.finished(found.recipe.keyed(table)) for table in found.prompts.tables())
    return [row for table in made for row in table.to_pylist()]


def test_large_details_need_what_ray_joins_with(folder, monkeypatch):
    config = TableConfig(prompts="prompts.csv", details=("animals.csv:animal",))
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match=r"polars is not installed; run: pip install 'tarloom\[ray\]'"):
        PromptTables(config, small_bytes=0).check()
    PromptTables(config).check()


def test_a_run_that_needs_polars_can_still_be_interrupted(folder):
    program = """if True:
        import os, signal, sys, threading
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from tarloom.generate.tables.config import TableConfig
        from tarloom.generate.tables.prompts import PromptTables

        PromptTables(TableConfig(prompts="prompts.csv", details=("animals.csv:animal",)), small_bytes=0).check()
        assert "polars" in sys.modules
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("interrupted")
    """
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert run.stdout == "interrupted\n"


def test_bad_rows_keep_their_place(folder):
    (folder / "bad.csv").write_text("id,animal,prompt\na,7,one\nonly two,values\nb,9,two\n")
    rows = rows_of(TableConfig(prompts="bad.csv", key_col="id"))
    assert [row["__key__"] for row in rows] == ["a", "000000001", "b"]
    assert [row["__error__"] for row in rows] == [None, "bad_row: the list has no sound row here", None]


def test_a_value_that_cannot_be_derived_is_its_own_rows_failure(folder):
    config = TableConfig(prompts="prompts.csv", derive=("x = CAST(replace(id, 'a', '1') AS INTEGER)", "y = x + 1"))
    good, bad = rows_of(config)
    assert (good["x"], good["y"], good["prompt"], good["__error__"]) == (1, 2, "one", None)
    assert (bad["x"], bad["y"], bad["prompt"]) == (None, None, None)
    assert bad["__error__"].startswith("bad_value: x: Conversion Error: Could not convert string 'b' to INT32")


def test_the_fingerprint_is_of_what_the_tables_hold(folder):
    def fingerprint(prompts: str, *details: str) -> str:
        return PromptTables(
            TableConfig(prompts=prompts, details=tuple(f"{name}:animal" for name in details))
        ).fingerprint()

    before = fingerprint("prompts.csv", "animals.csv")
    (folder / "animals.csv").rename(folder / "renamed.csv")
    assert fingerprint("prompts.csv", "renamed.csv") == before
    assert fingerprint("prompts.csv") != before
    (folder / "renamed.csv").write_text(ANIMALS.replace("dog", "cow"))
    assert fingerprint("prompts.csv", "renamed.csv") != before


def test_tables_are_read_where_they_lie(s3_folder):
    storage = open_storage(s3_folder)
    storage.write("prompts/b.csv", b"prompt,animal\ntwo,9\n")
    storage.write("prompts/a.csv", b"prompt,animal\none,7\n")
    storage.write("animals.jsonl", b'{"animal": "9", "name": "dog"}\n')
    config = TableConfig(prompts=f"{s3_folder}/prompts", details=(f"{s3_folder}/animals.jsonl:animal",))
    found = fitted(config, *find_tables(config), small_bytes=1 << 20)
    (lookup,) = found.details
    rows = [row for table in found.prompts.tables() for row in lookup.joined(table).to_pylist()]
    assert [(row["prompt"], row["name"]) for row in rows] == [("one", None), ("two", "dog")]
    assert PromptTables(config).fingerprint().startswith("sha256:")
