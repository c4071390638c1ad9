"""Read by pytest before any test, and so before numpy: see `mien.cli` for why one thread is enough."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
