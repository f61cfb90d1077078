"""Every stage keeps the contract: those that come with tarloom, and the template for one's own."""

import re
import sys
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

from tarloom.process.caption.sampling import SamplingOptions
from tarloom.process.caption.stage import CaptionStage
from tarloom.process.embed.stage import EmbedStage, EmbedTextStage
from tarloom.process.picture_stage import PictureStage
from tarloom.process.registry import BUILT_IN
from tarloom.process.rewrite.stage import RewriteStage
from tarloom.process.stages.aesthetic import AestheticStage
from tarloom.process.stages.clip_score import ClipScoreStage
from tarloom.process.stages.hash import HashStage
from tarloom.process.stages.quality import QualityStage
from tests.process.openai_server import MODEL, OpenAIServer, fingerprint_of
from tests.process.shards import CAPTIONER, CLIP, ROOT
from tests.process.stage_contract import PictureStageContract, StageContract

sys.path.append(str(ROOT / "docs"))
from own_stage import Warmth


@dataclass(frozen=True, kw_only=True)
class TextStage(PictureStage):
    """A text for every picture, made of nothing but its pixels."""

    name = "caption"
    columns: ClassVar = {"text": pa.string()}

    def look(self, rgb):
        return {"text": f"a picture of brightness {rgb.mean():.0f}"}


SCHEMA = '{"type": "object", "properties": {"colour": {"type": "string"}}}'
CLIP_STAGE = EmbedStage(model=str(CLIP))
OTHER_MODEL = {"model": "other/model", "dtype": "bfloat16", "compile": True}
OF_FOLDERS = frozenset({"batch_size", "revision"})
"""Options that change nothing: folders have no revisions."""


class TestHash(PictureStageContract):
    @staticmethod
    def make(folder):
        return HashStage()


class TestQuality(PictureStageContract):
    @staticmethod
    def make(folder):
        return QualityStage()

    @staticmethod
    def other(folder):
        return {"blank_contrast": 30.0}


class TestTheTemplate(PictureStageContract):
    @staticmethod
    def make(folder):
        return Warmth()

    @staticmethod
    def other(folder):
        return {"darkest": 100.0}


class TestCaption(PictureStageContract):
    """By a server: what an engine adds is tested with the engine."""

    free: ClassVar = {
        *("batch_size", "backend", "endpoint", "api_key_env", "timeout", "retries", "max_num_seqs"),
        *("revision", "dtype", "max_model_len", "gpu_memory_utilization", "trust_remote_code", "chat_template"),
    }

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls):
        with OpenAIServer() as server:
            server.caption = fingerprint_of
            yield CaptionStage(model=MODEL, endpoint=server.url)

    @staticmethod
    def other(folder):
        sampling = {f.name: 1 for f in fields(SamplingOptions)} | {"stop": (".",), "max_tokens": 7, "top_p": 0.5}
        sampling |= {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "presence_penalty": 0.5, "min_p": 0.5}
        asked = {"model": "other", "prompt": "Why?", "json_schema": (SCHEMA,), "picture_first": True}
        return sampling | asked | {"max_pixels": 1000}


@pytest.mark.slow
class TestCaptionOfAnEngine(PictureStageContract):
    free: ClassVar = {
        *("batch_size", "backend", "endpoint", "api_key_env", "timeout", "retries", "max_num_seqs", "revision"),
        *("gpu_memory_utilization", "trust_remote_code"),
    }

    @staticmethod
    def make(folder):
        return CaptionStage(model=str(CAPTIONER), batch_size=16)

    @staticmethod
    def other(folder):
        (folder / "chat.jinja").write_text("{{ messages }}")
        template = {"chat_template": str(folder / "chat.jinja")}
        return TestCaption.other(folder) | template | {"dtype": "bfloat16", "max_model_len": 77}


class TestRewrite(StageContract):
    """By a server, too. Rows without a picture have no text."""

    free: ClassVar = TestCaption.free
    before: ClassVar = {"caption": TextStage()}

    @pytest.fixture(scope="class")
    @classmethod
    def stage(cls):
        with OpenAIServer() as server:
            server.caption = fingerprint_of
            yield RewriteStage(model=MODEL, endpoint=server.url, prompt="Say it otherwise: {caption.text}")

    @staticmethod
    def other(folder):
        others = TestCaption.other(folder) | {"prompt": "{caption.text}"}
        return {option: value for option, value in others.items() if option not in ("picture_first", "max_pixels")}


class TestClip(PictureStageContract):
    free: ClassVar = OF_FOLDERS

    @staticmethod
    def make(folder):
        return CLIP_STAGE

    @staticmethod
    def other(folder):
        return {**OTHER_MODEL, "decode": "gpu"}


class TestClipOfJpegsDecodedBesideTheModel(PictureStageContract):
    free: ClassVar = OF_FOLDERS

    @staticmethod
    def make(folder):
        return EmbedStage(model=str(CLIP), decode="gpu")

    @staticmethod
    def other(folder):
        return {**OTHER_MODEL, "decode": "cpu"}


class TestClipText(StageContract):
    free: ClassVar = OF_FOLDERS
    before: ClassVar = {"caption": TextStage()}

    @staticmethod
    def make(folder):
        return EmbedTextStage(model=str(CLIP), text_column="caption.text")

    @staticmethod
    def other(folder):
        return {**OTHER_MODEL, "text_column": "caption"}


class TestClipScore(PictureStageContract):
    free: ClassVar = OF_FOLDERS
    before: ClassVar = {"caption": TextStage()}

    @staticmethod
    def make(folder):
        return ClipScoreStage(model=str(CLIP))

    @staticmethod
    def other(folder):
        return {**OTHER_MODEL, "texts": "caption", "pictures": "clip.embedding"}


class TestClipScoreOfVectors(StageContract):
    free: ClassVar = OF_FOLDERS
    before: ClassVar = {"caption": TextStage(), "clip": CLIP_STAGE}

    @staticmethod
    def make(folder):
        return ClipScoreStage(model=str(CLIP), pictures="clip.embedding")

    @staticmethod
    def other(folder):
        return {**OTHER_MODEL, "texts": "caption", "pictures": None}


def test_revisions_of_a_model_on_the_hub_are_told_apart():
    stages = EmbedStage(model="other/model"), ClipScoreStage(model="other/model")
    assert all(replace(stage, revision="v2").fingerprint() != stage.fingerprint() for stage in stages)


class TestAesthetic(StageContract):
    before: ClassVar = {"clip": CLIP_STAGE}

    @staticmethod
    def make(folder):
        return AestheticStage(weights=head(folder / "head.npz", seed=0))

    @staticmethod
    def other(folder):
        return {"weights": head(folder / "other.npz", seed=1), "embedding": "other.embedding"}


def head(path, *, seed):
    np.savez(path, weight=np.random.default_rng(seed).normal(size=(1, 96)), bias=[5.0])
    return str(path)


def test_the_page_about_stages_shows_the_template_as_it_is_and_names_every_stage_and_column():
    page = (ROOT / "docs/stages.md").read_text(encoding="utf-8")
    assert f"```python\n{(ROOT / 'docs/own_stage.py').read_text(encoding='utf-8')}```" in page
    named = set(re.findall(r"`(\w+)`", page))
    assert set(BUILT_IN) <= named
    assert {*HashStage.columns, *QualityStage.columns} <= named
