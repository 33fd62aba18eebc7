"""The programs that people use, and how each is pointed at a gateway. Data and texts, nothing else.

What could not be tried with the program itself, or read in its documentation, is named as unverified.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fleetgate.cli.client_files import Form, Wanted, changed
from fleetgate.config.paths import directories

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY: Final = "YOUR_KEY"
MODEL: Final = "MODEL"
"""stand where nothing was given"""
CODEX_KEY: Final = "FLEETGATE_CODEX_KEY"
"""not FLEETGATE_KEY: that is the admin's, and Codex reads no name that begins with CODEX_ from its file"""
_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class At:
    """A gateway as a client has to know it. None: not given."""

    root: str
    key: str | None
    model: str | None
    environ: Mapping[str, str]

    @property
    def v1(self) -> str:
        return f"{self.root}/v1"

    @property
    def home(self) -> Path:
        return Path(self.environ.get("HOME") or Path.home())

    def short(self, path: Path) -> str:
        """A path as people write it."""
        return f"~/{path.relative_to(self.home)}" if path.is_relative_to(self.home) else str(path)

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.root).hostname in _HERE

    def entries(self, given: Mapping[tuple[str, ...], str | int | None]) -> dict[tuple[str, ...], str | int]:
        """Those that have a value."""
        return {path: value for path, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ClientFile:
    """A file of the client's own, and what it is to hold."""

    path: Path
    wanted: Wanted
    rivals: tuple[tuple[str, ...], ...] = ()
    """settings that would work against ours"""
    ends: str = ""
    """what is left to do by hand"""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to write or to choose, and where."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Client:
    """One program. `parts` shows, `files` writes; `parts` is asked with the stand-ins filled in."""

    name: str
    title: str
    speaks: str
    parts: Callable[[At], tuple[Part, ...]]
    files: Callable[[At], tuple[ClientFile, ...]] | None = None
    needs_model: bool = False
    """its files cannot be written without one"""
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    elsewhere: str = ""
    """why loopback may not lead here"""


def _shown(at: At, files: Callable[[At], tuple[ClientFile, ...]]) -> tuple[Part, ...]:
    """What would stand in files that are empty yet."""
    return tuple(
        Part(at.short(one.path), changed(None, one.wanted).removeprefix(one.wanted.start))
        for one in files(at)
    )


def _exports(**values: str | None) -> str:
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in values.items() if value is not None
    )


# --- Claude Code ------------------------------------------------------------------------------------


def _claude_values(at: At) -> dict[str, str | None]:
    return {
        "ANTHROPIC_BASE_URL": at.root,
        "ANTHROPIC_AUTH_TOKEN": at.key,
        "ANTHROPIC_MODEL": at.model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": at.model,
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
    }


def _claude_files(at: At) -> tuple[ClientFile, ...]:
    directory = Path(at.environ.get("CLAUDE_CONFIG_DIR") or at.home / ".claude")
    given: dict[tuple[str, ...], str | int | None]
    given = {("env", name): value for name, value in _claude_values(at).items()}
    wanted = Wanted(Form.JSON, at.entries(given), start="{}\n")
    return (ClientFile(directory / "settings.json", wanted, rivals=(("env", "ANTHROPIC_API_KEY"),)),)


def _claude_parts(at: At) -> tuple[Part, ...]:
    (file,) = _claude_files(at)
    text = changed(None, file.wanted)
    return (Part(at.short(file.path), text), Part("or the shell", _exports(**_claude_values(at))))


# --- Codex ------------------------------------------------------------------------------------------


def _codex_files(at: At) -> tuple[ClientFile, ...]:
    directory = Path(at.environ.get("CODEX_HOME") or at.home / ".codex")
    table = ("model_providers", "fleetgate")
    entries = at.entries(
        {
            ("model",): at.model,
            ("model_provider",): "fleetgate",
            (*table, "name"): "Fleetgate",
            (*table, "base_url"): at.v1,
            (*table, "env_key"): CODEX_KEY if at.key is not None else None,
            (*table, "wire_api"): "responses",
        }
    )
    files = [ClientFile(directory / "config.toml", Wanted(Form.TOML, entries))]
    if at.key is not None:
        files.append(ClientFile(directory / ".env", Wanted(Form.ENV, {(CODEX_KEY,): at.key})))
    return tuple(files)


def _codex_parts(at: At) -> tuple[Part, ...]:
    return _shown(at, _codex_files)


# --- Continue, aider, ask -----------------------------------------------------------------------------


