"""Who agreed to the avatar, in which words, when, and what the avatar may be used for."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mien.protocol.errors import WireError

MAX_STATEMENT_BYTES: Final = 512
MAX_TIME_S: Final = 253_402_300_799  # the last second of the year 9999

# Code points that a name or a statement must not hold: controls, line separators, and the invisible ones that
# reorder or hide text. Spelled out instead of taken from the Unicode tables, so that every implementation and
# every Unicode version refuses the same bytes. U+200C and U+200D stay: Persian and emoji need them.
REFUSED_RANGES: Final = (
    (0x0000, 0x001F),
    (0x007F, 0x009F),
    (0x00AD, 0x00AD),
    (0x061C, 0x061C),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xD800, 0xDFFF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE0FFF),
)


def check_text(what: str, text: str, *, max_bytes: int, empty: bool) -> None:
    """Raise `WireError` unless `text` fits, is trimmed and is free of controls and invisible characters."""
    for character in text:
        if any(low <= ord(character) <= high for low, high in REFUSED_RANGES):
            raise WireError(
                f"{what} holds the character U+{ord(character):04X}, expected printable text on one line"
            )
    size = len(text.encode())
    if size > max_bytes:
        raise WireError(f"{what} is {size} bytes of UTF-8, expected at most {max_bytes}")
    if text != text.strip(" "):
        raise WireError(f"{what} begins or ends with a space, expected trimmed text")
    if not text and not empty:
        raise WireError(f"{what} is empty, expected text")


class ConsentKind(StrEnum):
    """Whose likeness it is, and who agreed."""

    SELF = "self"  # the owner of the key agreed to an avatar of the owner
    TEST_FIXTURE = "test-fixture"  # a public-domain portrait, for tests and the demo: loopback only


class PermittedUse(StrEnum):
    """What a receiver may do with the avatar. What is not named is not permitted."""

    CALL = "call"  # show it live, in calls that the owner's side takes part in
    RECORD = "record"  # keep a call's log and replay it with this avatar
    LOOPBACK = "loopback"  # show it where both ends are one machine


DEFAULT_USES: Final = {
    ConsentKind.SELF: (PermittedUse.CALL, PermittedUse.RECORD, PermittedUse.LOOPBACK),
    ConsentKind.TEST_FIXTURE: (PermittedUse.LOOPBACK,),
}

SELF_STATEMENT: Final = (
    "I am the person in these pictures, and I agree to an avatar of myself that shows my face, "
    "moved by my camera, to the people I call."
)
TEST_FIXTURE_STATEMENT: Final = (
    "A public-domain portrait, moved by a script, to test this software on one machine."
)


@dataclass(frozen=True, slots=True)
class Consent:
    """The consent record of an avatar. `given_unix_s` is in whole seconds since 1970, UTC."""

    kind: ConsentKind
    statement: str
    given_unix_s: int

    def __post_init__(self) -> None:
        check_text("the consent statement", self.statement, max_bytes=MAX_STATEMENT_BYTES, empty=False)
        if not 0 <= self.given_unix_s <= MAX_TIME_S:
            raise WireError(f"the consent's time is {self.given_unix_s}, expected 0 to {MAX_TIME_S} seconds")

    @classmethod
    def of_self(cls, given_unix_s: int) -> "Consent":
        """Return the record of a person who agrees to an avatar of themselves."""
        return cls(ConsentKind.SELF, SELF_STATEMENT, given_unix_s)

    @classmethod
    def test_fixture(cls, given_unix_s: int) -> "Consent":
        """Return the record of the embedded test picture."""
        return cls(ConsentKind.TEST_FIXTURE, TEST_FIXTURE_STATEMENT, given_unix_s)
