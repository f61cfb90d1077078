"""Captions from a server that answers, that misbehaves, and that is not there."""

import json
import threading
import time

import pytest

from tarloom.engines.base import WorkerBroken
from tarloom.errors import EngineError, UsageError
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.caption.with_endpoint import EndpointBackend
from tests.process.openai_server import DEEDS, FOR_EVER, GREY, MODEL, OpenAIServer, numbered

PASSING = {
    "http_429": "http_429",
    "http_429 after 0": "http_429",
    "http_503 after 0": "http_503",
    "http_408": "http_408",
    "http_500": "http_500",
    "http_502": "http_502",
    "http_529": "http_529",
    "nothing": "connect",
    "hang": "timeout",
    "empty": "empty_body",
    "cut": "body_cut_short",
    "no http": "bad_response",
    "long header": "bad_response",
    "no gzip": "body_cut_short",
    "flood": "too_large",
    "wrong model": "wrong_model",
}
"""What a server may do to a try, and the name of a row to which it does nothing else."""
PASSING |= {word: "bad_answer" for word in DEEDS if word not in PASSING}
REFUSING = {
    "http_400": "prompt_refused",
    "http_413": "prompt_refused",
    "http_422": "prompt_refused",
    "http_403": "http_403",
    "http_301": "http_301",
}
TAKING_ALL_TIME = ("hang", "http_429", "http_429 after 0")
ALL = range(20)


pytestmark = pytest.mark.usefixtures("short_pauses")


def stage_for(server, word="", **options) -> CaptionStage:
    """Of a server that does so. Each try has half of the time, in which a busy machine, too, must answer all others."""
    timeout = 6.0 if word in TAKING_ALL_TIME else 20.0
    return CaptionStage(**{"model": MODEL, "endpoint": server.url, "timeout": timeout, "retries": 2} | options)


def ask(stage, numbers=ALL):
    backend = EndpointBackend(stage)
    try:
        return backend.ask([numbered(number) for number in numbers])
    finally:
        backend.close()


def texts(numbers=ALL) -> list[str]:
    return [f"picture {number}" for number in numbers]


def test_every_picture_is_asked_about_once_and_answered_in_order():
    with OpenAIServer() as server:
        said = ask(stage_for(server))
    assert [each.text for each in said] == texts()
    assert {(s.finish_reason, s.prompt_tokens, s.output_tokens, s.ending) for s in said} == {
        ("stop", 20, 2, ("success", None))
    }
    assert server.asked == dict.fromkeys(ALL, 1) | {GREY: 1}


@pytest.mark.parametrize("word", PASSING)
def test_what_may_pass_is_asked_again_and_every_answer_stays_its_own(word):
    twice = 1 if word == "hang" else 2  # two of them take all its time
    with OpenAIServer({3: [word], 4: [word] * twice, 17: [word]}) as server:
        said = ask(stage_for(server, word))
    assert [each.text for each in said] == texts()
    assert [server.asked[number] for number in (2, 3, 4, 17)] == [1, 2, 1 + twice, 2]


@pytest.mark.parametrize("word", PASSING)
def test_a_row_that_alone_is_never_answered_is_named(word):
    with OpenAIServer({3: [word, FOR_EVER]}) as server:
        said = ask(stage_for(server, word))
    assert said[3].ending == ("failed", PASSING[word])
    assert said[3].text is None
    assert [each.text for each in said if each is not said[3]] == texts(set(ALL) - {3})


@pytest.mark.parametrize("word", REFUSING)
def test_a_refused_row_is_named_and_not_asked_again(word):
    with OpenAIServer({3: [word, FOR_EVER]}) as server:
        said = ask(stage_for(server))
    assert said[3].ending == ("failed", REFUSING[word])
    assert server.asked[3] == 1
    assert sum(each.text is not None for each in said) == len(ALL) - 1


