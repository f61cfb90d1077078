"""What a server is sent, and that nothing it may answer is taken for a caption by mistake, or breaks a run."""

import base64
import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tarloom.errors import FetchError, UsageError
from tarloom.process.caption.backend import Question
from tarloom.process.caption.chat import base_url, complaint, encoded, headers, reply
from tarloom.process.caption.stage import CaptionStage
from tests.process.openai_server import MODEL, completion

STAGE = CaptionStage(model=MODEL, endpoint="http://localhost")
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
NOISE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def sent(stage=STAGE, **options):
    return json.loads(encoded(stage, Question(**{"rgb": NOISE, "prompt": "What is it?", "uuid": "1"} | options)))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
        ("https://example.com/openai/deployments/x", "https://example.com/openai/deployments/x"),
        (" http://[::1]:8000/v1 ", "http://[::1]:8000/v1"),
        ("https://h.example/@team/model/v1", "https://h.example/@team/model/v1"),
    ],
)
def test_addresses_are_taken_as_people_paste_them(given, meant):
    assert base_url(given) == meant


@pytest.mark.parametrize(
    "given", ["", "localhost:8000", "file:///v1", "http://", "http://h/v1#a", "http://[::1/v1", "http://h:99999"]
)
def test_what_is_no_address_is_a_usage_error(given):
    with pytest.raises(UsageError, match="not the address of a server"):
        base_url(given)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    for address in ("http://user:secret@h/v1", "http://u:a#secret@h/v1", "http://u:secret@h:99999", "u:secret@h"):
        with pytest.raises(UsageError, match="holds a password") as refused:
            base_url(address)
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize("given", ["http://h/v1?key=secret", "http://h/v1#secret", "http://h?a#b?secret"])
def test_what_may_be_a_key_in_an_address_is_refused_and_not_repeated(given):
    with pytest.raises(UsageError, match=r"^http://h(/v1)?: not the address of a server") as refused:
        base_url(given)
    assert "secret" not in str(refused.value)


def test_a_key_that_the_server_repeats_is_not_shown():
    told = {"error": {"message": f"invalid key Bearer sk-secret{'x' * 300}"}}
    assert complaint(json.dumps(told).encode(), "sk-secret") == f"invalid key Bearer [key]{'x' * 300}"[:300]


@pytest.mark.parametrize("key", ["sk-\nsecret", "sk-\0secret", "sk-ſecret"])
def test_a_key_that_cannot_be_sent_is_a_usage_error_and_not_repeated(monkeypatch, key):
    monkeypatch.setattr("os.environ", {"MY_KEY": key})
    with pytest.raises(UsageError, match="MY_KEY: holds a line break") as refused:
        headers("MY_KEY")
    assert "ecret" not in str(refused.value)


def test_a_server_sees_every_pixel_as_it_is():
    text, picture = sent()["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    kind, data = picture["image_url"]["url"].split(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), NOISE)


def test_a_question_without_a_picture_is_sent_as_its_text():
    assert sent(rgb=None)["messages"] == [{"role": "user", "content": "What is it?"}]


def test_only_options_that_were_changed_are_sent():
    assert set(sent()) == {"model", "messages", "max_tokens", "temperature", "seed"}
    changed = CaptionStage(model=MODEL, endpoint="http://localhost", top_p=0.5, stop=(".",), picture_first=True)
    body = sent(changed)
    assert (body["top_p"], body["stop"]) == (0.5, ["."])
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]


def test_a_schema_is_sent_as_the_format_of_the_answer():
    told = sent(schema=SCHEMA)["response_format"]
    assert told["type"] == "json_schema"
    assert told["json_schema"]["schema"] == SCHEMA


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PLACES = st.sampled_from(["choices", "usage", "model", "choice", "message", "content", "finish_reason"])


@given(st.binary(max_size=200))
def test_no_bytes_break_a_run(body):
    with pytest.raises(FetchError):
        reply(body)
    complaint(body)


@given(PLACES, ANYTHING)
def test_whatever_stands_in_an_answer_becomes_columns_or_a_named_error(place, value):
    answer = completion("a caption")
    choice = answer["choices"][0]
    holders = {"choice": answer["choices"], "message": choice, "finish_reason": choice, "content": choice["message"]}
    holders.get(place, answer)[0 if place == "choice" else place] = value
    body = json.dumps(answer).encode()
    complaint(body)
    try:
        said = reply(body).said
    except FetchError:
        return
    assert isinstance(said.text, str)
    pa.array([said.text, said.finish_reason], pa.string())
    pa.array([said.prompt_tokens, said.output_tokens], pa.int32())
