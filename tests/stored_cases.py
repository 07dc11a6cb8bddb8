"""What the fixture ``make_case`` is, for annotations; the browser tests have a conftest.py of their own."""

from collections.abc import Callable

from sshsnet_core.data.store import StoredCase

MakeCase = Callable[..., StoredCase]