def test_all_troubles_at_once_change_no_other_rows_answer():
    words = sorted(PASSING)
    told = {10 * place: [word] for place, word in enumerate(words)}
    numbers = range(10 * len(words))
    with OpenAIServer(told) as server:
        said = ask(stage_for(server, timeout=16.0, max_num_seqs=16), numbers)
    assert [each.text for each in said] == texts(numbers)
    assert server.asked == {GREY: server.asked[GREY]} | {n: 2 if n in told else 1 for n in numbers}


@pytest.mark.parametrize(
    ("word", "text"), [("no words", ""), ("refusal", "I cannot say."), ("parts", "in parts"), ("no usage", "picture 3")]
)
def test_unusual_answers_are_understood(word, text):
    with OpenAIServer({3: [word]}) as server:
        (said,) = ask(stage_for(server), [3])
    assert (said.text, said.ending) == (text, ("success", None))
    assert said.prompt_tokens == (None if word == "no usage" else 20)


@pytest.mark.usefixtures("short_proof")
@pytest.mark.parametrize("word", ["http_500", "nothing", "garbage", "wrong model", "hang"])
def test_a_server_that_answers_nobody_any_more_ends_the_run_and_names_no_row(word):
    with OpenAIServer() as server:
        backend = EndpointBackend(stage_for(server, timeout=4.0))
        server.outage = word
        with pytest.raises(EngineError, match=r"answered nobody for 4 s .* run the same command again"):
            backend.ask([numbered(number) for number in ALL])
        backend.close()


def test_rows_wait_for_a_server_that_comes_back():
    with OpenAIServer() as server:
        backend = EndpointBackend(stage_for(server, timeout=20.0, retries=1))
        server.outage = "http_503"
        threading.Timer(0.5, lambda: setattr(server, "outage", None)).start()
        said = backend.ask([numbered(number) for number in ALL])
        backend.close()
    assert [each.text for each in said] == texts()


@pytest.mark.parametrize("word", ["http_429 after 1", "http_503 after 1"])
def test_a_server_that_has_too_much_to_do_is_left_alone_as_long_as_it_says(word):
    with OpenAIServer({3: [word]}) as server:
        started = time.monotonic()
        assert [each.text for each in ask(stage_for(server), [3])] == ["picture 3"]
        assert time.monotonic() - started >= 1
    assert server.asked[3] == 2


def test_throttling_is_no_try_of_a_row():
    with OpenAIServer({3: ["http_429"] * 12}) as server:
        said = ask(stage_for(server, retries=1))
    assert said[3].text == "picture 3"


