"""A backend that asks a server: any that speaks OpenAI's protocol. Stands on aiohttp's client.

What the server cannot answer now is asked again, after pauses that grow, or that the server names. Before a row is
given up, others must have been answered meanwhile, or at least the stage's probe: a server that answers nobody is no
row's fault. It ends the run, and the same command goes on from there once the server is back.
"""

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import aiohttp
from yarl import URL

from tarloom.create.web.fetch import pause_before_retry, seconds_asked_for
from tarloom.create.web.proxies import proxies_of_environment
from tarloom.create.web.transport import name_error
from tarloom.errors import EngineError, FetchError, UsageError
from tarloom.format.cpus import cpu_share
from tarloom.format.sidecar import FAILED
from tarloom.process.caption.backend import PROMPT_REFUSED, Question, Said
from tarloom.process.caption.background import Background
from tarloom.process.caption.chat import WRONG_MODEL, Reply, base_url, complaint, encoded, headers, reply
from tarloom.process.caption.language import LanguageStage
from tarloom.process.caption.structured import wrong_schema

MAX_ANSWER_BYTES = 8 << 20
LONGEST_PAUSE = 30.0
KEPT_OPEN_SECONDS = 4.0
"""Of an idle connection: less than the 5 after which vLLM's server closes it, perhaps just as it is used."""
PROOF_SECONDS = 30.0
"""How long the probe may take that is to tell whether the server answers at all."""
NOBODYS_FAULT = frozenset({408, 425, 429})
REFUSALS = frozenset({400, 413, 422})
"""Of this prompt, and its picture."""
OF_ALL_ROWS = frozenset({401, 404})
"""Address, key and model are the same for all rows."""


class Throttled(FetchError):
    """The server says that it has too much to do: no fault of the row's."""


class EndpointBackend:
    """Asks from a thread of its own. Raises UsageError where the server is not there or cannot answer at all."""

    def __init__(self, stage: LanguageStage) -> None:
        self._server = _Server(stage)
        self._background = Background("tarloom-endpoint")
        try:
            self._background.do(self._server.open())
        except BaseException:
            self._background.stop()
            raise

    def ask(self, questions: Sequence[Question]) -> list[Said]:
        """Answers in order. Raises EngineError where the server answers nobody any more."""
        return self._background.do(self._server.answers(questions))

    def close(self) -> None:
        """Whoever still waits for an answer gets none."""
        if not self._background.stopped:
            self._background.do(self._server.close())
            self._background.stop()


