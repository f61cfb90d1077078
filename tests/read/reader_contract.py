"""What every reader must do: a suite that each inherits. Its datasets are written by tarfile and pyarrow alone."""

import json
import logging
import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from tarloom.errors import ShardError, StorageError, TarloomError, UsageError
from tarloom.read.readers import ScanJob, ScanSummary
from tarloom.read.scan import ScanConfig
from tests.format.raw import write_tar
from tests.read.sample_sets import (
    BROKEN,
    completed_samples,
    digest_of,
    nasty_samples,
    odd_samples,
    packed_samples,
    pictured_samples,
    pixels_of,
)


class ReaderContract:
    """Inherit, and set `reader`."""

    reader: ClassVar[str]
    joins: ClassVar[bool] = True
    """Whether it can read columns of metadata and sidecars."""
    decompresses: ClassVar[bool] = True
    """Whether it can read compressed tars."""
    names_damage: ClassVar[str] = r"cut\.tar"
    """What the error says that comes while it reads."""

    def read(self, path: Path, **options) -> ScanSummary:
        job = ScanJob(self.reader, ScanConfig(path=str(path), digest=True, **options))
        job.prepare()
        seen = sum(tally.rows for tally in job)
        summary = job.summary()
        assert summary.rows == seen
        assert summary.rows == job.total or not options.keys().isdisjoint({"where", "join", "on_error"})
        return summary

    def refuses(self, path: Path, **options) -> bool:
        """Whether this reader says that it cannot do so, before it reads."""
        if self.joins:
            return False
        with pytest.raises(UsageError, match="members"):
            self.read(path, **options)
        return True

    def test_every_committed_sample_is_read_once_with_more_workers_than_shards(self, packed):
        summary = self.read(packed, num_workers=4, batch_size=7)
        samples = packed_samples(2)
        assert summary.rows == len(samples)
        assert summary.bytes == sum(len(data) for _, members in samples for data in members.values())
        assert summary.digest == digest_of(samples)

    def test_the_same_tars_in_a_foreign_folder_give_the_same_digest(self, foreign):
        summary = self.read(foreign)
        assert summary.digest == digest_of(packed_samples(2))
        assert "a caption" in summary.samples[0]
        assert not (foreign / "_tarloom" / "plan.json").exists()

    def test_odd_names_and_missing_members_are_read_as_webdataset_reads_them(self, tmp_path):
        write_tar(tmp_path / "odd.tar", [*odd_samples(), ("dir/.hidden", {"jpg": b"belongs to no sample"})])
        summary = self.read(tmp_path, show=10)
        assert summary.rows == len(odd_samples())
        assert summary.digest == digest_of(odd_samples())

    def test_nasty_tars_give_their_samples_and_nothing_else(self, nasty):
        summary = self.read(nasty, num_workers=2)
        assert summary.rows == len(nasty_samples())
        assert summary.digest == digest_of(nasty_samples())

    def test_compressed_tars_give_the_same_digest_or_are_refused(self, compressed):
        if not self.decompresses:
            with pytest.raises(UsageError, match=r"not a\.tar\.gz"):
                self.read(compressed)
            return
        assert self.read(compressed, num_workers=2).digest == digest_of(packed_samples(2))

    def test_img2datasets_columns_come_to_their_keys_whatever_their_order(self, img2datasets):
        kept = [(key, members, values) for key, members, values in completed_samples() if members]
        if not self.joins:
            assert self.read(img2datasets).digest == digest_of((key, members) for key, members, _ in kept)
            return
        summary = self.read(img2datasets, select=("jpg", "width", "similarity", "caption"))
        assert summary.digest == digest_of((key, {"jpg": members["jpg"]} | values) for key, members, values in kept)

    def test_selected_members_alone_are_read_and_counted(self, packed):
        summary = self.read(packed, select=("txt",))
        assert summary.rows == len(packed_samples(2))
        assert summary.digest == digest_of((key, {"txt": members["txt"]}) for key, members in packed_samples(2))

    def test_columns_are_joined_or_refused(self, packed):
        names = ("txt", "url", "caption.text", "clip.embedding")
        if not self.joins:
            with pytest.raises(UsageError, match="members"):
                self.read(packed, select=names)
            return
        summary = self.read(packed, select=names, show=1)
        key = packed_samples(1)[0][0]
        assert summary.samples == [
            f"__key__: {key}, txt: a caption, url: http://127.0.0.1/{key}.jpg, "
            "caption.text: hello, clip.embedding: <4 values>"
        ]

    def test_a_condition_lets_through_the_samples_for_which_it_is_true(self, pictured):
        if self.refuses(pictured, where="width >= 10"):
            return
        wanted = [
            (key, {"json": members["json"], "score.value": values["score.value"]})
            for key, members, values in pictured_samples()
            if values["width"] >= 10 and (values["score.value"] or 0) > 1.5
        ]
        condition = "width >= 10 AND score.value > 1.5"
        found = self.read(pictured, where=condition, select=("json", "score.value"), join="null", num_workers=2)
        assert (found.rows, found.digest) == (len(wanted), digest_of(wanted))
        assert self.read(pictured, where="width > 1000", select=("json",)).rows == 0

    def test_samples_without_a_row_in_a_sidecar_end_the_scan_or_are_left_out_or_have_nulls(self, pictured):
        if self.refuses(pictured, select=("score.value",)):
            return
        columns = [(key, {"score.value": values["score.value"]}) for key, _, values in pictured_samples()]
        with pytest.raises(ShardError, match=r"00001\.score\.parquet: .*000000027"):
            self.read(pictured, select=("score.value",))
        scored = [(key, values) for key, values in columns if values["score.value"] is not None]
        assert self.read(pictured, select=("score.value",), join="skip").digest == digest_of(scored)
        nulled = self.read(pictured, select=("score.value",), join="null")
        assert (nulled.rows, nulled.digest) == (len(columns), digest_of(columns))

    def test_pictures_are_decoded_and_what_cannot_be_is_left_out_or_a_row(self, pictured):
        if self.refuses(pictured, decode=("rgb",), on_error="skip"):
            return
        samples = [(key, {"png": pixels_of(int(key))}) for key, *_ in pictured_samples() if int(key) != BROKEN]
        options = {"select": ("png",), "decode": ("rgb",), "num_workers": 2}
        skipped = self.read(pictured, on_error="skip", **options)
        assert (skipped.rows, skipped.digest) == (len(samples), digest_of(samples))
        rows = self.read(pictured, on_error="row", **options)
        assert (rows.rows, rows.digest) == (len(samples) + 1, digest_of(samples))
        assert skipped.errors == rows.errors == {"not_an_image": 1}
        with pytest.raises(TarloomError, match=f"{BROKEN:09d}"):
            self.read(pictured, **options)

    def test_shards_that_cannot_be_opened_or_break_later_are_left_out_and_counted(self, packed, tmp_path):
        if self.refuses(packed, on_error="skip"):
            return
        for name in ("gone", "kept", "short"):
            shutil.copy(packed / "00000.tar", tmp_path / f"{name}.tar")
        cut(tmp_path / "short.tar")
        config = ScanConfig(path=str(tmp_path), on_error="skip", digest=True, num_workers=2, ledger=f"{tmp_path}/lost")
        job = ScanJob(self.reader, config)
        job.prepare()
        cut(tmp_path / "gone.tar")
        assert sum(tally.rows for tally in job) == len(packed_samples(1))
        assert job.summary().digest == digest_of(packed_samples(1))
        assert job.summary().errors == {"truncated_shard": 1, "stale_index": len(packed_samples(1))}
        lost = [json.loads(line) for line in (tmp_path / "lost").read_text().splitlines()]
        assert {(Path(entry["where"]).name, entry["name"]) for entry in lost} == {
            ("short.tar", "truncated_shard"),
            ("gone.tar", "stale_index"),
        }

    def test_a_tar_that_ends_early_is_named_before_or_while_it_is_read(self, packed, tmp_path):
        shutil.copy(packed / "00000.tar", tmp_path / "good.tar")
        (tmp_path / "short.tar").write_bytes((packed / "00001.tar").read_bytes()[:20_000])
        with pytest.raises(ShardError, match=r"short\.tar"):
            self.read(tmp_path)

    def test_a_tar_that_is_damaged_while_it_is_read_ends_the_scan_with_an_error_that_names_it_and_nothing_else(
        self, packed, tmp_path, caplog
    ):
        (tmp_path / "cut.tar").write_bytes((packed / "00000.tar").read_bytes())
        job = ScanJob(self.reader, ScanConfig(path=str(tmp_path)))
        job.prepare()
        (tmp_path / "cut.tar").write_bytes((packed / "00000.tar").read_bytes()[:20_000])
        with pytest.raises((ShardError, StorageError), match=self.names_damage):
            list(job)
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []

    def test_a_shard_that_goes_before_it_is_read_ends_the_scan_with_its_name(self, packed, tmp_path):
        shutil.copy(packed / "00000.tar", tmp_path / "gone.tar")
        job = ScanJob(self.reader, ScanConfig(path=str(tmp_path)))
        job.prepare()
        (tmp_path / "gone.tar").unlink()
        with pytest.raises(StorageError, match=r"gone\.tar"):
            list(job)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3000])
