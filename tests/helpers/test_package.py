"""The package by itself: installed, away from the checkout."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
import run_chapters
from conftest import ROOT


@pytest.fixture(scope="module")
def installed(project_files, tmp_path_factory):
    """A folder that holds the installed package and nothing else of ours."""
    source = tmp_path_factory.mktemp("checkout")
    for path in project_files:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    target = tmp_path_factory.mktemp("site-packages")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps"]
    command += ["--no-build-isolation", "--target", target, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Run code with the installed package alone, far from the checkout."""

    def run(code):
        environment = os.environ | {
            "PYTHONPATH": str(installed),
            "MEXUTILS_CACHE": str(tmp_path / "cache"),
        }
        done = subprocess.run(
            [sys.executable, "-P", "-c", textwrap.dedent(code)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_helpers_data_and_chapters_work_without_a_checkout(installed, python):
    said = python(
        f"""
        import mexutils
        from mexutils import datasets, load_chapter
        print(mexutils.__file__)
        print(datasets.mnist().train.x.shape)
        print(datasets.tabular("red_wine").train.x.shape)
        print(datasets.letters(3).x.shape)
        for name in {run_chapters.chapters()}:
            print(load_chapter(name).__file__)
        """
    ).splitlines()
    assert said[0] == str(installed / "mexutils" / "__init__.py")
    assert said[1:4] == ["(60000, 1, 28, 28)", "(1119, 11)", "(3, 1, 28, 28)"]
    assert said[4:] == [
        str(installed / "mexutils" / "book" / f"{name}.py")
        for name in run_chapters.chapters()
    ]


@pytest.mark.slow
def test_chapters_and_helpers_work_without_notebook_and_torchvision(python):
    said = python(
        f"""
        import sys
        for name in ("IPython", "torchvision"):
            sys.modules[name] = None  # as where it is not installed
        from mexutils import claims, datasets, metrics, plotting, victims
        from mexutils import PredictionAPI, load_chapter
        for name in {run_chapters.chapters()}:
            load_chapter(name)
        api = PredictionAPI(lambda x: [[0.5, 0.5]] * len(x))
        print(api.query([[1.0]]))
        """
    )
    assert said == "[[0.5 0.5]]\n"


def test_the_package_itself_needs_no_network_library(python):
    said = python(
        """
        import sys
        for name in ("torch", "torchvision", "sklearn"):
            sys.modules[name] = None
        import mexutils
        for name in mexutils.__all__:
            getattr(mexutils, name)
        print(mexutils.PredictionAPI(lambda x: [[0.5, 0.5]]).query([[1.0]]))
        """
    )
    assert said == "[[0.5 0.5]]\n"


def test_nothing_but_the_package_is_installed(installed):
    names = {path.name for path in installed.iterdir()}
    names = {name for name in names if not name.endswith(".dist-info")}
    assert names == {"mexutils"}
    (licence,) = installed.glob("mexutils-*.dist-info/licenses/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()
