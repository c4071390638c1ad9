"""Runs inside `network_trace`: all three kinds of speech clean-up on one second of sound."""

import numpy as np

from mien.call.audio_processing import AudioProcessor


def main() -> None:
    """Print how many samples came out."""
    sound = np.random.default_rng(0).normal(0, 1000, 48_000).astype(np.int16)
    processor = AudioProcessor(echo=True, noise=True, gain=True)
    processor.far(sound)
    processor.set_delay_ms(40)
    print(len(processor.near(sound)))


if __name__ == "__main__":
    main()
