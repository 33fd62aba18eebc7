"""`fleetgate explain`: who would answer, in which order, and why; of a running gateway or of a file alone."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fleetgate.cli.layout import harmless
from fleetgate.cli.remote import EXIT_BAD_CONFIG, EXIT_PROBLEM, end, json_option, reaching, remote_of
from fleetgate.cli.terminal import paint, wants_colour
from fleetgate.config.environment import process_environment
from fleetgate.config.load import load
from fleetgate.domain import Capability
from fleetgate.litellm_config import convert

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetgate.config.schema import Settings

AT: Final = "/admin/api/explain"
NEEDS: Final = ("vision", "tools", "reasoning", "schema")
KINDS_OF_WORK: Final = tuple(one.value for one in Capability if one.value not in NEEDS)
_LOOKS_LIKE_A_BODY: Final = frozenset({"messages", "prompt", "input"})
_FILE: Final = click.Path(path_type=Path)


@click.command()
@click.argument("model")
@click.option(
    "--prompt",
    type=_FILE,
    metavar="FILE|-",
    help="A prompt or a whole JSON body to explain it for; - reads it.",
)
@click.option(
    "--capability",
    type=click.Choice(KINDS_OF_WORK),
    help="The kind of work; default: as the body looks, else what the models can do.",
)
@click.option("--does", type=click.Choice(NEEDS), multiple=True, help="What else it needs; may repeat.")
@click.option("--max-tokens", type=click.IntRange(min=1), metavar="N", help="Bound of the answer.")
@click.option("--config", type=_FILE, metavar="FILE", help="Explain a file instead of a running gateway.")
@click.option("--for", "key", metavar="KEY", help="As this key (id or alias) may use it.")
@json_option
@reaching
def explain(url: str | None, key_file: Path | None, *, as_json: bool, **said: Any) -> None:
    """Say who would answer a request for MODEL, in which order and when, and why the others would not.

    Nothing is sent to any engine. With --prompt the forecast is for that request: its length, what it needs,
    and who still holds its beginning.

    \b
    Examples:
      fleetgate explain qwen3:8b
      fleetgate explain chat-deep --prompt question.txt --max-tokens 500
      fleetgate explain chat-deep --prompt body.json
      fleetgate explain chat-deep --does vision --for laptop
      fleetgate explain whisper --capability transcribe
      fleetgate explain chat-deep --config config.yaml
    """
    config = said.pop("config")
    form = _form(**said)
    if config is not None:
        plan = _explain_file(config, form)
    else:
        plan = remote_of(url, key_file).ask("POST", AT, form)
    if as_json:
        click.echo(json.dumps(plan, indent=2))
        return
    on = wants_colour(sys.stdout, process_environment())
    for line in lines(plan, on=on, plain=form.keys() <= {"model", "key", "capability"}):
        click.echo(line)


def _form(model: str, prompt: Path | None, **said: Any) -> dict[str, Any]:
    """The question, as the gateway takes it. What was not said is left out."""
    form = {"model": model, **{name: value for name, value in said.items() if value}}
    if prompt is not None:
        form |= _asked(prompt)
    return form


def _asked(file: Path) -> dict[str, Any]:
    """A JSON object that looks like a request is one; everything else is a prompt."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        end(EXIT_PROBLEM, f"cannot read {file}: {reason}")
    try:
        value = json.loads(text)
    except ValueError:
        return {"prompt": text}
    looks = isinstance(value, dict) and not _LOOKS_LIKE_A_BODY.isdisjoint(value)
    return {"body": value} if looks else {"prompt": text}


# --- of a file alone --------------------------------------------------------------------------------------


def _explain_file(config: Path, form: dict[str, Any]) -> Any:
    """The plan of a file alone: what is not discovered yet is unknown, so nothing is predicted."""
    if "key" in form:
        end(EXIT_PROBLEM, "a file knows no keys: leave --for or --config out")
    loaded = load(config, process_environment(), convert=convert)
    if loaded.settings is None:
        for finding in loaded.errors:
            click.echo(finding.render(), err=True)
        sys.exit(EXIT_BAD_CONFIG)
    return _plan_of(loaded.settings, form)


def _plan_of(settings: Settings, form: dict[str, Any]) -> Any:
    from fleetgate.engines.kinds import KINDS
    from fleetgate.errors import Refused
    from fleetgate.fleet.fleet import Fleet
    from fleetgate.http.explain import Explain, add_changes, asks, body_of, task_for
    from fleetgate.routing.plan import explain as explain_route

    fleet = Fleet(
        KINDS,
        clock=time.monotonic,
        wall=lambda: 0.0,
        random=lambda: 0.5,
        call_later=lambda _seconds, _call: None,
        report=lambda *_args, **_values: None,
        remember=lambda *_args: None,
    )
    fleet.configure(settings)
    assert fleet.names is not None
    model = form["model"]
    route = fleet.names.resolve(model)
    if route is None:
        near = ", ".join(fleet.names.near(model))
        text = f"nothing in the file is called {model!r}{f'; did you mean {near}?' if near else ''}"
        end(EXIT_PROBLEM, text)
    try:
        asked = Explain.model_validate_json(json.dumps(form))
        task = task_for(asked, route)
    except Refused as refused:
        end(EXIT_PROBLEM, refused.message)
    plan = explain_route(route, task, time.monotonic(), "")
    body = body_of(asked)
    add_changes(plan, body, None, task.capability, fleet.deployments)
    if body is not None:
        body.close()
    return {**plan, "asks": asks(task)}


