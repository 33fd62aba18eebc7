"""Bodies of the admin API: small JSON objects with declared members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fleetgate import units
from fleetgate.config.money import MOST_COUNTED
from fleetgate.domain import KeyKind
from fleetgate.errors import Refused
from fleetgate.gateway import body as bodies
from fleetgate.http.parameters import advice_for

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from fleetgate.http.call import Call

LARGEST: Final = 64 * 1024
LONGEST_TIME: Final = 100 * 366 * 86_400.0
DEFAULT_GRACE: Final = "1h"


def _time(text: str) -> str:
    if not 0 <= units.duration(text) <= LONGEST_TIME:
        raise ValueError("at most 100 years")
    return text


def _pattern(text: str) -> str:
    if not text.removeprefix("!").strip():
        raise ValueError("a pattern must name something")
    return text


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}$")]
"""Of a user, a team or a key: it stands in paths and tables."""
Tag = Annotated[str, StringConstraints(pattern=r"^[^\s,]{1,100}$")]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=300), AfterValidator(_pattern)]
Time = Annotated[str, AfterValidator(_time)]
Text = Annotated[str, StringConstraints(max_length=500)]
Counted = Annotated[int, Field(ge=0, le=MOST_COUNTED)]
Number = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]


class Form(BaseModel):
    """A body. Members that are not declared are refused: a misspelt restriction must not be none.

    Nor is a value taken for what it is not: `"no"` is a text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class UpdateKey(Form):
    """What can be changed of a key; members that are not there stay as they are."""

    alias: Name | None = None
    user: Name | None = None
    team: Name | None = None
    tags: tuple[Tag, ...] = Field(default=(), max_length=50)
    names: tuple[Pattern, ...] = Field(default=(), max_length=500)
    enabled: bool = True
    expires_in: Time | None = None
    """from now on; null: never"""

    def changes(self, now: float) -> dict[str, Any]:
        """The members that are there, as fields of the row. `now`: unix seconds."""
        found = {name: getattr(self, name) for name in self.model_fields_set if name in _SAME}
        if "user" in self.model_fields_set:
            found["person"] = self.user
        if "expires_in" in self.model_fields_set:
            time = self.expires_in
            found["expires_at"] = round((now + units.duration(time)) * 1e3) if time is not None else None
        return found


_SAME: Final = frozenset({"alias", "team", "tags", "names", "enabled"})


class CreateLimit(Form):
    """Limits, as an entry of `limits` in the file: each of its measures is one."""

    name: Text = ""
    scope: dict[str, Text] | Literal["global"] = "global"
    requests: Counted | None = None
    input_tokens: Counted | None = None
    output_tokens: Counted | None = None
    tokens: Counted | None = None
    parallel: Counted | None = None
    money: Text | None = None
    """such as `10 USD`"""
    per: Text | None = None
    window: Text | None = None
    zone: Text | None = None
    reset: Text | None = None
    burst: Annotated[Counted, Field(ge=1)] | None = None
    then: Text = "refuse"

    def document(self) -> dict[str, Any]:
        """What was written; `money.Limit` says what it means."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class CreateKey(UpdateKey):
    """A new key."""

    kind: KeyKind = KeyKind.CALLER
    limits: tuple[CreateLimit, ...] = ()
    """of this key alone; their scopes do not name it"""


class RotateKey(Form):
    grace: Time = DEFAULT_GRACE
    """how long the secret before goes on counting"""


class CreateUser(Form):
    name: Name
    team: Name | None = None
    note: Text = ""


class UpdateUser(Form):
    """What can be changed of a user; members that are not there stay as they are."""

    team: Name | None = None
    note: Text = ""


class CreateTeam(Form):
    name: Name
    note: Text = ""


class PauseBudget(Form):
    why: Text = ""


Filled = TypeVar("Filled", bound=Form)


async def json_object(call: Call, largest: int) -> dict[str, Any]:
    """A body of which no form is declared. Raises Refused."""
    return bodies.json_object(await read_raw(call, largest))


async def filled(call: Call, form: type[Filled], largest: int = LARGEST) -> Filled:
    """The body as a form; no body is an empty one. Raises Refused."""
    raw = await read_raw(call, largest)
    try:
        return form.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _misfit(error.errors(include_url=False, include_input=False)[0], form) from None


async def read_raw(call: Call, largest: int) -> bytes:
    """The bytes of a body, at most `largest`."""
    declared = call.header(b"content-length")
    budget = call.gateway.bodies
    try:
        length = int(declared) if declared else None
        raw, held = await bodies.read(call.receive, largest, length, budget)
    except bodies.CallerGone:
        raise Refused(400, "malformed", "the body of the request did not come") from None
    budget.give_back(held)
    return raw


def _misfit(problem: ErrorDetails, form: type[Form]) -> Refused:
    place = problem["loc"]
    where = ".".join(str(part) for part in place)[:100]
    if problem["type"] != "extra_forbidden":
        message = f"`{where}`: {problem['msg']}" if where else problem["msg"]
        return Refused(400, "malformed", message, param=where or None)
    # Of what lies deeper the names are not known here.
    advice = advice_for(str(place[-1]), _members(form)) if len(place) == 1 else ""
    return Refused(400, "malformed", f"there is no member `{where}`", advice=advice, param=where)


def _members(form: type[Form]) -> list[str]:
    """As they are written."""
    return [field.alias or name for name, field in form.model_fields.items()]
