import json
import platform
import re

import click
import pytest
from click.testing import CliRunner

from fleetgate import __version__
from fleetgate.cli.main import COMMANDS, fleetgate


def run(*arguments):
    return CliRunner().invoke(fleetgate, arguments)


def commands(group=fleetgate, prefix=()):
    """Every command and every command of a group, by the words that call it."""
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            yield (*prefix, name), command
            if isinstance(command, click.Group):
                yield from commands(command, (*prefix, name))


EVERY = dict(commands())


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_command_has_help_with_examples(words):
    done = run(*words, "--help")
    assert done.exit_code == 0
    assert f"fleetgate {' '.join(words)}" in done.output
    assert EVERY[words].help
    if not isinstance(EVERY[words], click.Group) and words != ("version",):
        examples = re.split(r"Examples?:\n", done.output)[-1]
        assert f"fleetgate {' '.join(words)}" in examples


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_option_says_what_it_is_for(words):
    for parameter in EVERY[words].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_first_page_lists_all_commands_in_their_order():
    done = run("-h")
    assert done.exit_code == 0
    listed = done.output.partition("Commands:\n")[2]
    places = [listed.index(f"  {name} ") for name in COMMANDS]
    assert places == sorted(places)
    assert "Examples:" in done.output


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("modles", "models"), ("explan", "explain"), ("chekc", "check"), ("strat", None), ("xyzzy", None)],
)
def test_an_unknown_command_suggests_a_near_one(typo, meant):
    done = run(typo)
    assert done.exit_code == 2
    assert f"There is no command `{typo}`." in done.stderr
    assert (f"Did you mean `{meant}`?" in done.stderr) if meant else ("Did you mean" not in done.stderr)


def test_an_unknown_option_is_wrong_usage():
    assert run("models", "--colour").exit_code == 2


def test_version():
    assert run("version").output == f"fleetgate {__version__} (Python {platform.python_version()})\n"
    assert run("--version").output == f"fleetgate {__version__}\n"


def test_version_as_json():
    done = run("version", "--json")
    assert json.loads(done.output) == {"fleetgate": __version__, "python": platform.python_version()}
