"""Quality: what it measures is what its names say, on pictures whose answers are known."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tarloom.process.stages.quality import QualityStage
from tests.process.shards import encoded, scene_sample
from tests.process.stage_contract import ask


def measured(*pictures: Image.Image, kind: str = "PNG", **options) -> list[dict]:
    return ask(QualityStage(**options), *({kind.lower(): encoded(picture, kind)} for picture in pictures))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def halves(left: int, right: int) -> Image.Image:
    grey = np.repeat([[left] * 32 + [right] * 32], 64, axis=0).astype(np.uint8)
    return Image.fromarray(np.stack([grey] * 3, axis=2))


def test_the_size_is_that_of_the_stored_picture_however_small_it_was_decoded():
    large = noise(16, 16).resize((4200, 2100))
    (row,) = measured(large, kind="JPEG")
    assert (row["width"], row["height"]) == (4200, 2100)


def test_known_pictures_have_known_measures():
    black_and_white, red = measured(halves(0, 255), Image.new("RGB", (50, 40), (255, 0, 0)))
    assert (black_and_white["brightness"], black_and_white["contrast"]) == (127.5, 127.5)
    assert (black_and_white["entropy"], black_and_white["saturation"]) == (1.0, 0.0)
    assert (red["saturation"], red["entropy"], red["contrast"]) == (255.0, 0.0, 0.0)


def test_a_blurred_picture_has_less_blur_variance_at_every_step():
    sharp = noise(200, 150)
    blurs = [row["blur"] for row in measured(*(sharp.filter(ImageFilter.GaussianBlur(radius)) for radius in range(5)))]
    assert blurs == sorted(blurs, reverse=True)
    assert blurs[-1] < 100 < blurs[0]


def test_blur_is_the_variance_of_the_laplacian_as_opencv_computes_it():
    cv2 = pytest.importorskip("cv2")
    picture = noise(90, 60)
    inside = cv2.Laplacian(np.asarray(picture.convert("L"), np.float64), cv2.CV_64F)[1:-1, 1:-1]
    assert measured(picture)[0]["blur"] == pytest.approx(inside.var(), rel=1e-6)


def test_a_picture_and_its_enlargement_measure_alike():
    picture = noise(1024, 768).filter(ImageFilter.GaussianBlur(6))
    small, large = measured(picture, picture.resize((2048, 1536), Image.Resampling.BICUBIC))
    assert large["blur"] == pytest.approx(small["blur"], rel=0.1)


@pytest.mark.parametrize(
    ("picture", "blank"),
    [(Image.new("RGB", (64, 64), "white"), True), (halves(128, 131), True), (halves(100, 120), False)],
    ids=["white", "nearly grey", "two greys"],
)
def test_what_has_next_to_no_contrast_is_blank(picture, blank):
    assert measured(picture)[0]["blank"] is blank
    assert measured(picture, blank_contrast=0.0)[0]["blank"] is False


def test_a_line_of_pixels_and_a_single_one_are_measured_too():
    for row in measured(Image.new("RGB", (1, 1)), Image.new("RGB", (150, 1)), Image.new("RGB", (2, 150))):
        assert (row["status"], row["blur"], row["blank"]) == ("success", 0.0, True)


def test_a_scene_is_neither_blank_nor_blurred():
    (row,) = ask(QualityStage(), scene_sample(0)[1])
    assert not row["blank"]
    assert row["blur"] > 100
