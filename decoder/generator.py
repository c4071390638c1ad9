"""Runs the generator, the network of `mien.models.generator_fields`, with ONNX Runtime.

Which of the machine's providers runs it is found out by measuring. On a processor it gets one thread, two on a
machine of many cores, and none of them spins while it waits: tracker and renderer need the cores more.
"""

import logging
import os
import time
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mien.models.generator_asset import SHIPPED
from mien.models.generator_fields import INPUT_PLANES, OUTPUT_PLANES
from mien.protocol.errors import MienError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]

PROVIDERS: Final = {"CUDAExecutionProvider": "CUDA", "CPUExecutionProvider": "processor"}
GRID: Final = 128  # places each way, to measure with
WARM_UP: Final = 2
RUNS: Final = 3
MANY_CORES: Final = 8
SWITCH: Final = "MIEN_GENERATOR"  # "off" in the environment: pictures are painted without weights
HOW_TO_GET: Final = "pip install onnxruntime (or onnxruntime-gpu, where there is CUDA, never both)"


class Generator:
    """A network on the provider that runs it fastest here. Use it from one thread at a time."""

    def __init__(self, model: bytes, *, providers: Sequence[str] = tuple(PROVIDERS)) -> None:
        """Raises `MienError` without ONNX Runtime, and for a file that is no generator."""
        runtime = load_runtime()
        tried = []
        for provider in providers:
            if provider in runtime.get_available_providers():
                session = open_session(runtime, model, provider)
                # A provider that cannot start leaves its work to the processor without an error.
                if session is not None and session.get_providers()[0] == provider:
                    tried.append((measured_ms(session), provider, session))
        if not tried:
            raise MienError("ONNX Runtime cannot run the generator with any of its providers")
        self.run_ms, self.provider, self._session = min(tried, key=lambda each: each[0])
        self.device = PROVIDERS.get(self.provider, self.provider)
        self._input = self._session.get_inputs()[0].name

    def __call__(self, planes: Floats) -> Floats:
        """Return the network's output, float32 [1, OUTPUT_PLANES, gh, gw]. Raises `MienError` where it fails."""
        try:
            return np.asarray(self._session.run(None, {self._input: planes})[0], np.float32)
        except Exception as error:  # whatever a provider raises, such as being out of memory
            raise MienError(f"the generator failed on {self.device}: {error}") from error


def load_runtime() -> Any:
    """Return the module onnxruntime. Raises `MienError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MienError(f"the generator needs ONNX Runtime: {HOW_TO_GET}") from error
    return onnxruntime


def open_session(runtime: Any, model: bytes, provider: str) -> Any:
    """Return a session on one provider, None where the provider does not start. Raises `MienError` for a bad file."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 2 if (os.cpu_count() or 1) >= MANY_CORES else 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # onnxruntime has no common class of its errors
        if provider != "CPUExecutionProvider":
            logger.warning("the generator does not start on %s: %s", PROVIDERS.get(provider, provider), error)
            return None
        raise MienError(f"the generator's file cannot be read: {error}") from error
    planes = [session.get_inputs()[0].shape[1], session.get_outputs()[0].shape[1]]
    if planes != [INPUT_PLANES, OUTPUT_PLANES]:
        raise MienError(
            f"the generator has {planes[0]} planes in and {planes[1]} out, expected {INPUT_PLANES} and {OUTPUT_PLANES}"
        )
    return session


def measured_ms(session: Any) -> float:
    """Return what one run takes, the best of a few."""
    name, planes = session.get_inputs()[0].name, np.zeros((1, INPUT_PLANES, GRID, GRID), np.float32)
    times = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter()
        session.run(None, {name: planes})
        times.append(time.perf_counter() - started)
    return 1000 * min(times[WARM_UP:])


def shipped_generator() -> Generator | None:
    """Return the generator that comes with the package, opened once; None where there is none, or it is switched off.

    One that cannot be run is reported in the log; pictures are then painted without weights.
    """
    return None if os.environ.get(SWITCH, "").lower() == "off" else _shipped()


def open_shipped() -> Generator | None:
    """Open the generator that comes with the package; None where there is none. Raises `MienError`."""
    return None if SHIPPED is None else Generator(SHIPPED.read())


@cache
def _shipped() -> Generator | None:
    try:
        generator = open_shipped()
    except MienError as error:
        logger.warning("%s; scenes are painted without it", error)
        return None
    if generator is not None:
        logger.info("generator on the %s, %.1f ms a scene picture", generator.device, generator.run_ms)
    return generator
