import os

from fleetgate.config.watch import Watch


def test_nothing_changed(tmp_path):
    (tmp_path / "a").write_text("1")
    watch = Watch([tmp_path / "a", tmp_path / "missing"])
    assert not any(watch.check(now) for now in range(5))


def test_a_change_is_told_once_when_it_rests(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    watch = Watch([file])
    file.write_text("22")
    assert not watch.check(10.0)
    assert not watch.check(10.9)
    file.write_text("333")
    assert not watch.check(11.5)
    assert not watch.check(12.4)
    assert watch.check(12.5)
    assert not watch.check(20.0)


def test_a_change_that_is_taken_back_is_none(tmp_path):
    file = tmp_path / "a"
    file.write_text("1")
    stat = file.stat()
    watch = Watch([file])
    file.write_text("22")
    assert not watch.check(1.0)
    file.write_text("1")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not watch.check(5.0)
    assert not watch.check(9.0)


def test_files_that_come_and_go(tmp_path):
    file = tmp_path / "a"
    watch = Watch([file])
    file.write_text("1")
    assert not watch.check(0.0)
    assert watch.check(1.0)
    file.unlink()
    assert not watch.check(2.0)
    assert watch.check(3.0)


def test_a_swapped_kubernetes_volume(tmp_path):
    for name in ("..one", "..two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("same: size")
        os.utime(tmp_path / name / "config.yaml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "config.yaml").symlink_to("..data/config.yaml")
    watch = Watch([tmp_path / "config.yaml"])
    (tmp_path / "..fresh").symlink_to("..two")
    (tmp_path / "..fresh").replace(tmp_path / "..data")
    assert not watch.check(0.0)
    assert watch.check(1.0)


def test_following_other_files_keeps_what_is_known(tmp_path):
    kept, fresh = tmp_path / "kept", tmp_path / "fresh"
    kept.write_text("1")
    fresh.write_text("1")
    watch = Watch([kept])
    kept.write_text("22")
    watch.follow([kept, fresh])
    assert watch.paths == (kept, fresh)
    assert not watch.check(0.0)
    assert watch.check(1.0)
    assert not watch.check(2.0)
