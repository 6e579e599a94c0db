"""Who writes to a job's ledger is told how it went, in every case: nobody waits for a writer that is gone."""

from __future__ import annotations

from contextlib import closing

import anyio
import pytest

from nebula_async.bulk.ledger import Ledger
from nebula_async.bulk.writer import LedgerWriter, prepare_nothing
from nebula_async.errors import JobError

pytestmark = pytest.mark.anyio

PATIENCE = 10.0
