"""A command line of img2dataset means here what it means there."""

import pytest

from tarloom.cli.commands import Create
from tarloom.cli.img2dataset import translated
from tarloom.cli.parse import parse
from tarloom.errors import UsageError

MINIMAL = ["--url_list", "urls.txt", "--output_folder", "out"]


def create(*words: str, **defaults) -> Create:
    return parse(Create, translated([*MINIMAL, *words]), prog="create", defaults=defaults)


def test_the_command_of_its_readme_is_understood():
    words = (
        "--processes_count=16 --thread_count=64 --image_size=256 --output_format=webdataset --input_format parquet "
        "--url_col URL --caption_col TEXT --resize_mode keep_ratio --resize_only_if_bigger True "
        '--save_additional_columns \'["NSFW","similarity"]\' --enable_wandb False'
    )
    made = create(*(word.strip("'") for word in words.split()))
    options = made.create
    assert (options.source, options.output, made.run_on.num_workers) == ("urls.txt", "out", 16)
    assert (options.web.thread_count, options.images.image_size) == (64, 256)
    assert (options.images.resize_mode, options.images.resize_only_if_bigger) == ("keep_ratio", True)
    assert (options.lists.input_format, options.lists.url_col, options.lists.caption_col) == ("parquet", "URL", "TEXT")
    assert options.lists.save_additional_columns == ("NSFW", "similarity")


@pytest.mark.parametrize(("name", "kind"), [("urls", "txt"), ("urls.lst.gz", "txt"), ("urls.CSV", "auto")])
def test_a_file_whose_name_says_nothing_is_a_txt(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert create("--url_list", str(tmp_path / name)).create.lists.input_format == kind
    assert create("--url_list", str(tmp_path / name), "--input_format=csv").create.lists.input_format == "csv"
    assert create("--url_list", str(tmp_path)).create.lists.input_format == "auto"


def test_keys_are_its_own_unless_others_are_asked_for():
    assert create().create.lists.key_from == "shard"
    assert create("--key_from", "row").create.lists.key_from == "row"


@pytest.mark.parametrize(
    ("distributor", "engine"), [("multiprocessing", "local"), ("pyspark", "spark"), ("ray", "ray")]
)
def test_each_distributor_is_an_engine(distributor, engine):
    assert f"--engine={engine}" in translated([*MINIMAL, "--distributor", distributor])


@pytest.mark.parametrize(
    ("words", "group", "name", "value"),
    [
        (["--resize_only_if_bigger"], "images", "resize_only_if_bigger", True),
        (["--noresize_only_if_bigger"], "images", "resize_only_if_bigger", False),
        (["--extract_exif", "False"], "images", "extract_exif", False),
        (["--noextract_exif"], "images", "extract_exif", False),
        (["--extract_exif=True"], "images", "extract_exif", True),
        (["--skip-reencode=True"], "images", "skip_reencode", True),
        (["--disable_all_reencoding", "True"], "images", "disable_all_reencoding", True),
        (["--disable_all_reencoding=true"], "images", "disable_all_reencoding", True),
        (["--compute_hash", "None"], "sharding", "compute_hash", "none"),
        (["--compute_hash", "md5"], "sharding", "compute_hash", "md5"),
        (["--verify_hash", '["hash", "md5"]'], "lists", "verify_hash", ("hash", "md5")),
        (["--verify_hash", "[hash,md5]"], "lists", "verify_hash", ("hash", "md5")),
        (["--caption_col", "None"], "lists", "caption_col", None),
        (["--save_additional_columns", "a,b"], "lists", "save_additional_columns", ("a", "b")),
        (["--save_additional_columns", '[a, "b"]'], "lists", "save_additional_columns", ("a", "b")),
        (["--save_additional_columns", "licence"], "lists", "save_additional_columns", ("licence",)),
        (["--disallowed_header_directives", "[]"], "consent", "disallowed_header_directives", ()),
        (["--max_aspect_ratio", "3"], "images", "max_aspect_ratio", 3.0),
        (["--input_format", "csv.gz"], "lists", "input_format", "csv"),
        (["--subjob_size", "500", "--wandb_project", "x"], "images", "image_size", 256),
        (["--incremental_mode", "extend"], "resume", "incremental_mode", "extend"),
        (["--max_shard_retry=3"], "resume", "max_shard_retry", 3),
    ],
)
def test_values_are_read_as_python_fire_reads_them(words, group, name, value):
    assert getattr(getattr(create(*words).create, group), name) == value


def test_our_own_options_may_stand_beside():
    assert create("--allow-private", "127.0.0.0/8", "--max_bytes", "1000").create.web.max_bytes == 1000


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--enable_wandb"], "Weights & Biases, leave it out"),
        (["--resize_only_if_bigger=false"], "resize_only_if_bigger false: .* write False"),
        (["--extract_exif", "FALSE"], "extract_exif FALSE: .* write False"),
        (["--output_format", "tfrecord"], "TensorFlow"),
        (["--distributor", "slurm"], "slurm"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(words, reason):
    with pytest.raises(UsageError, match=reason):
        create(*words)


def test_other_command_lines_are_left_as_they_are():
    words = ["--source", "urls.txt", "--output", "out", "--caption_col", "None"]
    assert translated(words) == words


@pytest.mark.parametrize(
    "words",
    [
        ["--url_list=a.txt", "--source=b.txt"],
        ["--url_list", "a.txt", "--output", "x", "--output_folder", "y"],
        ["--num-workers=2", "--url_list=a.txt", "--processes_count=4"],
    ],
)
def test_what_is_said_twice_in_its_words_and_in_ours_is_refused(words):
    with pytest.raises(UsageError, match="say the same; give one of them"):
        translated(words)
