"""What lies beside other tests is found from here too."""

import targets  # noqa: F401
