"""What is kept for other processes, and under which key."""

import numpy as np

from mexutils.memo import kept


def halves(x, function=np.negative):
    """Half of what a function makes of x."""
    return function(np.asarray(x)) / 2


def test_a_result_is_computed_once_for_equal_arguments(monkeypatch, tmp_path):
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    assert kept(halves, np.arange(3)).tolist() == [0, -0.5, -1]
    (file,) = [p for p in (tmp_path / "kept").iterdir() if not p.suffix]
    made = file.stat().st_mtime_ns
    assert kept(halves, np.arange(3)).tolist() == [0, -0.5, -1]
    assert file.stat().st_mtime_ns == made


def test_other_code_and_other_values_are_other_results(monkeypatch, tmp_path):
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    assert kept(halves, 2) == -1
    assert kept(halves, 4) == -2
    assert kept(halves, 2, np.square) == 2
    assert kept(np.square, 2) == 4


def test_a_damaged_result_is_made_anew(monkeypatch, tmp_path, recwarn):
    monkeypatch.setenv("MEXUTILS_CACHE", str(tmp_path))
    kept(halves, 2)
    (file,) = [p for p in (tmp_path / "kept").iterdir() if not p.suffix]
    file.write_bytes(file.read_bytes()[:-1])
    assert kept(halves, 2) == -1
    assert "damaged" in str(recwarn.pop(UserWarning).message)