def test_no_more_are_asked_at_a_time_than_the_user_wants():
    with OpenAIServer() as server:
        server.seconds = 0.02
        backend = EndpointBackend(stage_for(server, max_num_seqs=3))
        asking = [threading.Thread(target=backend.ask, args=([numbered(n) for n in ALL],)) for _ in range(3)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        backend.close()
    assert server.at_once == 3
    assert server.asked == dict.fromkeys(ALL, 3) | {GREY: 1}


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with OpenAIServer(key="secret") as server:
        stage = stage_for(server, api_key_env="MY_KEY")
        assert [each.text for each in ask(stage)] == texts()
    assert "secret" not in str(stage) + str(stage.fingerprint())


@pytest.mark.parametrize(("options", "sent"), [({}, None), ({"api_key_env": "MY_KEY"}, "Bearer secret")])
def test_passwords_of_netrc_are_not_sent(monkeypatch, tmp_path, options, sent):
    (tmp_path / "netrc").write_text("default login bob password hunter2\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("MY_KEY", "secret")
    with OpenAIServer() as server:
        assert [each.text for each in ask(stage_for(server, **options))] == texts()
    assert server.authorizations == {sent}


def test_the_proxy_of_the_environment_is_asked_unless_the_server_needs_none(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with OpenAIServer() as server, OpenAIServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        assert [each.text for each in ask(stage_for(server, endpoint="http://nobody.invalid/v1"))] == texts()
        assert (server.asked.total(), proxy.asked.total()) == (0, len(ALL) + 1)
        ask(stage_for(server))
    assert (server.asked.total(), proxy.asked.total()) == (len(ALL) + 1, len(ALL) + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "http_401: this key is not known"),
        ({"api_key_env": "MY_KEY"}, "http_401"),
        ({"api_key_env": "NO_KEY"}, "NO_KEY is not set here"),
    ],
)
def test_a_missing_or_wrong_key_is_a_usage_error(monkeypatch, options, message):
    monkeypatch.setenv("MY_KEY", "wrong")
    with OpenAIServer(key="secret") as server, pytest.raises(UsageError, match=message):
        ask(stage_for(server, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no/such"}, "The model `no/such` does not exist"),
        ({"endpoint": "http://127.0.0.1:9/v1"}, "connect"),
        ({"endpoint": "http://nobody.invalid/v1"}, "dns|timeout"),  # a resolver may take its time to know nobody
    ],
)
def test_a_server_that_cannot_be_asked_is_a_usage_error_before_any_row(options, message):
    with OpenAIServer() as server, pytest.raises(UsageError, match=message):
        ask(stage_for(server, **options))


def test_a_schema_that_the_server_does_not_take_is_a_usage_error_before_any_row():
    loose = {"type": "object", "properties": {"colour": {"type": "string"}}}
    strict = loose | {"additionalProperties": False}
    with OpenAIServer() as server:
        server.strict = True
        EndpointBackend(stage_for(server, json_schema=(json.dumps(strict),))).close()
        stage = stage_for(server, prompt=("a=What?", "b=Which?"), json_schema=(f"b={json.dumps(loose)}",))
        with pytest.raises(UsageError, match=r"JSON schema '.*colour.* does not take it: .*additionalProperties"):
            ask(stage)
    assert server.asked == {GREY: 4}


@pytest.mark.parametrize("word", ["http_429", "http_503", "garbage", "wrong model", "hang"])
def test_a_server_that_is_busy_when_it_is_asked_about_a_schema_says_nothing_of_the_schema(word):
    schema = json.dumps({"type": "object", "properties": {"colour": {"type": "string"}}})
    times = 2 if word == "hang" else 3  # two of them take all its time
    with OpenAIServer({GREY: ["answer", *[word] * times]}) as server:
        said = ask(stage_for(server, word, json_schema=(schema,)), [3])
    assert [each.text for each in said] == texts([3])
    assert server.asked == {GREY: 1 + times, 3: 1}


def test_a_schema_is_not_blamed_for_a_server_that_forbids_to_ask():
    schema = json.dumps({"type": "object", "properties": {"colour": {"type": "string"}}})
    with OpenAIServer({GREY: ["answer", "http_403"]}) as server, pytest.raises(UsageError, match="cannot be asked"):
        ask(stage_for(server, json_schema=(schema,)))


def test_a_wrong_path_is_a_usage_error():
    with OpenAIServer() as server, pytest.raises(UsageError, match="http_404"):
        ask(stage_for(server, endpoint=server.url + "/v2"))


def test_a_server_may_be_rude_at_first():
    with OpenAIServer({GREY: ["http_503", "garbage"]}) as server:
        assert [each.text for each in ask(stage_for(server))] == texts()


def test_a_model_that_is_gone_ends_the_run():
    with OpenAIServer({3: ["http_404"]}) as server, pytest.raises(EngineError, match="told to say 404"):
        ask(stage_for(server))


def test_closing_ends_what_is_under_way():
    broken = []

    def ask_for_long():
        try:
            backend.ask([numbered(3)])
        except WorkerBroken as error:
            broken.append(error)

    with OpenAIServer({3: ["hang"]}) as server:
        backend = EndpointBackend(stage_for(server, timeout=120.0))
        asking = threading.Thread(target=ask_for_long)
        asking.start()
        while not server.asked[3]:
            time.sleep(0.01)
        backend.close()
        backend.close()
        asking.join(timeout=50)
    assert len(broken) == 1


def test_no_thread_or_connection_is_left():
    before = set(threading.enumerate())
    with OpenAIServer() as server:
        ask(stage_for(server))
        with pytest.raises(UsageError):
            ask(stage_for(server, model="no/such"))
    assert set(threading.enumerate()) - before == set()
