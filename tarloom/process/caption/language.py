"""The base of stages that ask a language model about each row: what a user can choose of models, prompts and backends.

A subclass says what a row's question shows besides its prompt: a picture, or nothing.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from tarloom.engines.workers import visible_gpus
from tarloom.errors import UsageError
from tarloom.process.caption.backend import Backend, Question
from tarloom.process.caption.columns import Caption, schema_of
from tarloom.process.caption.environment import prepare_environment
from tarloom.process.caption.prompts import Prompt, read_prompts
from tarloom.process.caption.sampling import SamplingOptions
from tarloom.process.caption.server import ServerOptions
from tarloom.process.caption.structured import inlined, schemas_by_prompt
from tarloom.process.models import check_model, file_text, model_identity
from tarloom.process.stage import Stage


@dataclass(frozen=True, kw_only=True)
class LanguageStage(SamplingOptions, ServerOptions, Stage):
    """An answer for every row, how it ended, its tokens, and what is wrong with it, as columns."""

    model: str = ""
    """A model that vLLM knows: a folder, or a name on the Hugging Face hub. With --endpoint: the name that the server
    knows it by."""
    prompt: str | tuple[str, ...] = ""
    """What the model is asked about each row. {COLUMN} stands for what the row has there, {{ for a brace. Several at
    once: NAME=TEXT NAME=TEXT, whose columns are called NAME, NAME_truncated and so on."""
    json_schema: tuple[str, ...] = ()
    """JSON schema that answers must fit, as a file or as JSON; its properties become columns. Of several prompts:
    NAME=SCHEMA."""
    chat_template: str | None = None
    """Jinja template, as a file, for models that bring none of their own."""
    revision: str | None = None
    """Branch, tag or commit of a model on the hub."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """What the model computes in; auto: as its weights are stored."""
    max_model_len: int = 4096
    """Tokens of prompt, picture and answer together; a model's own limit holds where it is less."""
    max_num_seqs: int = 64
    """Rows that the engine works on at a time, or that a server is asked about at a time."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory that the engine may use."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Only for models you trust."""
    batch_size: int = 256
    """Rows handed to the engine at a time."""

    version: ClassVar[str]
    """Of what the code makes of the options; a change of outputs changes it."""
    model_for_gpu: ClassVar[str]
    model_for_cpu: ClassVar[str]
    """Those that are used where none is named."""
    counted: ClassVar[tuple[str, ...]] = ("prompt_tokens", "output_tokens")

    def __post_init__(self) -> None:
        """What lies in files here is read: the stage travels to machines that lack them. Raises UsageError."""
        given = (self.json_schema,) if isinstance(self.json_schema, str) else self.json_schema
        object.__setattr__(self, "json_schema", tuple(map(inlined, given)))
        if self.chat_template is not None:
            object.__setattr__(self, "chat_template", file_text(self.chat_template))
        if not self.model and self.endpoint is None:
            object.__setattr__(self, "model", self.model_for_gpu if visible_gpus() else self.model_for_cpu)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Raises UsageError."""
        return read_prompts(self.prompt)

    @property
    def captions(self) -> tuple[Caption, ...]:
        """What becomes of each prompt's answers. Raises UsageError."""
        schemas = schemas_by_prompt(self.json_schema, [prompt.name for prompt in self.prompts])
        return tuple(Caption(name=prompt.name, structure=schemas.get(prompt.name)) for prompt in self.prompts)

    @property
    @abstractmethod
    def probe(self) -> Question:
        """One that only tells if there are answers: a backend that cannot answer this one answers nothing."""

    @property
    def schema_probes(self) -> tuple[Question, ...]:
        """One for each JSON schema: one that a backend does not take would fail every row. Raises UsageError."""
        structures = [caption.structure for caption in self.captions if caption.structure is not None]
        return tuple(replace(self.probe, schema=structure.schema) for structure in structures)

    @property
    def picture_first(self) -> bool:
        """Whether questions put their picture before the text."""
        return False

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column for prompt in self.prompts for column in prompt.columns))

    def check(self) -> None:
        """Raises UsageError for options that cannot work or a model that is not there."""
        for option in ("max_model_len", "max_num_seqs", "batch_size"):
            if getattr(self, option) < 1:
                raise UsageError(f"{option} must be at least 1, not {getattr(self, option)}")
        self.check_sampling()
        schema_of(self.captions)
        self.check_server()
        if self.answers == "ray-llm" and self.revision is not None:
            raise UsageError("ray.data.llm takes no revision of a model; download it and give --model its folder")
        if self.endpoint is None:
            check_model(self.model, revision=self.revision)

    def fingerprint(self) -> Mapping[str, str]:
        asked = self._engine() if self.endpoint is None else {"model": self.model}
        return {
            "stage": self.name,
            "version": self.version,
            "backend": self.answers,
            **asked,
            **self._prompts_in_fingerprint(),
            **{name: str(value) for name, value in self.sampling().items()},
        }

    def _prompts_in_fingerprint(self) -> dict[str, str]:
        named = {"prompt" if p.name is None else f"prompt {p.name}": p.template for p in self.prompts}
        structures = {c.name: c.structure.text for c in self.captions if c.structure is not None}
        return named | {"json_schema" if n is None else f"json_schema {n}": text for n, text in structures.items()}

    def _engine(self) -> dict[str, str]:
        """What of its output is up to this machine, and not to a server."""
        return {
            "model": model_identity(self.model, revision=self.revision),
            "max_model_len": str(self.max_model_len),
            "dtype": self.dtype,
            **({"chat_template": self.chat_template} if self.chat_template is not None else {}),
        }

    def _backend(self) -> Backend:
        if self.answers == "endpoint":
            from tarloom.process.caption.with_endpoint import EndpointBackend

            return EndpointBackend(self)
        prepare_environment()
        if self.answers == "ray-llm":
            from tarloom.process.caption.with_ray_llm import RayLlmBackend

            return RayLlmBackend(self)
        from tarloom.process.caption.with_vllm import VllmBackend

        return VllmBackend(self)