# --- showing ----------------------------------------------------------------------------------------------


def lines(plan: Any, *, on: bool, plain: bool = True) -> Iterator[str]:
    """The plan in words. `plain`: it is for no request in particular."""
    via = f" via {' → '.join(plan['via'])}" if plan["via"] else ""
    head = f"{plan['model']}: {plan['origin']}{via}, {plan['capability']}"
    resume = f", resume: {plan['resume']}" if plan.get("resume") else ""
    yield f"{head}, at most {plan['attempts']} attempts{resume}"
    if not plain:
        yield f"for {_asks(plan['asks'])}"
    for limit in plan.get("limits", ()):
        if not limit["passes"]:
            frees = f"; frees in {limit['frees_in_s']:.0f} s" if limit["frees_in_s"] else ""
            text = f"over the limit: {limit['limit']}{frees} ({limit['then']})"
            yield paint(text, "red", on=on)
    for number, step in enumerate(plan["steps"], 1):
        yield ""
        yield f"step {number}: {harmless(step['pool'])} ({', '.join(_policy(step))})"
        if not step["candidates"] and not step["unknown"]:
            yield "  nobody: nothing is known under this name"
        for row in step["candidates"]:
            yield from _candidate(row, step, on=on)
        for pool in step["unknown"]:
            yield f"  ?  {paint(harmless(pool), 'dim', on=on)}: nothing is known under this name yet"


def _asks(asks: dict[str, Any]) -> str:
    words = [f"a prompt of at most about {asks['prompt_tokens']} tokens"]
    if asks["max_tokens"] is not None:
        words.append(f"an answer of at most {asks['max_tokens']}")
    if asks["answers"] > 1:
        words.append(f"{asks['answers']} answers")
    return f"{', '.join(words)}; it needs {', '.join(asks['needs'])}"


def _policy(step: dict[str, Any]) -> Iterator[str]:
    """The policy of a step with its limits."""
    yield step["policy"]
    for name in ("first_token_s", "answer_s"):
        if step[name] is not None:
            yield f"{name.removesuffix('_s').replace('_', ' ')} {step[name]:g} s"
    if step["on"] is not None:
        yield f"only after {', '.join(step['on'])}"
    if step["because"]:
        yield step["because"]


def _candidate(row: dict[str, Any], step: dict[str, Any], *, on: bool) -> Iterator[str]:
    mark, colour = _MARKS[row["verdict"]]
    position = f"{row['position']}." if row["position"] else mark
    yield f"  {position:<3}{paint(harmless(row['deployment']), colour, on=on)}: {harmless(row['text'])}"
    for change in row.get("changes", ()):
        yield f"     {paint(harmless(change), 'yellow', on=on)}"
    if (resume := row.get("goes_on")) is not None:
        yield f"     {paint(_resume(resume), 'dim', on=on)}"
    if row["forecast"] is not None:
        yield f"     {paint(_forecast(row['forecast']), 'dim', on=on)}"
    if row["score"] is not None and step["policy"] in _SCORES:
        yield f"     {paint(_SCORES[step['policy']](row['score'], step['weights']), 'dim', on=on)}"


def _resume(told: dict[str, Any]) -> str:
    """What becomes of a stream of it that breaks off."""
    against = "".join(f"; not {name}: {why}" for name, why in told["not_by"].items())
    if told["by"]:
        return harmless(f"should it break off: {', '.join(told['by'])} can go on{against}")
    return harmless(f"should it break off, nobody goes on: {told['why_not']}{against}")


def _forecast(told: dict[str, Any]) -> str:
    """`2.4 s: load 2.0 s, prompt 0.1 s, answer 0.3 s (250 tokens)`; what takes no time is left out."""
    terms = [f"{name} {told[f'{name}_s']:.1f} s" for name in ("wake", "load", "wait") if told[f"{name}_s"]]
    if told["prefill_s"]:
        held = f" ({told['hit']:.0%} of it is held)" if told["hit"] else ""
        terms.append(f"prompt {told['prefill_s']:.2f} s{held}")
    tokens = f" (about {told['output_tokens']:.0f} tokens)" if told["output_tokens"] else ""
    terms.append(f"answer {told['decode_s']:.2f} s{tokens}")
    return f"about {told['total_s']:.1f} s: {', '.join(terms)}"


def _best(score: dict[str, Any], weights: dict[str, float] | None) -> str:
    names = ("speed", "quality", "cost")
    terms = [f"{name} {score[name]:.2f}" + (f" * {weights[name]:g}" if weights else "") for name in names]
    return f"score {score['score']:.3f}: {', '.join(terms)}{_usd(score)}"


def _fastest(score: dict[str, Any], _weights: dict[str, float] | None) -> str:
    return f"score {score['score']:.3f}: speed alone"


def _cheapest(score: dict[str, Any], _weights: dict[str, float] | None) -> str:
    return f"score {score['score']:.3f}: cost alone{_usd(score)}"


def _usd(score: dict[str, Any]) -> str:
    return f" (about {score['usd']:.6f} USD)" if score["usd"] else " (free)"


_SCORES: Final = {"best": _best, "fastest": _fastest, "cheapest": _cheapest}
_MARKS: Final = {
    "candidate": ("+", "green"),
    "wait": ("~", "yellow"),
    "load": ("~", "yellow"),
    "wake": ("~", "yellow"),
    "ejected": ("-", "red"),
    "refused": ("-", "dim"),
}
