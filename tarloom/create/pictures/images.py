"""Pictures in, pictures of the wanted size and format out. Every failure is an ImageError with one of a few names.

decode.py opens a picture and decodes it, scale.py knows sizes, for_jpeg.py what JPEGs keep of colours, colour.py makes
sRGB of what it is shown in, blur.py hides boxes, encode.py writes; here is the order in which it happens. Sizes are
img2dataset's for each resize mode, except that EXIF orientation is applied: they are what one sees. docs/pictures.md
says what becomes of every kind.
"""

from collections.abc import Sequence

from tarloom.create.config import ImageOptions
from tarloom.create.pictures.blur import Box, blurred, turned_boxes
from tarloom.create.pictures.colour import to_srgb
from tarloom.create.pictures.decode import Facts, Source, opened_picture, stored_exif
from tarloom.create.pictures.encode import encoded
from tarloom.create.pictures.exif import exif_json
from tarloom.create.pictures.for_jpeg import crisp, resized_for_jpeg
from tarloom.create.pictures.scale import Shape, ShapeOf, of_middle, on_canvas, resized, shape_of
from tarloom.create.rows import EncodedPicture
from tarloom.errors import ImageError
from tarloom.format.pictures import Pixels, Size, check_pixels


def process_picture(
    data: bytes, options: ImageOptions, boxes: Sequence[Box] | None = None, *, shaped: ShapeOf | None = None
) -> EncodedPicture:
    """Decode, orient, check, resize and encode one picture. Raises ImageError.

    boxes: parts of the picture as it is stored, to blur. shaped: which sizes it gets, if not those of the options'
    resize mode.
    """
    if options.disable_all_reencoding:
        exif = exif_json(stored_exif(data)) if options.extract_exif else None
        return EncodedPicture(data=data, width=None, height=None, original_width=None, original_height=None, exif=exif)
    with opened_picture(data, max_pixels=options.max_pixels) as source:
        facts = source.facts
        _check_size(facts.original, options)
        shape = shape_of(facts.original, options) if shaped is None else shaped(facts.original)
        check_pixels(shape.scaled, options.max_pixels)  # A line of pixels may be scaled to a bomb.
        kept = options.skip_reencode and not boxes and _fits(facts, shape, options)
        if kept:
            source.check()
        else:
            pixels = _scaled(source, shape, for_jpeg=options.encode_format == "jpg", whole=bool(boxes))
    if not kept:
        data = encoded(_finished(pixels, facts, shape, boxes), options.encode_format, options.encode_quality)
    return EncodedPicture(
        data=data,
        width=shape.canvas[1],
        height=shape.canvas[0],
        original_width=facts.original[1],
        original_height=facts.original[0],
        exif=exif_json(facts.exif) if options.extract_exif else None,
    )


def _fits(facts: Facts, shape: Shape, options: ImageOptions) -> bool:
    """Is the picture, as it is stored, what is wanted?"""
    return facts.plain and facts.format == options.encode_format and not shape.changes(facts.original)


def _scaled(source: Source, shape: Shape, *, for_jpeg: bool, whole: bool) -> Pixels:
    """In sRGB. Where a picture keeps its size, its colours are as coarse already as a JPEG's.

    whole: also what the canvas does not show.
    """
    facts = source.facts
    coarser = for_jpeg and shape.scaled != facts.original
    afterwards = facts.cmyk or facts.palette  # Fewer points of colours that alternate are others on the whole.
    resize = resized_for_jpeg if coarser and not afterwards else resized
    canvas = shape.canvas[::-1] if facts.orientation >= 5 else shape.canvas
    pixels = source.scaled(shape, resize if whole else of_middle(resize, canvas))
    pixels = to_srgb(pixels, facts.profile, grey=facts.grey)
    return crisp(pixels) if coarser and afterwards else pixels


def _finished(pixels: Pixels, facts: Facts, shape: Shape, boxes: Sequence[Box] | None) -> Pixels:
    if boxes:
        pixels = blurred(pixels, turned_boxes(boxes, facts.orientation))
    return on_canvas(pixels, shape.canvas)


def _check_size(size: Size, options: ImageOptions) -> None:
    shorter, longer, area = min(size), max(size), size[0] * size[1]
    if shorter < max(1, options.min_image_size):
        raise ImageError("too_small", f"the shorter side is under {max(1, options.min_image_size)} pixels")
    if area > options.max_image_area:
        raise ImageError("area_too_large", f"more than {options.max_image_area:g} pixels")
    if longer / shorter > options.max_aspect_ratio:
        raise ImageError("aspect_ratio_too_large", f"longer than {options.max_aspect_ratio:g} times its shorter side")
