"""What the fixture ``make_case`` gives, for annotations: not in conftest.py, whose name the browser's tests have too."""

from collections.abc import Callable

from sshsnet_core.data.store import StoredCase

MakeCase = Callable[..., StoredCase]
