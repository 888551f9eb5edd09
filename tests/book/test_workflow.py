"""What GitHub is asked to do, what make installs, and the tools for both."""

import json
import os
import re
import subprocess
import sys

import check_links
import colab_run
import lock
import nbformat
import print_book
import pytest
import yaml
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_notebook
from packaging.requirements import Requirement
from packaging.version import Version
from site_pages import Site

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FIRST_ON_NODE_24 = {
    "actions/checkout": 5,
    "actions/setup-python": 6,
    "actions/cache/restore": 5,
    "actions/cache/save": 5,
    "actions/upload-artifact": 6,
    "actions/download-artifact": 7,
}
"""Older ones stand on a Node that GitHub's runners no longer have."""


def workflow(path):
    return yaml.safe_load(path.read_text())


def steps(path):
    for job in workflow(path)["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_and_runners_are_pinned_and_current(path):
    used = [step["uses"] for step in steps(path) if "uses" in step]
    for action in used:
        name, _, version = action.partition("@v")
        assert int(version) >= FIRST_ON_NODE_24[name], action
    assert "-latest" not in path.read_text()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_do_only_what_it_must(path):
    content = workflow(path)
    assert content["permissions"]["contents"] == "read"
    for name, job in content["jobs"].items():
        assert job.get("timeout-minutes") or name in ("publish", "report")
        writes = job.get("permissions", {}).get("contents") == "write"
        assert writes == (name == "publish")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_scripts_and_targets_that_a_workflow_calls_exist(path):
    targets = re.findall(
        r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    for step in steps(path):
        command = step.get("run", "")
        for target in re.findall(r"\bmake (\w+)", command):
            assert target in targets, command
        for script in re.findall(r"(?:\.ci|\.github|tools)/[\w.]+", command):
            assert (ROOT / script).is_file(), command


def test_every_python_that_readme_names_is_tried():
    quick = workflow(ROOT / ".github" / "workflows" / "pythons.yml")
    matrix = quick["jobs"]["quick"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert any("macos" in row["os"] for row in matrix["include"])
    assert any(row["lock"] == "" for row in matrix["include"])
    assert "Python 3.11 to 3.14" in (ROOT / "README.md").read_text()
    assert "Python 3.11 to 3.14" in (ROOT / "book" / "intro.md").read_text()
    assert "(3, 11) <=" in (ROOT / "Makefile").read_text()


# --- an issue for what is found -------------------------------------------

GH = """#!/usr/bin/env bash
if [ "$1 $2" = "issue list" ]; then
    printf '%s' "$KNOWN"
    exit
fi
printf '%s\\n' "$@" > called
while [ "$1" != --body-file ]; do shift; done
cat "$2" > body
"""


@pytest.mark.parametrize(
    ("known", "verb"), [("", "create"), ("7\n9", "comment")]
)
def test_a_finding_becomes_one_issue(tmp_path, known, verb):
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    (tmp_path / "found.txt").write_text("first\nlast line\n")
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "KNOWN": known,
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "Ada/book",
        "GITHUB_RUN_ID": "12",
        "GITHUB_SHA": "abc",
    }
    script = ROOT / ".github" / "issue.sh"
    subprocess.run(
        [script, "A title", "found.txt"],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    called = (tmp_path / "called").read_text().split("\n")
    assert called[:2] == ["issue", verb]
    assert ("7" in called) == bool(known) and "9" not in called
    body = (tmp_path / "body").read_text()
    assert "https://github.com/Ada/book/actions/runs/12" in body
    assert "last line" in body


# --- what make installs ---------------------------------------------------


def recipe(**variables):
    """What `make book` would do in an empty checkout."""
    command = ["make", "-n", "-B", "book"]
    command += [f"{name}={value}" for name, value in variables.items()]
    known = {k: v for k, v in os.environ.items() if k not in ("cpu", "lock")}
    done = subprocess.run(
        command, cwd=ROOT, env=known, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_s_cpu_wheels_come_when_they_are_asked_for():
    assert "--index-url" not in recipe()
    said = recipe(cpu=1, torch_index="https://example.com/cpu")
    line = said[said.index("--index-url") :].partition("-r ")[0]
    assert "https://example.com/cpu" in line
    names = re.search(r"\$\((sed .*)\)", line)[1]
    found = subprocess.check_output(names, shell=True, cwd=ROOT, text=True)
    assert [re.match(r"[a-z]+", x)[0] for x in found.split()] == [
        *("torch", "torchvision")
    ]


def test_the_lock_can_be_left_out():
    assert "-c constraints.txt" in recipe()
    assert "-c constraints.txt" not in recipe(lock="")


def locked():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {name: Version(version) for name, version in pairs}


def test_the_lock_meets_what_is_required():
    versions = locked()
    for line in lock.wanted():
        requirement = Requirement(line)
        version = versions[lock.normal(requirement.name)]
        assert requirement.specifier.contains(version, True), line
    assert not [name for name in versions if lock.OF_ONE_SYSTEM.match(name)]
    assert not [v for v in versions.values() if v.local]


def test_the_lock_holds_what_a_requirement_needs_in_turn():
    found = lock.closure(["papermill>=2", "a-package-that-is-not-there"])
    assert {"papermill", "nbclient", "pyzmq"} <= set(found)
    assert "torch" not in found


# --- links, Colab, paper --------------------------------------------------


def test_a_broken_link_is_told_from_one_that_refuses_robots():
    def link(status, uri):
        return json.dumps(
            {
                "filename": "intro.md",
                "lineno": 3,
                "status": status,
                "uri": uri,
                "info": "404",
            }
        )

    lines = [
        link("working", "https://example.com/a"),
        link("redirected", "https://example.com/b"),
        link("broken", "https://doi.org/10.1/2"),
        link("broken", "https://example.com/c"),
    ]
    found = check_links.broken(lines)
    assert found == ["intro.md:3: https://example.com/c: 404"]


@pytest.mark.slow
def test_a_notebook_that_fails_in_colab_is_named(tmp_path, monkeypatch, capfd):
    for name, code in (("fine", "1 + 1"), ("bad", "1 / 0")):
        notebook = new_notebook(cells=[new_code_cell(code)])
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    # Nothing is taken from the environment that runs this test.
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["colab_run.py", str(tmp_path)])
    assert colab_run.main() == 1
    said = capfd.readouterr().out
    assert "fine.ipynb: ran" in said and "bad.ipynb: FAILED" in said
    assert "ZeroDivisionError" in said and "1 of 2 notebooks failed" in said


def test_the_pages_become_one_document(tmp_path):
    page = (
        '<html><head><link rel="stylesheet" href="_static/a.css">'
        '<script src="_static/mathjax.js"></script></head><body>'
        '<article><section id="one"><h1>{title}<a class="headerlink" '
        'href="#one">#</a></h1><a href="{to}">on</a>'
        '<details class="hide"><summary>Solution</summary>text</details>'
        '<img src="{up}_images/a.png" loading="lazy"></section></article>'
        "</body></html>"
    )
    (tmp_path / "part").mkdir()
    (tmp_path / "one.html").write_text(
        page.format(title="One", to="part/two.html#place", up="")
    )
    (tmp_path / "part" / "two.html").write_text(
        page.format(title="Two", to="../one.html", up="../")
    )
    whole = print_book.one_document(
        tmp_path, ["one", "part/two"], Site(None, None, "a.whl")
    )
    assert whole.count('src="_images/a.png"') == 2
    assert 'href="#page-part-two--place"' in whole
    assert whole.count('href="#page-one"') == 2  # from the contents, from two
    assert 'id="page-one--one"' in whole and "headerlink" not in whole
    assert whole.count('<details class="hide" open="">') == 2
    assert "mathjax.js" in whole