def _continue_files(at: At) -> tuple[ClientFile, ...]:
    directory = Path(at.environ.get("CONTINUE_GLOBAL_DIR") or at.home / ".continue")
    entries = at.entries(
        {
            ("provider",): "openai",
            ("model",): at.model,
            ("apiBase",): at.v1,
            ("apiKey",): at.key,
        }
    )
    start = "name: Local\nversion: 1.0.0\nschema: v1\n"
    wanted = Wanted(Form.YAML, entries, item=("models", "Fleetgate"), start=start)
    return (ClientFile(directory / "config.yaml", wanted),)


def _continue_parts(at: At) -> tuple[Part, ...]:
    return _shown(at, _continue_files)


def _aider_files(at: At) -> tuple[ClientFile, ...]:
    entries = at.entries(
        {
            ("openai-api-base",): at.v1,
            ("openai-api-key",): at.key,
            ("model",): f"openai/{at.model}" if at.model is not None else None,
        }
    )
    return (ClientFile(at.home / ".aider.conf.yml", Wanted(Form.YAML, entries)),)


def _aider_parts(at: At) -> tuple[Part, ...]:
    shell = _exports(OPENAI_API_BASE=at.v1, OPENAI_API_KEY=at.key)
    return (*_shown(at, _aider_files), Part("or the shell", f"{shell}aider --model openai/{at.model}\n"))


def _ask_files(at: At) -> tuple[ClientFile, ...]:
    path = directories(at.environ).config / "ask.env"
    given: dict[tuple[str, ...], str | int | None]
    given = {("ASK_BASE_URL",): at.root, ("ASK_API_KEY",): at.key, ("ASK_MODEL",): at.model}
    ends = f"`ask` reads its environment: put `set -a; . {at.short(path)}; set +a` into your shell's profile"
    return (ClientFile(path, Wanted(Form.ENV, at.entries(given)), ends=ends),)


def _ask_parts(at: At) -> tuple[Part, ...]:
    return (Part("the shell", _exports(ASK_BASE_URL=at.root, ASK_API_KEY=at.key, ASK_MODEL=at.model)),)


# --- without files ------------------------------------------------------------------------------------


def _cursor_parts(at: At) -> tuple[Part, ...]:
    text = f"OpenAI API Key: {at.key}\nOverride OpenAI Base URL: {at.v1}\nmodel to add: {at.model}\n"
    return (Part("Settings, Models", text),)


def _open_webui_parts(at: At) -> tuple[Part, ...]:
    text = f"OPENAI_API_BASE_URLS={at.v1}\nOPENAI_API_KEYS={at.key}\n"
    panel = f"URL: {at.v1}\nKey: {at.key}\n"
    return (
        Part("the environment of Open WebUI", text),
        Part("or Admin Panel, Settings, Connections, OpenAI API", panel),
    )


def _openai_parts(at: At) -> tuple[Part, ...]:
    make = json.dumps(at.v1), json.dumps(at.key), json.dumps(at.model)
    sdk = f"from openai import OpenAI\n\nclient = OpenAI(base_url={make[0]}, api_key={make[1]})\n"
    chain = (
        "from langchain_openai import ChatOpenAI\n\n"
        f"model = ChatOpenAI(model={make[2]}, base_url={make[0]}, api_key={make[1]})\n"
    )
    return (
        Part("the shell", _exports(OPENAI_BASE_URL=at.v1, OPENAI_API_KEY=at.key)),
        Part("or Python, openai", sdk),
        Part("or Python, LangChain", chain),
    )


def _agents_parts(at: At) -> tuple[Part, ...]:
    text = (
        "from agents import Agent, set_default_openai_client, set_tracing_disabled\n"
        "from openai import AsyncOpenAI\n\n"
        f"client = AsyncOpenAI(base_url={json.dumps(at.v1)}, api_key={json.dumps(at.key)})\n"
        "set_default_openai_client(client)\n"
        "set_tracing_disabled(True)\n"
        f'agent = Agent(name="helper", model={json.dumps(at.model)})\n'
    )
    return (
        Part("the shell", _exports(OPENAI_BASE_URL=at.v1, OPENAI_API_KEY=at.key)),
        Part("or Python", text),
    )


def _n8n_parts(at: At) -> tuple[Part, ...]:
    return (Part("Credentials, OpenAI", f"API Key: {at.key}\nBase URL: {at.v1}\n"),)


def _home_assistant_parts(at: At) -> tuple[Part, ...]:
    return (
        Part("Devices & services, Add integration, Ollama", f"URL: {at.root}\nModel: {at.model}\n"),
        Part(
            "or the custom integration Extended OpenAI Conversation",
            f"base_url: {at.v1}\napi_key: {at.key}\nskip_authentication: true\n",
        ),
    )


