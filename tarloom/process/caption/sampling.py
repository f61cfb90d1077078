"""How the words of an answer are chosen: options under the names that vLLM and its servers know."""

from dataclasses import dataclass, fields
from typing import Any

from tarloom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How answers are sampled. What is not changed here is left to the backend."""

    max_tokens: int = 128
    """An answer ends after so many tokens."""
    min_tokens: int = 0
    """An answer does not end before so many tokens."""
    temperature: float = 0.0
    """0 takes the likeliest token each time, so that answers can be repeated."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are taken."""
    top_k: int = 0
    """Only so many of the likeliest tokens are taken; 0: all."""
    min_p: float = 0.0
    """Only tokens are taken that have this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that have been in the prompt or the answer are less likely to come again."""
    presence_penalty: float = 0.0
    """Above 0, tokens that have been in the answer are less likely to come again."""
    frequency_penalty: float = 0.0
    """Above 0, tokens are the less likely to come again the more often they have been in the answer."""
    stop: tuple[str, ...] = ()
    """An answer ends before any of these texts."""
    seed: int = 0
    """Of the sampling, where the temperature is above 0."""

    def sampling(self) -> dict[str, Any]:
        """What a backend is told: what every one knows, and of the rest what was changed."""
        every = {"max_tokens", "temperature", "seed"}
        told = {field.name: getattr(self, field.name) for field in fields(SamplingOptions)}
        defaults = {field.name: field.default for field in fields(SamplingOptions)}
        changed = {name: value for name, value in told.items() if name in every or value != defaults[name]}
        return changed | ({"stop": list(self.stop)} if self.stop else {})

    def check_sampling(self) -> None:
        """Raises UsageError for values that no model can work with."""
        for wrong, needed in (
            (self.max_tokens < 1, f"max_tokens must be at least 1, not {self.max_tokens}"),
            (not 0 <= self.min_tokens <= self.max_tokens, f"min_tokens must be 0 to max_tokens, not {self.min_tokens}"),
            (self.temperature < 0, f"temperature must be at least 0, not {self.temperature}"),
            (not 0 < self.top_p <= 1, f"top_p must be above 0 and at most 1, not {self.top_p}"),
            (self.top_k < 0, f"top_k must be at least 0, not {self.top_k}"),
            (not 0 <= self.min_p <= 1, f"min_p must be 0 to 1, not {self.min_p}"),
            (self.repetition_penalty <= 0, f"repetition_penalty must be above 0, not {self.repetition_penalty}"),
            (not -2 <= self.presence_penalty <= 2, f"presence_penalty must be -2 to 2, not {self.presence_penalty}"),
            (not -2 <= self.frequency_penalty <= 2, f"frequency_penalty must be -2 to 2, not {self.frequency_penalty}"),
            (not all(self.stop), "stop: an empty text would end every answer at once"),
        ):
            if wrong:
                raise UsageError(needed)
