"""The files that the settings name, checked as the service reads them when it starts."""

from collections.abc import Callable, Mapping
from functools import partial

from identity_service.composition.checks import store_file
from identity_service.composition.listeners import tls_files
from identity_service.composition.opening import open_key_servers, open_sealer
from identity_service.domain.errors import ConfigurationError
from identity_service.grpc_api.ext_authz.descriptors import read_requirements
from identity_service.jose.public_keys import StrictKeyChecker
from identity_service.settings import Settings
from identity_service.transport.tls import check_files


def file_checks(settings: Settings) -> Mapping[str, Callable[[], object]]:
    """Return a check for each kind of file that the settings name, by one of these settings.

    A check raises ConfigurationError, which names the setting and the file, if a file cannot be used.
    """
    checks: dict[str, Callable[[], object]] = {}
    if "store" in settings.model_fields_set:  # the default is a file in the folder where the service starts
        checks["store"] = partial(_check_folder_of_store, settings)
    if (files := tls_files(settings)) is not None:
        checks["tls_certificate"] = partial(check_files, files)
    if settings.master_key is not None or settings.master_key_file is not None:
        checks["master_key_file"] = partial(open_sealer, settings)
    elif settings.other_master_key_file is not None:
        checks["other_master_key_file"] = settings.read_other_master_key
    if settings.issuer_ca_file is not None or settings.jwks_servers:
        checks["issuer_ca_file"] = partial(open_key_servers, settings)
    if settings.principals_file is not None:
        checks["principals_file"] = partial(_check_principals, settings)
    if settings.ext_authz_descriptors is not None:
        checks["ext_authz_descriptors"] = partial(read_requirements, settings.ext_authz_descriptors)
    return checks


def check_all_files(settings: Settings) -> None:
    """Raise ConfigurationError if a file that the settings name cannot be used; it has a line for each."""
    problems = []
    for check in file_checks(settings).values():
        try:
            check()
        except ConfigurationError as error:
            problems.append(str(error))
    if problems:
        raise ConfigurationError("\n".join(problems))


def _check_folder_of_store(settings: Settings) -> None:
    file = store_file(settings)
    if file is not None and not file.parent.is_dir():
        raise ConfigurationError(
            f"store: there is no folder {file.parent.resolve()}; create it, or set `store` (IDENTITY_STORE)"
        )


def _check_principals(settings: Settings) -> None:
    # Imported here, since YAML and the schema take megabytes that other commands do not need.
    from identity_service.principals.file import read_principals

    path = settings.principals_file
    if path is None:
        return
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"principals_file: cannot read {path}: {error.strerror}") from error
    read_principals(content, str(path), StrictKeyChecker(), own=settings.issuer_names)
