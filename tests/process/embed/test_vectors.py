"""Vectors by a model that is loaded: they depend on nothing but their picture or text, and on no processor's speed."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPImageProcessor

from tarloom.errors import MissingExtra, UsageError
from tarloom.process.embed.jpegs import is_plain
from tarloom.process.embed.stage import EmbedStage, picture_vectors, text_vectors
from tarloom.process.embed.tensors import fitted, normalised
from tarloom.process.embed.vectors import CPU_ROWS, Vectors
from tarloom.read.samples.decode import decode_rgb
from tests.process.embed import models
from tests.process.shards import CLIP, encoded

SIZES = [(224, 224), (256, 341), (341, 255), (1024, 700), (30, 20), (1, 1), (1, 150), (150, 3), (225, 224)]
TEXTS = ["", "a red star", "a blue cross", "a sentence that has some more words in it " * 3, "endless " * 200]


def pictures(sizes=SIZES):
    """Noise that is smooth enough for resizing to matter. Sizes are (height, width)."""
    dice = np.random.default_rng(0)
    for height, width in sizes:
        coarse = dice.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
        yield np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module", params=[models.clip, models.siglip, None], ids=["clip", "siglip", "shipped"])
def model(request, tmp_path_factory):
    return CLIP if request.param is None else request.param(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def vectors(model):
    opened = Vectors(EmbedStage(model=str(model)))
    yield opened
    opened.close()
    opened.close()


def test_tensors_are_those_of_the_library_s_processor_bit_for_bit(model, vectors):
    processor, fitting = AutoImageProcessor.from_pretrained(model), vectors._encoder.fitting
    assert "torchvision" in processor.backend
    for rgb in pictures():
        theirs = processor([rgb], input_data_format="channels_last", return_tensors="pt")["pixel_values"]
        rgb.flags.writeable = False
        assert torch.equal(normalised(fitted(rgb, fitting)[None], fitting), theirs), rgb.shape


def test_vectors_are_those_of_the_library_s_model(model, vectors):
    loaded, tokenizer = (
        AutoModel.from_pretrained(model, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(model),
    )
    pixels = AutoImageProcessor.from_pretrained(model)(
        list(pictures()), input_data_format="channels_last", return_tensors="pt"
    )
    longest = loaded.config.text_config.max_position_embeddings
    tokens = tokenizer(TEXTS, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        seen, read = loaded.get_image_features(**pixels).pooler_output, loaded.get_text_features(**tokens).pooler_output
    assert np.abs(vectors.of_pictures(list(pictures())) - unit(seen)).max() < 1e-5
    assert np.abs(vectors.of_texts(TEXTS) - unit(read)).max() < 1e-5


def test_a_vector_depends_on_nothing_but_its_picture_or_text(vectors):
    seen, texts = list(pictures()) * 3, [f"{text} {number}" for text in TEXTS for number in range(6)]
    for whole, of in ((seen, vectors.of_pictures), (texts, vectors.of_texts)):
        expected = of(whole)
        assert expected.dtype == np.float32
        for seed in range(3):
            order = random.Random(seed).sample(range(len(whole)), len(whole))
            cuts = sorted(random.Random(seed).sample(range(1, len(whole)), 5))
            parts = np.split(np.array(order), cuts)
            found = np.concatenate([of([whole[n] for n in part]) for part in parts])
            assert np.array_equal(found, expected[order])


def test_no_rows_have_no_vectors(vectors):
    assert vectors.of_pictures([]).shape == vectors.of_texts([]).shape == (0, vectors.width)


class Small:
    """A model, and memory for so few rows at a time."""

    def __init__(self, encoder, rows):
        self._encoder, self._room, self.passes = encoder, rows, []

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def pictures(self, pixels):
        if len(pixels) > self._room:
            raise torch.OutOfMemoryError("out of memory")
        self.passes.append(len(pixels))
        return self._encoder.pictures(pixels)


def with_room_for(vectors, rows, monkeypatch):
    small = Small(vectors._encoder, rows)
    monkeypatch.setattr(vectors, "_encoder", small)
    monkeypatch.setattr(vectors, "_rows", vectors._rows)
    return small


def test_a_pass_that_does_not_fit_the_memory_is_halved_and_so_are_those_after_it(vectors, monkeypatch):
    seen = list(pictures()) * 2
    expected = vectors.of_pictures(seen)
    small = with_room_for(vectors, 2, monkeypatch)
    assert np.abs(vectors.of_pictures(seen) - expected).max() < 1e-5
    assert vectors._rows == 2
    small.passes.clear()
    vectors.of_pictures(seen[: CPU_ROWS + 1])
    assert small.passes == [2] * (CPU_ROWS // 2 + 1)


def test_memory_too_small_for_a_single_picture_is_a_usage_error(vectors, monkeypatch):
    with_room_for(vectors, 0, monkeypatch)
    with pytest.raises(UsageError, match="does not fit this machine's memory"):
        vectors.of_pictures(list(pictures()))


def test_jpegs_that_are_decoded_beside_the_model_give_vectors_that_come_close(vectors):
    seen = [Image.fromarray(rgb) for rgb in pictures([(224, 224), (256, 341), (100, 70)])]
    stored = [encoded(one) for one in (*seen, seen[0].convert("L"))]
    found = vectors.of_jpegs([*stored, stored[0][:300]])
    expected = vectors.of_pictures([decode_rgb(data) for data in stored])
    assert np.isnan(found[-1]).all()
    assert np.einsum("nd,nd->n", found[:-1], expected).min() > 0.999
    assert np.array_equal(vectors.of_jpegs(stored[1:]), found[1:-1])


def test_only_plain_whole_jpegs_are_left_to_other_decoders():
    picture, turned = Image.new("RGB", (64, 48), "red"), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(turned, "JPEG", exif=exif)
    assert is_plain(encoded(picture))
    others = [turned.getvalue(), encoded(picture)[:-2], encoded(picture, "PNG"), encoded(Image.new("RGB", (4000, 1)))]
    assert not any(map(is_plain, others))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_comes_close(model, vectors, dtype):
    half = Vectors(EmbedStage(model=str(model), dtype=dtype))
    seen = list(pictures())
    assert np.einsum("nd,nd->n", half.of_pictures(seen), vectors.of_pictures(seen)).min() > 0.999
    assert np.einsum("nd,nd->n", half.of_texts(TEXTS), vectors.of_texts(TEXTS)).min() > 0.999
    half.close()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
def test_a_compiled_model_gives_the_same_vectors(tmp_path):
    folder = models.clip(tmp_path / "clip")
    seen = list(pictures())
    compiled = Vectors(EmbedStage(model=str(folder), compile=True))
    assert np.abs(compiled.of_pictures(seen) - vectors_of(folder, seen)).max() < 1e-5
    compiled.close()


@pytest.mark.parametrize(
    "options", [{"do_normalize": False}, {"resample": 1}, {"crop_size": 256}, {"do_resize": False}]
)
def test_pictures_that_are_to_be_prepared_in_an_unknown_way_are_a_usage_error(tmp_path, options):
    folder = models.clip(tmp_path / "clip")
    CLIPImageProcessor(**options).save_pretrained(folder)
    with pytest.raises(UsageError, match="in a way that embedding does not know"):
        Vectors(EmbedStage(model=str(folder)))


def test_models_of_open_clip_are_known_by_their_folders_and_names(tmp_path):
    tmp_path.joinpath("open_clip_config.json").write_text("{}")
    named = [str(tmp_path), "hf-hub:laion/CLIP", "ViT-B-32:laion2b_s34b_b79k"]
    for model in named:
        EmbedStage(model=model).check()
        assert EmbedStage(model=model).library == "open_clip"
    assert EmbedStage(model="laion/CLIP").library == EmbedStage(model=str(CLIP)).library == "transformers"
    with pytest.raises(UsageError, match="takes no revision"):
        EmbedStage(model=str(tmp_path), revision="main").check()
    with pytest.raises(UsageError, match="models of open_clip are named"):
        EmbedStage(model="ViT-B-32:/some/file.pt").check()


def test_open_clip_that_is_not_installed_is_named_with_the_line_that_installs_it(tmp_path):
    try:
        import open_clip  # noqa: F401
    except ImportError:
        tmp_path.joinpath("open_clip_config.json").write_text("{}")
        with pytest.raises(MissingExtra, match=r"pip install 'tarloom\[open-clip\]'"):
            text_vectors(str(tmp_path), ["a red star"])


@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_vectors_of_open_clip_are_its_own(tmp_path, mode):
    open_clip = pytest.importorskip("open_clip")
    folder = models.open_clip_model(tmp_path / "model", resize_mode=mode)
    theirs, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    pixels = torch.stack([prepare(Image.fromarray(rgb)) for rgb in pictures()])
    with torch.inference_mode():
        seen, read = theirs.eval().encode_image(pixels), theirs.encode_text(tokens)
    assert np.einsum("nd,nd->n", vectors_of(folder, list(pictures())), unit(seen)).min() > 0.9999
    assert np.abs(text_vectors(str(folder), TEXTS) - unit(read)).max() < 1e-5


def vectors_of(folder, seen):
    return picture_vectors(str(folder), [encoded(Image.fromarray(rgb), "PNG") for rgb in seen])


def unit(features):
    return (features / features.norm(dim=-1, keepdim=True)).numpy()
