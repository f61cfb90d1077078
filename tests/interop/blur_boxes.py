"""Run by img2dataset's Python: IN.npy OUT BOXES. Writes what its blurrer makes of a picture: OUT.1.47.npy, with the
Gaussian that 1.47 comes to, and OUT.meant.npy, with a sigma of a tenth of the largest box's larger side."""

import json
import sys

import albumentations
import cv2
import numpy as np
from img2dataset.blurrer import BoundingBoxBlurrer

source, output, boxes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
picture = np.load(source)
np.save(f"{output}.1.47.npy", BoundingBoxBlurrer()(picture, boxes))

height, width = picture.shape[:2]
sides = [max(int(b[2] * width) - int(b[0] * width), int(b[3] * height) - int(b[1] * height)) for b in boxes]


class Meant:
    def __init__(self, **options):
        pass

    def __call__(self, *, image):
        return {"image": cv2.GaussianBlur(image, (0, 0), 0.1 * max(sides))}


albumentations.GaussianBlur = Meant
np.save(f"{output}.meant.npy", BoundingBoxBlurrer()(picture, boxes))
