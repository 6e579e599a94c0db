"""The parts of other suites, for the tests here."""

from __future__ import annotations

import parts  # noqa: F401 - who imports it finds them
