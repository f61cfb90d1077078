"""Resize, convert or compress one picture, or all of a folder, in parallel on Ray.

python process/resize_images.py --batch --input-dir photos --output-dir small --resize 800x600 --num-workers 4
"""

import sys

from tarloom.cli import run

if __name__ == "__main__":
    sys.exit(run("resize", engine="ray"))
