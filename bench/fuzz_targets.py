"""What is fuzzed: every parser of what comes from others, each with samples that it accepts and a check of its answer."""

from typing import Final

from mien.bench import fuzz_avatars, fuzz_control, fuzz_logs, fuzz_messages, fuzz_scenes, fuzz_tunings
from mien.bench.fuzz_target import Target

TARGETS: Final[tuple[Target, ...]] = (
    *fuzz_messages.TARGETS,
    *fuzz_scenes.TARGETS,
    *fuzz_logs.TARGETS,
    *fuzz_avatars.TARGETS,
    *fuzz_control.TARGETS,
    *fuzz_tunings.TARGETS,
)
