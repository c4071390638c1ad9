"""The exceptions whose text is meant for a person."""


class MienError(Exception):
    """Something the user can mend. The text says what was found and what to do about it."""


class WireError(MienError, ValueError):
    """Bytes that are not what the format says. The only exception that any parser of this package raises."""
