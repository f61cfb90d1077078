"""The synthetic scenes and the pictures made of them."""

import csv
import itertools
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from source_data import make_pictures, make_training_scenes, scenes
from source_data.serve import TROUBLES

SOURCE_DATA = Path(make_pictures.__file__).parent


def test_a_seed_always_gives_the_same_scene_as_when_the_models_were_trained():
    picture, caption = scenes.scene(9_000_000)
    assert caption == "a yellow triangle above a green triangle on a blue background"
    assert picture.size == (128, 128)
    assert picture.getpixel((0, 0)) == (41, 78, 220)
    assert scenes.scene(9_000_000)[0].tobytes() == picture.tobytes()


@pytest.mark.parametrize("seed", range(scenes.HELD_OUT_SEEDS, scenes.HELD_OUT_SEEDS + 20))
def test_a_caption_says_what_the_picture_holds(seed):
    scene = scenes.describe(seed)
    picture = scene.draw()
    for thing in scene.things:
        seen = picture.getpixel((int(thing.x * 128), int(thing.y * 128)))
        named = scenes.COLOURS[thing.colour]
        assert all(abs(a - b) <= 10 for a, b in zip(seen, named, strict=True))
        assert f"{thing.colour} {thing.shape}" in scene.caption


def test_what_lies_under_a_patch_is_what_the_caption_names():
    for seed in range(scenes.HELD_OUT_SEEDS, scenes.HELD_OUT_SEEDS + 20):
        scene = scenes.describe(seed)
        seen = {scenes.KINDS[kind] for kind in scene.kinds(8)}
        assert seen == {scene.background, *(f"{thing.colour} {thing.shape}" for thing in scene.things)}
        assert scenes.KINDS[scene.kinds(1)[0]] in seen


def test_no_held_out_scene_is_drawn_for_training(tmp_path, monkeypatch, capsys):
    options = ["", "--output", str(tmp_path / "made"), "--start", str(scenes.HELD_OUT_SEEDS - 2)]
    monkeypatch.setattr("sys.argv", [*options, "--scenes", "3"])
    with pytest.raises(SystemExit):
        make_training_scenes.main()
    assert "held out" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    monkeypatch.setattr("sys.argv", [*options, "--scenes", "2"])
    make_training_scenes.main()
    assert sorted(path.suffix for path in (tmp_path / "made").iterdir()) == [".json"] * 2 + [".png"] * 2 + [".txt"] * 2


def test_distinct_scenes_never_share_a_caption():
    captions = [scene.caption for scene in itertools.islice(scenes.distinct_scenes(), 300)]
    assert len(set(captions)) == 300


def test_the_shipped_pictures_can_be_made_again(tmp_path):
    make_pictures.make(tmp_path)
    made, shipped = _files(tmp_path), _files(SOURCE_DATA)
    assert made.keys() == shipped.keys()
    for name in made:
        if name.endswith((".txt", ".cls", ".csv")):
            assert made[name].read_bytes() == shipped[name].read_bytes()
        else:
            assert _small(made[name]) == pytest.approx(_small(shipped[name]), abs=3)


def test_every_picture_shows_the_colour_of_its_background_once_seen_rightly():
    for row in _rows():
        if row["expected"] == "success":
            path = SOURCE_DATA / "pictures" / row["url"].rpartition("/")[2]
            scene = scenes.describe(int(row["seed"]))
            assert (path.with_suffix(".txt").read_text(), scene.caption) == (row["caption"], row["caption"])
            named = scenes.BACKGROUNDS[scene.background]
            assert _small(path)[:3] == pytest.approx(named, abs=16), path


def test_the_url_list_holds_every_trouble_once():
    expected = sorted(row["expected"] for row in _rows() if row["expected"] != "success")
    assert expected == sorted(trouble.expected for trouble in TROUBLES)


def test_the_folder_stays_small():
    assert sum(path.stat().st_size for path in SOURCE_DATA.rglob("*") if path.is_file()) < 20_000_000


def _rows() -> list[dict[str, str]]:
    with open(SOURCE_DATA / "urls.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in [*(folder / "pictures").iterdir(), folder / "urls.csv"]}


def _small(path: Path) -> list[int]:
    """The picture as a viewer would show it, at 32 pixels: its RGB values, row by row."""
    picture = ImageOps.exif_transpose(Image.open(path))
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return list(picture.convert("RGB").resize((32, 32), Image.Resampling.BOX).tobytes())
