# SPDX-License-Identifier: Apache-2.0
"""The command line: help, errors, what is missing, and that it starts fast."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

import iommufd_fast
from iommufd_fast.cli import INSTALL, main
from iommufd_fast.cli.root import COMMANDS, cli
from iommufd_fast.replay import samples


def call(*args: str, **options):
    return CliRunner().invoke(cli, list(args), **options)


def python(code: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, **options)


def test_help_names_every_command():
    done = call("--help")
    assert done.exit_code == 0
    assert all(name in done.output and text in done.output for name, text in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_fits_the_screen(name):
    done = call(name, "--help", terminal_width=100)
    assert done.exit_code == 0 and f"{name} [OPTIONS]" in done.output
    assert max(map(len, done.output.splitlines())) <= 100, done.output
    command = cli.get_command(None, name)
    assert command.short_help == COMMANDS[name] or COMMANDS[name].startswith(command.short_help.rstrip("."))


def test_the_group_loads_no_command_before_it_is_called():
    code = "import sys\nfrom iommufd_fast.cli.root import cli\ncli.main(['--help'], standalone_mode=False)\n"
    code += (
        "assert not {'numpy', 'matplotlib', 'rich', 'iommufd_fast.cli.bench'} & set(sys.modules), sorted(sys.modules)"
    )
    assert iommufd_fast.__name__  # the package itself may import NumPy
    light = python("import sys, iommufd_fast; print('numpy' in sys.modules)").stdout.strip() == "True"
    done = python(code.replace("'numpy', ", "") if light else code)
    assert done.returncode == 0, done.stderr


def test_version():
    assert iommufd_fast.__version__ in call("--version").output


def test_no_such_command():
    done = call("bnech")
    assert done.exit_code == 2 and "No such command 'bnech'" in done.output


@pytest.mark.parametrize("gone", ["click", "rich"])
def test_a_missing_extra_is_named_with_the_remedy(gone, monkeypatch, capsys):
    import iommufd_fast.cli as package

    real = package.find_spec
    monkeypatch.setattr(package, "find_spec", lambda name: None if name == gone else real(name))
    assert main(["--help"]) == 1
    assert capsys.readouterr().err == f"iommufd-fast: {gone} not installed; run: {INSTALL}\n"


def test_html_without_matplotlib_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    import iommufd_fast.cli.common as common

    real = common.find_spec
    monkeypatch.setattr(common, "find_spec", lambda name: None if name == "matplotlib" else real(name))
    monkeypatch.setattr("iommufd_fast.cli.bench._measure", lambda plan: pytest.fail("it measured"))
    done = call("bench", "--html", str(tmp_path / "r.html"))
    assert done.exit_code == 1 and f"--html needs matplotlib, which is not installed; run: {INSTALL}" in done.output


def test_errors_end_with_a_status_through_the_entry_point(capsys):
    assert main(["replay", "/nowhere"]) == 1
    assert "Error: [Errno 2] No such file or directory: '/nowhere'" in capsys.readouterr().err
    assert main(["bench", "--live", "x"]) == 2
    assert main(["--version"]) == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--lengths", "5"], "5 is not a multiple of 4096"),
        (["--lengths", "4Z"], "'4Z' is not a size; write 4096, 4K, 2M or 1G"),
        (["--live", "-1"], "'-1' is not a count"),
        (["--batch", "0"], "'0' is below 1"),
        (["--memory", "swap"], "'swap' is none of anonymous, thp, memfd, hugetlb"),
        (["--path", "c,,rust"], "'rust' is none of c, python"),
        (["--preset", ","], "an empty list"),
        (["--rounds", "0"], "0 is not in the range"),
    ],
)
def test_bad_options_of_bench(args, message):
    done = call("bench", *args)
    assert done.exit_code == 2 and message in done.output, done.output


def test_info_says_what_is_here():
    done = call("info")
    assert done.exit_code == 0
    for word in (iommufd_fast.__version__, "presets", "intel, amd", "modules", "benchloop", "C library"):
        assert word in done.output, done.output
    found = json.loads(call("info", "--json").output)
    assert found["modules"]["benchrig"] == "yes" and found["presets"] == ["intel", "amd", "arm", "riscv"]


def test_info_says_what_is_not_built(monkeypatch):
    monkeypatch.setattr("iommufd_fast.cli.info.MODULES", ("benchrig", "nonesuch"))
    assert "nonesuch: no: No module named" in call("info").output.replace("\n", " ")


@pytest.mark.parametrize("floor", ["pagetable", "ioas"])
def test_replay_of_a_part_of_the_sample(floor, tmp_path):
    path = tmp_path / "part.txt"
    path.write_text("".join(gzip.decompress(samples.path("nvme").read_bytes()).decode().splitlines(True)[:400]))
    done = call("replay", str(path), "--floor", floor, "--repeat", "1")
    assert done.exit_code == 0, done.output
    assert "388: 194 maps, 194 unmaps, 0 of them over several" in done.output
    found = json.loads(call("replay", str(path), "--floor", floor, "--json").output)
    assert found["schema"] == "iommufd-fast-replay/1" and found["events"] == 388 and found["floor"] == floor


def test_replay_from_standard_input():
    data = samples.path("nvme").read_bytes()
    done = call("replay", "-", "--floor", "pagetable", "--repeat", "1", input=data)
    assert done.exit_code == 0 and "13406 maps, 3321 unmaps, 1502 of them over several maps" in done.output, done.output


def test_replay_of_a_foreign_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("# fine\nDear diary\n")
    done = call("replay", str(path))
    assert done.exit_code == 1
    assert f"Error: {path}:2: expected a tracefs line" in done.output and "got 'Dear diary'" in done.output
    assert "Traceback" not in done.output


def test_report_of_what_is_no_result(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{")
    assert "x.json is not JSON" in call("report", str(path)).output
    path.write_text("{}")
    done = call("report", str(path))
    assert done.exit_code == 1 and "'schema' is missing" in done.output


def test_python_m():
    done = subprocess.run(
        [sys.executable, "-m", "iommufd_fast", "--version"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.strip().endswith(iommufd_fast.__version__)