class _Server:
    """How one server is asked. All but its making happens in the backend's event loop."""

    def __init__(self, stage: LanguageStage) -> None:
        assert stage.endpoint is not None
        self.url = f"{base_url(stage.endpoint)}/chat/completions"
        self._stage = stage
        self._proxy = proxies_of_environment().of(URL(self.url))
        """Not by aiohttp's own trust_env, which would send passwords out of ~/.netrc, too."""
        self._headers = headers(stage.api_key_env)
        self._seats = asyncio.Semaphore(stage.max_num_seqs)
        self._model: str | None = None
        """What the server calls the model in its answers: the name that we use may be an alias."""
        self._answered = 0.0
        """When it last answered."""
        self._not_before = 0.0
        """Until when it wants to be left alone."""
        self._proof = asyncio.Lock()
        self._asked: set[asyncio.Task[Said]] = set()

    async def open(self) -> None:
        """Raises UsageError unless the probe is answered."""
        self._encoders = ThreadPoolExecutor(cpu_share(), thread_name_prefix="tarloom-encode")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_OPEN_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        try:
            self._probe = await self._encoded(self._stage.probe)
            self._model = (await self._first_answer(self._probe)).model
            for question in self._stage.schema_probes:
                await self._probe_schema(question)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        for task in self._asked:
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self._session.close()
        self._encoders.shutdown()

    async def answers(self, questions: Sequence[Question]) -> list[Said]:
        """In order. The first EngineError ends all."""
        tasks = [asyncio.create_task(self._answer(question)) for question in questions]
        self._asked.update(tasks)
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            self._asked.difference_update(tasks)

    async def _answer(self, question: Question) -> Said:
        async with self._seats:
            row = _Row(await self._encoded(question), tried=_now())
            try:
                async with asyncio.timeout(self._stage.timeout):
                    return await self._until_answered(row)
            except TimeoutError:
                await self._blame_the_row(row)
            except FetchError as error:
                row.error = error
            return Said(ending=(FAILED, row.error.name))

    async def _until_answered(self, row: "_Row") -> Said:
        """Raises FetchError where the row is at fault: refused, or not answered by a server that answers."""
        tries, failures, proven = 0, 0, False
        while True:
            row.tried = _now()
            try:
                return (await self._try(row.body)).said
            except FetchError as error:
                row.error = error
                throttled = isinstance(error, Throttled)
                if not error.transient or (proven and not throttled):
                    raise
            tries, failures = tries + 1, failures + (not throttled)
            if failures < self._stage.retries or proven:
                await _pause(tries)
            else:
                await self._answers_others(since=row.tried)
                proven = True

    async def _answers_others(self, *, since: float) -> None:
        """Wait until the server has answered somebody, if only us with the probe."""
        async with self._proof:
            failures = 0
            while self._answered <= since:
                try:
                    await self._try(self._probe)
                except FetchError as error:
                    if error.transient:
                        await _pause(failures)
                failures += 1

    async def _blame_the_row(self, row: "_Row") -> None:
        """Raises EngineError if the server has answered nobody since the row was last sent."""
        try:
            async with asyncio.timeout(PROOF_SECONDS):
                await self._answers_others(since=row.tried)
        except TimeoutError:
            raise EngineError(
                f"{self.url}: answered nobody for {self._stage.timeout:g} s ({row.error}); "
                "see what the server says, then run the same command again"
            ) from None

    async def _first_answer(self, probe: bytes) -> Reply:
        """Raises UsageError."""
        try:
            return await self._tried(probe)
        except FetchError as error:
            raise self._cannot_be_asked(error) from error

    async def _probe_schema(self, question: Question) -> None:
        """Raises UsageError for a schema that the server refuses. What may pass says nothing of it: rows will tell."""
        try:
            await self._tried(await self._encoded(question))
        except FetchError as error:
            if error.name == PROMPT_REFUSED:
                raise wrong_schema(json.dumps(question.schema), f"{self.url} does not take it: {error}") from error
            if not error.transient:
                raise self._cannot_be_asked(error) from error

    async def _tried(self, probe: bytes) -> Reply:
        """Raises FetchError for what was wrong last, UsageError for what is wrong of all rows."""
        trouble = FetchError("timeout", "no answer came in time", transient=True)
        try:
            async with asyncio.timeout(self._stage.timeout):
                for failures in range(self._stage.retries + 1):
                    try:
                        return await self._try(probe)
                    except FetchError as error:
                        trouble = error
                        if not error.transient:
                            break
                        await _pause(failures)
        except TimeoutError:
            pass
        except EngineError as error:
            raise UsageError(str(error)) from error
        raise trouble

    def _cannot_be_asked(self, trouble: FetchError) -> UsageError:
        return UsageError(f"{self.url}: cannot be asked: {trouble}; check the address and the server")

    async def _try(self, body: bytes) -> Reply:
        """Raises FetchError, EngineError."""
        await asyncio.sleep(max(0.0, self._not_before - _now()))
        try:
            asking = self._session.post(self.url, data=body, allow_redirects=False, proxy=self._proxy)
            async with asyncio.timeout(self._stage.timeout / 2), asking as response:
                return self._read(response, await _body(response))
        except TimeoutError:
            raise FetchError("timeout", "no answer came in time", transient=True) from None
        except (aiohttp.ClientError, OSError) as error:
            named = name_error(error)
            raise FetchError(named.name, named.reason, transient=True) from error

    def _read(self, response: aiohttp.ClientResponse, body: bytes) -> Reply:
        if response.status != 200:
            key = self._headers.get("Authorization", "").removeprefix("Bearer ")
            self._refused(response, complaint(body, key) or response.reason or "no reason given")
        answer = reply(body)
        if None not in (answer.model, self._model) and answer.model not in (self._model, self._stage.model):
            raise FetchError(WRONG_MODEL, "the server answered by another model", transient=True)
        self._answered = _now()
        return answer

    def _refused(self, response: aiohttp.ClientResponse, reason: str) -> NoReturn:
        status, name = response.status, f"http_{response.status}"
        asked = seconds_asked_for(response.headers.get("Retry-After"))
        if status == 429 or (status == 503 and asked):
            self._not_before = max(self._not_before, _now() + asked)
            raise Throttled(name, reason, transient=True)
        if status >= 500 or status in NOBODYS_FAULT:
            raise FetchError(name, reason, transient=True)
        self._answered = _now()
        if status in OF_ALL_ROWS:
            raise EngineError(f"{self.url}: {name}: {reason}; check address, model and key")
        raise FetchError(PROMPT_REFUSED if status in REFUSALS else name, reason)

    async def _encoded(self, question: Question) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._encoders, encoded, self._stage, question)


class _Row:
    """A question under way."""

    def __init__(self, body: bytes, *, tried: float) -> None:
        self.body, self.tried = body, tried
        self.error = FetchError("timeout", "no answer came in time", transient=True)
        """What was wrong last."""


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise FetchError("too_large", f"the answer is longer than {MAX_ANSWER_BYTES} bytes", transient=True)
    return bytes(body)


async def _pause(failures: int) -> None:
    await asyncio.sleep(pause_before_retry(failures, LONGEST_PAUSE))


def _now() -> float:
    return asyncio.get_running_loop().time()