def _obsidian_parts(at: At) -> tuple[Part, ...]:
    text = (
        f"Provider: 3rd party (openai-format)\nModel Name: {at.model}\nBase URL: {at.v1}\nAPI Key: {at.key}\n"
    )
    return (
        Part("Settings, Copilot, Model, Add Custom Model", text),
        Part("the gateway's configuration", 'gateway:\n  cors: ["app://obsidian.md"]\n'),
    )


_CONTAINER: Final = "inside a container 127.0.0.1 is the container: use an address that it can reach"

CLIENTS: Final = (
    Client(
        "claude-code",
        "Claude Code",
        "Anthropic Messages",
        _claude_parts,
        _claude_files,
        notes=(
            "The address has no /v1: Claude Code adds it.",
            "Its picker shows models whose names begin with claude or anthropic: an alias brings in others.",
            "In open mode a key has to be given, too; any word will do.",
            "Its session id keeps a conversation on one deployment, with no setting.",
        ),
    ),
    Client(
        "codex",
        "Codex CLI",
        "OpenAI Responses",
        _codex_parts,
        _codex_files,
        needs_model=True,
        notes=(
            "wire_api has to be responses: Codex knows no other.",
            "Its own list says what a model can do. Of others it warns, and offers them plain tools.",
            "It waits as long as an error's retry-after says, without showing the reason.",
            "It asks github.com and chatgpt.com, too: analytics.enabled and features.plugins can be false.",
            "Its session id keeps a conversation on one deployment, with no setting.",
        ),
    ),
    Client(
        "cursor",
        "Cursor",
        "OpenAI chat",
        _cursor_parts,
        notes=(
            "The override holds for all of its OpenAI models. Tab completion ignores it.",
            "It sends some models Responses bodies at /chat/completions: they are understood.",
        ),
        unverified=("the names of the fields in its settings",),
        elsewhere="its requests come from Cursor's own servers, which need a public https address",
    ),
    Client(
        "open-webui",
        "Open WebUI",
        "OpenAI chat",
        _open_webui_parts,
        notes=(
            "Several addresses and keys are separated by semicolons.",
            "The environment counts at the first start only; later it is the panel.",
            "With ENABLE_FORWARD_USER_INFO_HEADERS=true it says who asks: gateway.trust_user_headers.",
        ),
        unverified=("the names of variables, in versions that we have not seen",),
        elsewhere=_CONTAINER,
    ),
    Client(
        "openai",
        "openai SDK, LangChain",
        "OpenAI chat or Responses",
        _openai_parts,
        notes=("LangChain changes to Responses by itself for some options and names; both are answered.",),
    ),
    Client(
        "agents-sdk",
        "OpenAI Agents SDK",
        "OpenAI Responses",
        _agents_parts,
        notes=("It asks by Responses. Without set_tracing_disabled it sends traces to OpenAI.",),
        unverified=("set_default_openai_client and set_tracing_disabled, in versions that we have not seen",),
    ),
    Client(
        "n8n",
        "n8n",
        "OpenAI chat",
        _n8n_parts,
        notes=("The chat model's `Use Responses API` may be on or off.",),
        unverified=("the names of the fields in its settings",),
        elsewhere=_CONTAINER,
    ),
    Client(
        "home-assistant",
        "Home Assistant",
        "Ollama",
        _home_assistant_parts,
        notes=(
            "Its own OpenAI integration has no address to set.",
            "The Ollama integration may have no place for a key: open mode and gateway.allow_from do.",
        ),
        unverified=("the names of the fields, and how it asks for the version",),
        elsewhere=_CONTAINER,
    ),
    Client(
        "obsidian-copilot",
        "Obsidian Copilot",
        "OpenAI chat",
        _obsidian_parts,
        notes=("Obsidian is a browser: without gateway.cors it may not read our answers.",),
        unverified=("the names of the fields, and the origin app://obsidian.md on telephones",),
    ),
    Client(
        "continue",
        "Continue",
        "OpenAI chat or Responses",
        _continue_parts,
        _continue_files,
        needs_model=True,
        notes=("It asks by Responses where a name looks like gpt-5 or o3: mind that in aliases.",),
        unverified=("completion, embeddings and reranking through the same address",),
    ),
    Client(
        "ask",
        "ask",
        "OpenAI chat",
        _ask_parts,
        _ask_files,
        notes=("On the gateway's own host it needs nothing but the key.",),
    ),
    Client(
        "aider",
        "aider",
        "OpenAI chat",
        _aider_parts,
        _aider_files,
        needs_model=True,
        notes=("openai/ in front of the model's name is aider's, and does not come here.",),
    ),
)
ALIASES: Final = (
    ("claude", "claude-code"),
    ("codex-cli", "codex"),
    ("langchain", "openai"),
    ("agents", "agents-sdk"),
    ("openwebui", "open-webui"),
    ("obsidian", "obsidian-copilot"),
)
"""other words for them"""
