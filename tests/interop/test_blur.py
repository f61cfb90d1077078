"""Blurred boxes lie where img2dataset's do, and hide as much or more."""

import json

import numpy as np
import pytest

from tarloom.create.pictures.blur import blurred
from tests.create.helpers import photo
from tests.peers import peer_python, run_python
from tests.source_tree import ROOT

BOXES = [[[0.2, 0.3, 0.5, 0.6]], [[0.0, 0.1, 0.2, 0.9], [0.7, 0.7, 1.0, 1.0]], [[0.4, 0.4, 0.45, 0.43]]]


@pytest.mark.parametrize("boxes", BOXES)
def test_the_same_parts_are_blurred_as_by_img2dataset(tmp_path, boxes):
    python = peer_python("img2dataset-1.47.0")
    picture = np.asarray(photo(300, 400))
    np.save(tmp_path / "in.npy", picture)
    run_python(
        python,
        "-W",
        "ignore",
        ROOT / "tests/interop/blur_boxes.py",
        tmp_path / "in.npy",
        tmp_path / "out",
        json.dumps(boxes),
    )
    theirs, meant = (np.load(tmp_path / f"out.{kind}.npy").astype(int) for kind in ("1.47", "meant"))
    ours = blurred(picture, boxes).astype(int)
    assert np.abs(ours - meant).mean() < 1
    assert np.percentile(np.abs(ours - meant), 99.5) <= 8
    untouched = (theirs == picture).all(axis=2) & (meant == picture).all(axis=2)
    assert np.abs(ours - picture)[untouched].max(initial=0) <= 2
    for left, top, right, bottom in boxes:
        part = slice(int(top * 300), int(bottom * 300)), slice(int(left * 400), int(right * 400))
        assert roughness(ours[part]) <= roughness(theirs[part]) < roughness(picture[part].astype(int))


def roughness(part: np.ndarray) -> float:
    return float(np.abs(np.diff(part, axis=1)).mean())
