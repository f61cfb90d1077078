"""Who answers questions: what a user can choose."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from tarloom.create.web.transient import TRANSIENT_NAMES
from tarloom.errors import UsageError
from tarloom.process.caption.chat import BAD_ANSWER, WRONG_MODEL, base_url, headers

BackendName = Literal["engine", "endpoint", "ray-llm"]
_THE_SERVERS = {"revision", "dtype", "max_model_len", "gpu_memory_utilization", "trust_remote_code", "chat_template"}
"""Options that an engine here would heed."""
_SERVERS_TROUBLES = {"bad_response", "empty_body", "tls", "too_large", BAD_ANSWER, WRONG_MODEL}


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where answers come from, if not from an engine in the worker's own process."""

    backend: BackendName | None = None
    """Who answers: vLLM in the worker's process (engine), a server (endpoint), or ray.data.llm. If not given, a server
    where --endpoint names one, and else the engine."""
    endpoint: str | None = None
    """Address of a server that speaks OpenAI's protocol, such as http://localhost:8000/v1."""
    api_key_env: str | None = None
    """Environment variable that holds the server's key. It must be set wherever workers run."""
    timeout: float = 300.0
    """Seconds in which a server must have answered about a row, all tries and pauses together."""
    retries: int = 5
    """Tries after which a row is given up, if the server answers about others meanwhile."""

    transient: ClassVar[frozenset[str]] = TRANSIENT_NAMES | _SERVERS_TROUBLES | {f"http_{s}" for s in range(500, 600)}

    @property
    def answers(self) -> BackendName:
        """The backend, also where it was not named."""
        return self.backend or ("engine" if self.endpoint is None else "endpoint")

    def check_server(self) -> None:
        """Raises UsageError for options that cannot work. Nobody is asked."""
        if self.answers == "endpoint" and self.endpoint is None:
            raise UsageError("--backend endpoint asks a server: name it, such as --endpoint http://localhost:8000/v1")
        if self.answers == "engine" and self.endpoint is not None:
            raise UsageError(f"--backend engine asks no server; leave --endpoint {self.endpoint} or the backend out")
        if self.answers == "ray-llm" and self.endpoint is not None:
            raise UsageError("--backend ray-llm starts engines of its own; leave it out to ask --endpoint")
        if self.endpoint is not None:
            self._check_endpoint(self.endpoint)
        if self.timeout <= 0:
            raise UsageError(f"timeout must be more than 0 seconds, not {self.timeout}")
        if self.retries < 1:
            raise UsageError(f"retries must be at least 1, not {self.retries}")

    def _check_endpoint(self, endpoint: str) -> None:
        url = base_url(endpoint)
        headers(self.api_key_env)
        if not getattr(self, "model", ""):
            raise UsageError(f"--endpoint {endpoint} needs --model, a name that the server knows; see {url}/models")
        given = [f.name for f in fields(self) if f.name in _THE_SERVERS and getattr(self, f.name) != f.default]
        if given:
            raise UsageError(f"{', '.join(given)}: up to the server of --endpoint; leave it out, or set it there")
