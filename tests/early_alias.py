"""Run tests with httpx2, the maintained fork, in place of httpx: `PYTHONPATH=tests pytest -p early_alias …`.

A plugin named on the command line is loaded before any other; later, what is installed has imported httpx already.
Applications may do this; a library never does.
"""

import httpx2

httpx2.alias_httpx()
