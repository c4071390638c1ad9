"""Whether a scene layer may leave: camera pixels, so it has a door of its own, as video has.

No I/O, no clock. Open only while all of this holds: the user asked for it, for this call; the user has not hidden the
camera since; the other side takes it; the avatar is what is shown (the ladder: one face, and not video, which shows
more already); and the face looks like the avatar's owner, as far as anybody can tell here.
"""


class SceneGate:
    """One call's. `hide` is for good, as the ladder's is for video."""

    def __init__(self, *, wanted: bool) -> None:
        """`wanted`: the user's word, given for this call."""
        self._wanted = wanted
        self._hidden = False
        self._accepted = False
        self._avatar_shown = False
        self._owner_seen = True

    @property
    def wanted(self) -> bool:
        """Whether the user asked for a scene and has not hidden the camera since."""
        return self._wanted and not self._hidden and self._owner_seen

    @property
    def is_open(self) -> bool:
        """Whether scene pictures may be made and sent now."""
        return self.wanted and self._accepted and self._avatar_shown

    def hide(self) -> None:
        """The user hides the camera."""
        self._hidden = True

    def accept(self) -> None:
        """The other side takes scenes."""
        self._accepted = True

    def show_avatar(self, shown: bool) -> None:
        """The ladder says whether the avatar is what the other side sees."""
        self._avatar_shown = shown

    def stranger(self) -> None:
        """The face is not the avatar owner's: no scene any more in this call."""
        self._owner_seen = False
