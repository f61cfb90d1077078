"""Every stage keeps the contract: those that come with tarloom, and the template for one's own."""

import sys
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from tarloom.process.embed.stage import EmbedStage
from tarloom.process.picture_stage import PictureStage
from tarloom.process.stages.aesthetic import AestheticStage
from tarloom.process.stages.hash import HashStage
from tarloom.process.stages.quality import QualityStage
from tests.process.shards import CLIP, ROOT
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


CLIP_STAGE = EmbedStage(model=str(CLIP))


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
