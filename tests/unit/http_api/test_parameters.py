"""The parameters in the OpenAPI description, sent twice, too long, or unknown."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from identity_service.http_api import paths
from identity_service.http_api.openapi.description import describe
from tests.unit.http_api.oauth_site import ISSUER, Site

MAY_BE_REPEATED = {"audience", "resource"}


class Form(NamedTuple):
    """The form of an endpoint, as the OpenAPI description has it."""

    path: str
    schema: Mapping[str, Any]

    def filled(self) -> dict[str, str]:
        """Return values for the required parameters, and the credentials of a client."""
        required = self.schema["required"]
        return {"client_id": "reports"} | {name: _some(self.schema["properties"][name]) for name in required}


class Parameter(NamedTuple):
    """A parameter of a form, as the OpenAPI description has it."""

    form: Form
    name: str

    @property
    def limit(self) -> int | None:
        found: int | None = self.form.schema["properties"][self.name].get("maxLength")
        return found


def _some(schema: Mapping[str, Any]) -> str:
    return str(schema.get("const") or schema.get("enum", ["x"])[0])


def _forms() -> Iterator[Form]:
    described: Any = describe(ISSUER)
    schemas = described["components"]["schemas"]
    for path in (paths.TOKEN, paths.INTROSPECT, paths.REVOKE):
        content = described["paths"][path]["post"]["requestBody"]["content"]
        name = content["application/x-www-form-urlencoded"]["schema"]["$ref"].rpartition("/")[2]
        yield from (Form(path, schema) for schema in schemas[name].get("oneOf", [schemas[name]]))


FORMS = list(_forms())
PARAMETERS = [Parameter(form, name) for form in FORMS for name in form.schema["properties"]]


def named(value: Form | Parameter) -> str:
    form = value if isinstance(value, Form) else value.form
    return "-".join(filter(None, (form.path, form.schema.get("title"), getattr(value, "name", ""))))


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.name not in MAY_BE_REPEATED], ids=named)
def test_a_parameter_that_is_repeated_is_refused(site: Site, parameter: Parameter) -> None:
    form, value = parameter.form.filled(), _some(parameter.form.schema["properties"][parameter.name])
    repeated = [*(form | {parameter.name: value}).items(), (parameter.name, value)]

    answer = site.post(parameter.form.path, repeated)

    assert (answer.status, answer.error) == (400, "invalid_request")
    assert "more than once" in answer.json["error_description"]


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.limit is not None], ids=named)
def test_a_value_that_is_too_long_is_refused_and_one_that_is_as_long_as_it_may_be_is_read(
    site: Site, parameter: Parameter
) -> None:
    def answer_to(length: int) -> Any:
        form = parameter.form.filled() | {parameter.name: length * "a"}
        properties = parameter.form.schema["properties"]
        if (type_ := f"{parameter.name}_type") in properties:
            form[type_] = _some(properties[type_])
        if parameter.name == "actor_token":  # it is read after the credential of the client
            form["client_secret"] = "x"
        return site.post(parameter.form.path, form).json

    assert parameter.limit is not None
    refused = {
        "error": "invalid_request",
        "error_description": f"the parameter {parameter.name} must have at most {parameter.limit} characters",
    }
    assert answer_to(parameter.limit + 1) == refused
    assert answer_to(parameter.limit) != refused


@pytest.mark.parametrize("form", FORMS, ids=named)
def test_an_unknown_parameter_changes_no_answer(site: Site, form: Form) -> None:
    known = form.filled()
    unknown = {
        "code": "x",
        "redirect_uri": "https://evil.example",
        "": "x",
        "é": "\r\n",
        "Client_Secret": "x",
    }

    with_unknown, without = site.post(form.path, known | unknown), site.post(form.path, known)

    assert (with_unknown.status, with_unknown.json) == (without.status, without.json)


@pytest.mark.parametrize("form", FORMS, ids=named)
def test_an_unknown_parameter_that_is_repeated_is_refused(site: Site, form: Form) -> None:
    body = urlencode([*form.filled().items(), ("unknown", "a"), ("unknown", "a")]).encode()

    assert site.post(form.path, body).error == "invalid_request"
