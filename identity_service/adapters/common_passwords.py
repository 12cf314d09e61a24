"""The list of common passwords, which no user may choose. The only importer of `zxcvbn`."""

from functools import cache

from identity_service.adapters.password_hashing import normalized
from identity_service.domain.secret import Secret
from identity_service.domain.visible import comparable


def is_common(password: Secret) -> bool:
    """Return whether a password is among those that attackers try first (NIST SP 800-63B section 3.1.1.2).

    Invisible characters and spaces are ignored.
    """
    common = _common_passwords()
    return normalized(password).casefold() in common or comparable(password.reveal()) in common


@cache
def _common_passwords() -> frozenset[str]:
    """Return the common passwords, read at the first call: only administration needs them."""
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # 5 MB that most processes never need

    return frozenset(FREQUENCY_LISTS["passwords"])
