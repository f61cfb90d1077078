"""Who answers the questions about pictures: what a user can choose."""

from dataclasses import dataclass
from typing import Literal

from tarloom.errors import UsageError
from tarloom.process.caption.chat import base_url, headers

BackendName = Literal["engine", "endpoint", "ray-llm"]


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where captions come from, if not from an engine in the worker's own process."""

    backend: BackendName | None = None
    """Who answers: vLLM in the worker's process (engine), a server (endpoint), or ray.data.llm. If not given, a server
    where --endpoint names one, and else the engine."""
    endpoint: str | None = None
    """Address of a server that speaks OpenAI's protocol, such as http://localhost:8000/v1."""
    api_key_env: str | None = None
    """Environment variable that holds the server's key. It must be set wherever workers run."""
    timeout: float = 300.0
    """Seconds in which a server must have answered about a picture, all tries and pauses together."""
    retries: int = 5
    """Tries after which a picture is given up, if the server answers about others meanwhile."""

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
        if self.endpoint is not None:
            base_url(self.endpoint)
            headers(self.api_key_env)
        if self.timeout <= 0:
            raise UsageError(f"timeout must be more than 0 seconds, not {self.timeout}")
        if self.retries < 1:
            raise UsageError(f"retries must be at least 1, not {self.retries}")
