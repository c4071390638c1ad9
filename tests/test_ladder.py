"""The ladder over scripted faces: 30 frames a second, times in seconds."""

from collections.abc import Callable, Iterable

from hypothesis import given
from hypothesis import strategies as st

from mien.call.ladder import Decision, Ladder
from mien.protocol.control import Rung, RungReason

FRAME_US = 33_333


def play(
    faces_at: Callable[[float], int],
    seconds: float,
    *,
    allow_video: bool = False,
    acts: Iterable[tuple[float, str]] = (),
    frame_us: int = FRAME_US,
) -> list[tuple[float, Decision]]:
    """Return the time and the decision of every change."""
    ladder = Ladder(allow_video=allow_video, now_us=0)
    changes = [(0.0, ladder.decision)]
    waiting = sorted(acts)
    for now_us in range(0, round(seconds * 1e6), frame_us):
        while waiting and waiting[0][0] * 1e6 <= now_us:
            getattr(ladder, waiting.pop(0)[1])(now_us)
        decision = ladder.on_frame(faces_at(now_us / 1e6), now_us)
        if decision != changes[-1][1]:
            changes.append((now_us / 1e6, decision))
    return changes


def covered(start: float, end: float) -> Callable[[float], int]:
    return lambda t: 0 if start <= t < end else 1


def rungs(changes: list[tuple[float, Decision]]) -> list[Rung]:
    return [decision.rung for _, decision in changes]


def test_a_face_leads_to_the_avatar() -> None:
    changes = play(lambda t: 1, 5)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR]
    assert changes[1][0] < 0.5 and changes[1][1].reason == RungReason.START


def test_covered_for_five_seconds_with_permission() -> None:
    changes = play(covered(5, 10), 20, allow_video=True)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.AVATAR]
    assert 2.0 <= changes[2][0] - 5 < 2.3
    assert changes[2][1] == Decision(Rung.VIDEO, RungReason.TRACKING_LOST)
    assert 1.0 <= changes[3][0] - 10 < 1.3
    assert changes[3][1].reason == RungReason.TRACKING_BACK


def test_covered_for_five_seconds_without_permission() -> None:
    changes = play(covered(5, 10), 20)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.STILL, Rung.AVATAR]
    assert not any(decision.camera_live for _, decision in changes)
    assert changes[3][0] - 10 < 0.5


def test_short_losses_change_nothing() -> None:
    assert rungs(play(lambda t: 0 if t % 3 > 1.2 else 1, 30, allow_video=True)) == [Rung.STILL, Rung.AVATAR]


def test_flickers_of_a_face_in_the_dark_hold_nothing_up() -> None:
    def flickering(t: float) -> int:
        return 1 if t < 5 or round(t / (FRAME_US / 1e6)) % 25 == 0 else 0

    changes = play(flickering, 20, allow_video=True)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO]
    assert changes[2][0] < 7.3


def test_several_faces_lead_to_the_still() -> None:
    changes = play(lambda t: 2 if 5 <= t < 8 else 1, 12, allow_video=True)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.STILL, Rung.AVATAR]
    assert changes[2][1].reason == RungReason.SEVERAL_FACES
    assert changes[2][0] - 5 < 0.4


def test_a_second_face_in_automatic_video_ends_it_at_once() -> None:
    def faces(t: float) -> int:
        return 1 if t < 3 else (0 if t < 7 else 2)

    changes = play(faces, 12, allow_video=True)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.STILL]
    assert changes[3][0] - 7 <= 2 * FRAME_US / 1e6


def test_show_and_hide() -> None:
    changes = play(lambda t: 1, 10, acts=[(3, "show"), (6, "hide")])
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.AVATAR]
    assert changes[2][1] == Decision(Rung.VIDEO, RungReason.USER)
    assert changes[3][0] - 6 < 0.1


def test_the_users_own_act_shows_several_faces_too() -> None:
    assert rungs(play(lambda t: 2, 6, acts=[(3, "show")]))[-1] is Rung.VIDEO


def test_hide_takes_the_permission_back() -> None:
    changes = play(covered(3, 30), 20, allow_video=True, acts=[(8, "hide")])
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.STILL]
    assert 8 <= changes[3][0] < 8.1


def test_show_while_video_is_automatic_keeps_it_when_the_face_is_back() -> None:
    changes = play(covered(3, 7), 15, allow_video=True, acts=[(6, "show")])
    assert changes[-1][1] == Decision(Rung.VIDEO, RungReason.USER)


def test_slow_cameras_work_too() -> None:
    changes = play(covered(20, 30), 45, allow_video=True, frame_us=500_000)
    assert rungs(changes) == [Rung.STILL, Rung.AVATAR, Rung.VIDEO, Rung.AVATAR]
    assert changes[3][0] - 30 <= 3


def test_a_hanging_camera_counts_as_lost() -> None:
    ladder = Ladder(allow_video=False, now_us=0)
    for i in range(60):
        ladder.on_frame(1, i * FRAME_US)
    assert ladder.decision.rung is Rung.AVATAR
    assert ladder.advance(60 * FRAME_US + 1_000_000).rung is Rung.AVATAR
    assert ladder.advance(60 * FRAME_US + 2_100_000) == Decision(Rung.STILL, RungReason.TRACKING_LOST)


def test_the_end_of_the_input() -> None:
    ladder = Ladder(allow_video=True, now_us=0)
    ladder.show(0)
    assert ladder.on_end(1_000) == Decision(Rung.STILL, RungReason.INPUT_ENDED)
    assert ladder.advance(10_000_000) == Decision(Rung.STILL, RungReason.INPUT_ENDED)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120)), max_size=12),
    st.lists(st.tuples(st.floats(0, 20), st.just("hide"))),
)
def test_without_permission_or_act_nothing_shows_the_camera(
    script: list[tuple[int, int]], acts: list[tuple[float, str]]
) -> None:
    frames = [faces for faces, count in script for _ in range(count)] or [0]

    def faces_at(t: float) -> int:
        return frames[min(round(t * 1e6 / FRAME_US), len(frames) - 1)]

    assert Rung.VIDEO not in rungs(play(faces_at, len(frames) * FRAME_US / 1e6, acts=acts))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 120)), max_size=12))
def test_automatic_video_never_shows_a_frame_of_several_faces(script: list[tuple[int, int]]) -> None:
    ladder = Ladder(allow_video=True, now_us=0)
    now_us = 0
    for faces, count in script:
        for _ in range(count):
            decision = ladder.on_frame(faces, now_us)
            assert not (faces > 1 and decision.camera_live)
            now_us += FRAME_US
