"""What came back for one request, before anyone has looked into it, and what the parser makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from synthgen.records import NO_BILL, Bill


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `headers` have lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lost:
    """No whole answer came: the connection was refused, reset or cut (`down`), or took too long."""

    message: str
    timed_out: bool = False


class Kind(Enum):
    """What an answer without a completion calls for."""

    give_up = "give_up"  # the same request fails again: it becomes a row with a reason
    again = "again"  # it may pass: try again
    slow_down = "slow_down"  # the server wants fewer requests
    exhausted = "exhausted"  # the key's credit or quota is used up
    no_access = "no_access"  # 401, 403 or 404: the key, the address, or this prompt alone
    too_long = "too_long"  # prompt and output exceed the context
    parameter = "parameter"  # a parameter may be at fault


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an answer holds no completion.

    Attributes:
        reason: a slug for the row, such as `bad_answer`.
        message: one line, in the server's own words where it has any.
        kind: what it calls for.
        after_s: how long the server asks to wait, s; None: it does not say.
        room: tokens that the context has left after the prompt; None: it does not say. For `too_long`.
        raw: the beginning of the answer's body.
        bill: what the answer says that it cost.
        thought: whether the model has thought, and not answered.
    """

    reason: str
    message: str
    kind: Kind
    after_s: float | None = None
    room: int | None = None
    raw: str = ""
    bill: Bill = NO_BILL
    thought: bool = False

    @property
    def retryable(self) -> bool:
        """Whether the same request may be served on another day."""
        return self.kind in (Kind.again, Kind.slow_down, Kind.exhausted, Kind.no_access)
