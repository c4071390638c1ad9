"""The generator with an owner's tuning (`mien.protocol.tuning`) added to it; the one for everybody where none fits."""

import hashlib
import logging
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from mien.decoder.generator import SWITCH, Generator, shipped_generator
from mien.models import generator_asset
from mien.models.onnx_weights import with_added
from mien.protocol.avatar import Avatar
from mien.protocol.errors import MienError, WireError
from mien.protocol.tuning import Tuning

logger = logging.getLogger(__name__)

KEPT: Final = 4


def generator_for(avatar: Avatar, tunings: Sequence[Tuning] = ()) -> Generator | None:
    """Return what improves this avatar's scenes: tuned where one of the tunings is its own, else the shipped one.

    None where the generator is switched off or cannot be run. A tuning of another avatar is passed over; one of this
    avatar that cannot be used is reported in the log, and the generator for everybody takes its place.
    """
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    for tuning in tunings:
        if tuning.avatar_id == avatar.avatar_id:
            try:
                return tuned_generator(tuning, avatar)
            except MienError as error:
                logger.warning("%s; the generator for everybody is used", error)
    return shipped_generator()


def tuned_generator(tuning: Tuning, avatar: Avatar) -> Generator:
    """Return the shipped generator with a tuning added. Raises `MienError` where it is not this avatar's, or unfit."""
    tuning.check_belongs(avatar.manifest, avatar.avatar_id)
    return _opened(tuning)


def tuned_model(tuning: Tuning) -> bytes:
    """Return the shipped generator's file with a tuning added. Raises `MienError` where it is for another one."""
    shipped = generator_asset.SHIPPED
    if shipped is None:
        raise MienError("this version comes without a generator, so there is nothing to tune")
    model = shipped.read()
    if hashlib.sha256(model).digest() != tuning.generator:
        raise WireError(
            f"the tuning is for another version of the generator ({tuning.generator.hex()[:16]}, this one is "
            f"{shipped.sha256[:16]}): its owner has to make it again with this version of mien"
        )
    return with_added(model, {change.name: change.values for change in tuning.changes})


@lru_cache(maxsize=KEPT)
def _opened(tuning: Tuning) -> Generator:
    return Generator(tuned_model(tuning))
